// SPDX-License-Identifier: MIT
/* Verifying a pool: the daemon its books, this process the canaries that it can see. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "client/extents.h"

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

static int check_guards(struct mempool_pool *pool, FILE *report)
{
	struct extents extents = {.pool = pool};
	int r, n_faults = 0;

	while ((r = extents_page(&extents, "check")) > 0) {
		for (size_t i = 0; i < extents.page->n_extents; i++) {
			const Mempool__Wire__Extent *extent = extents.page->extents[i];

			if (extent->state != MEMPOOL__WIRE__EXTENT_STATE__EXTENT_ALLOCATED ||
			    extent->requested >= extent->size || /* being allocated, or cut by a page's border */
			    !guard_check(pool, extent->block, extent->requested, extent->owner))
				continue;
			n_faults++;
			if (report)
				fprintf(report, "0x%" PRIx64 " %s\n", extent->block, mempool_last_error());
		}
	}
	return r < 0 ? r : n_faults;
}

int mempool_pool_check(struct mempool_pool *pool, FILE *report)
{
	int n_books, n_guards = 0;

	if (pool_check_handle(pool, "check"))
		return -EINVAL;
	n_books = check_books(pool, report);
	if (n_books < 0)
		return n_books;
	if (pool->guard)
		n_guards = check_guards(pool, report);
	return n_guards < 0 ? n_guards : n_books + n_guards;
}
