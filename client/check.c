// SPDX-License-Identifier: MIT
/* Verifying a pool: the daemon its books, this process the canaries that it can see. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "client/extents.h"
#include "client/guard.h"

#define N_LOOKS 20 /* simply picked */

static int check_books(struct mempool_pool *pool, FILE *report)
{
	Mempool__Wire__Check check = MEMPOOL__WIRE__CHECK__INIT;
	struct call call;
	int r, n_faults;
	REQUEST(request, CHECK, check, check);

	SET(check, pool, pool->id);
	r = client_call(pool->client, &request, pool->id, "check", &call);
	if (r)
		return r;
	if (call.reply->result_case != MEMPOOL__WIRE__REPLY__RESULT_CHECK) {
		call_deinit(&call);
		return error_set(-EPROTO, "check of %s: the daemon answered without a result", pool->label);
	}
	n_faults = (int)call.reply->check->n_faults + (call.reply->check->more ? 1 : 0);
	for (size_t i = 0; report && i < call.reply->check->n_faults; i++)
		fprintf(report, "0x%" PRIx64 " %s\n", call.reply->check->faults[i]->offset,
			call.reply->check->faults[i]->what ? call.reply->check->faults[i]->what : "");
	if (report && call.reply->check->more)
		fprintf(report, "0x0 and more faults than are listed\n");
	call_deinit(&call);
	return n_faults;
}

/*
 * Others are at work meanwhile. A block that was granted or resized by request has its canaries only when its client has painted
 * them: so what looks wrong is looked at again, with a request in between, a few times. Return: faults
 */
static int check_block(struct mempool_pool *pool, uint64_t offset, uint64_t most, uint64_t owner, FILE *report)
{
	Mempool__Wire__Block block = MEMPOOL__WIRE__BLOCK__INIT;

	block.size = most;
	for (unsigned i = 0; i < N_LOOKS; i++)
		if (!guard_find(pool, offset, block.size) || block_inspect(pool, offset, &block))
			return 0;
	if (!guard_check(pool, offset, block.size, owner))
		return 0;
	if (report)
		fprintf(report, "0x%" PRIx64 " %s\n", offset, mempool_last_error());
	return 1;
}

static int check_slots(struct mempool_pool *pool, const Mempool__Wire__Extent *slab, FILE *report)
{
	int n_faults = 0;

	for (size_t i = 0; i < slab->n_live_slots && slab->slot_size > 2 * GUARD_BYTES; i++)
		n_faults += check_block(pool, slab->live_slots[i]->offset, slab->slot_size - 2 * GUARD_BYTES,
					slab->live_slots[i]->owner, report);
	return n_faults;
}

static int check_guards(struct mempool_pool *pool, FILE *report)
{
	struct extents extents = {.pool = pool, .with_slots = true};
	int r, n_faults = 0;

	while ((r = extents_page(&extents, "check")) > 0) {
		for (size_t i = 0; i < extents.page->n_extents; i++) {
			const Mempool__Wire__Extent *extent = extents.page->extents[i];

			if (extent->state == MEMPOOL__WIRE__EXTENT_STATE__EXTENT_LEASED)
				n_faults += check_slots(pool, extent, report);
			else if (extent->state == MEMPOOL__WIRE__EXTENT_STATE__EXTENT_ALLOCATED &&
				 extent->requested < extent->size) /* else being allocated, or cut by a page's border */
				n_faults += check_block(pool, extent->block, extent->requested, extent->owner, report);
		}
	}
	return r < 0 ? r : n_faults;
}

int mempool_pool_check(struct mempool_pool *pool, FILE *report)
{
	int n_books, n_guards = 0;
	POOL_CALL(pool);

	if (pool_check_handle(pool, "check"))
		return -EINVAL;
	n_books = check_books(pool, report);
	if (n_books < 0)
		return n_books;
	if (pool->guard)
		n_guards = check_guards(pool, report);
	return n_guards < 0 ? n_guards : n_books + n_guards;
}
