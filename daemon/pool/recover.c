// SPDX-License-Identifier: MIT
/*
 * A pool from what a killed daemon left. Truth is the ledger: header, LIVE extents, members, holds, names, results, backed bits.
 * First what was under way is taken back (ledger_open()), then everything else is built from the truth, each record judged
 * before it is used; at the end nothing overlaps, nobody unknown owns anything, and what is granted is backed.
 *
 * Two objects. A growth lengthens the data segment first, may back the new part, and is committed last: a kill in between leaves
 * it longer than the books say, with bits beyond their end. It is never shorter, but for a client that cut it. A page is there
 * without its bit, never the other way around, but for a client that punched it. All are mended here: the books are right.
 *
 * A kill at any point of this leaves the truth as it was: what is stored meanwhile is derived, or the same each time.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/pool_internal.h"
#include "pool/warm.h"

struct recovery {
	struct pool *pool;
	const char *name;	     /* of the ledger's object */
	struct ledger_header header; /* a copy, before anything was taken back */
	struct segment books;
	bool is_study; /* of private copies; there is no data segment */
	struct warm warm;
	int lease_fd; /* the lease segment's copy; -1: none; owned until it is the pool's */
	char *why;
	size_t n_why;
};

static PRINTF(3, 4) int refuse(struct recovery *recovery, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(recovery->why, recovery->n_why, format, args);
	va_end(args);
	return r;
}

/* What is wrong with this pool must not keep the others from coming up; what is wrong with the daemon does. */
static int trouble(int r)
{
	return r == -EMFILE || r == -ENFILE || r == -ENOMEM ? r : POOL_E_DAMAGED;
}

static const char *why_not(int error)
{
	if (error == -EPERM)
		return "it is not as this daemon makes its objects: a plain file of its own user, with mode 0600 and "
		       "one link";
	return strerrordesc_np(-error);
}

void books_say_why(int r, const struct ledger_header *header, const char *name, char *why, size_t n_why)
{
	switch (r) {
	case LEDGER_E_FOREIGN:
		snprintf(why, n_why, "%s is not a ledger", name);
		break;
	case LEDGER_E_VERSION:
		snprintf(why, n_why,
			 "its ledger has format %u, and this program knows %u: start the daemon that wrote it",
			 header->version, LEDGER_VERSION);
		break;
	case LEDGER_E_DAMAGED:
		snprintf(why, n_why, "the header of its ledger says what cannot be");
		break;
	case LEDGER_E_HOLES:
		snprintf(why, n_why,
			 "pages of its ledger are not there: somebody punched holes into it, or put back a copy that "
			 "has holes where zeros were");
		break;
	case -ENOSPC:
		snprintf(why, n_why, "there is no memory for its ledger's pages");
		break;
	default:
		snprintf(why, n_why, "its ledger cannot be opened: %s", why_not(r));
	}
}

static int refuse_ledger(struct recovery *recovery, int r)
{
	books_say_why(r, &recovery->header, recovery->name, recovery->why, recovery->n_why);
	return r > 0 ? POOL_E_DAMAGED : r == -ENOSPC ? POOL_E_UNBACKED : trouble(r);
}

/* ---- header and objects ---- */

static int read_header(struct recovery *recovery, struct pool_options *options)
{
	const struct ledger_header *header = &recovery->header;
	uint64_t total;
	int r;

	r = ledger_peek(recovery->books.fd, &recovery->header);
	if (r)
		return refuse_ledger(recovery, r);
	total = atomic_load(&header->total_bytes);
	*options = (struct pool_options){
		.n_name_bytes = header->n_name_bytes,
		.size = total,
		.max_size = header->max_bytes,
		.uid = header->uid,
		.gid = header->gid,
		.mode = header->mode,
		.lifetime = header->lifetime,
		.fill = header->fill,
		.lease = header->lease,
		.guard = header->guard,
		.reserve = header->reserve,
	};
	if (header->kind != LEDGER_POOL || !header->pool_id || header->n_name_bytes > NAME_BYTES_MAX ||
	    (header->n_name_bytes && !name_is_valid(header->name, header->n_name_bytes)) || header->mode > 0777 ||
	    header->lifetime > 1 || header->fill > 2 || header->lease > 1 || header->guard > 1 || header->reserve > 1 ||
	    total % EXTENT_GRANULE || header->max_bytes % EXTENT_GRANULE)
		return refuse_ledger(recovery, LEDGER_E_DAMAGED);
	memcpy(options->name, header->name, header->n_name_bytes);
	return 0;
}

static int open_ledger(struct recovery *recovery)
{
	struct pool *pool = recovery->pool;
	const struct ledger_shape shape = pool_shape(pool->options.max_size);
	int r;

	r = ledger_open(&pool->ledger, recovery->books.fd, &shape);
	if (r)
		return refuse_ledger(recovery, r);
	pool->books = recovery->books;
	pool->books.fd = -1; /* the ledger's now */
	recovery->books.fd = -1;
	warm_begin(&recovery->warm, &pool->ledger);
	pool->created_s = pool->ledger.header->created_s;
	pool->free_total = pool->ledger.header->free_total; /* before the first commit stores ours */
	pool->failed_total = pool->ledger.header->failed_total;
	pool->peak_used = pool->ledger.header->peak_used;
	pool->lease.alloc_total = pool->ledger.header->slot_alloc_total;
	pool->lease.free_total = pool->ledger.header->slot_free_total;
	return 0;
}

static int open_objects(struct recovery *recovery)
{
	struct pool *pool = recovery->pool;
	char name[sizeof(recovery->header.data_object) + 1] = "";
	int r;

	if (recovery->is_study)
		return open_ledger(recovery);
	memcpy(name, recovery->header.data_object, sizeof(recovery->header.data_object));
	if (!strcmp(name, recovery->books.name)) /* clients write to the one, and never to the other */
		return refuse_ledger(recovery, LEDGER_E_DAMAGED);
	r = segment_open(&pool->data, pool->env->instance, name);
	if (r)
		return refuse(recovery, trouble(r), "its data segment %s cannot be opened: %s", name, why_not(r));
	return open_ledger(recovery);
}

static int recover_backing(struct recovery *recovery)
{
	struct pool *pool = recovery->pool;
	uint64_t total = pool->ledger.header->total_bytes;
	uint32_t unit_bytes = backing_unit_bytes(pool_segment_bytes_for(pool->options.max_size));
	int r;

	if (!total || total % EXTENT_GRANULE || total > pool->options.max_size ||
	    pool->ledger.header->unit_bytes != unit_bytes)
		return refuse_ledger(recovery, LEDGER_E_DAMAGED);
	pool->options.size = total;
	r = backing_recover(&pool->backing, &pool->ledger, pool->env->budget, pool->data.fd, unit_bytes,
			    pool_segment_bytes_for(total));
	if (r == BACKING_E_EXHAUSTED)
		return refuse(recovery, POOL_E_UNBACKED,
			      "pages of its data segment were taken away, and there is no memory for others");
	if (r == -ENOSPC)
		return refuse(recovery, POOL_E_DAMAGED, "its books of pages cannot be right");
	return r ? refuse(recovery, trouble(r), "its data segment: %s", strerrordesc_np(-r)) : 0;
}

/* ---- blocks ---- */

static int take_block(void *arg, uint32_t extent)
{
	struct recovery *recovery = arg;
	struct pool *pool = recovery->pool;
	uint32_t owner = extent_owner(&pool->map, extent);
	uint64_t offset = extent_offset(&pool->map, extent), size = extent_size(&pool->map, extent);
	bool is_slab = extent_state(&pool->map, extent) == EXTENT_LEASED;
	struct pool_holding *holding;

	if (owner < POOL_OWNER && (owner >= pool->n_members_alloced || !pool->members[owner]))
		return refuse(recovery, POOL_E_DAMAGED, "block at 0x%llx: its owner %u is nobody that is here",
			      (unsigned long long)offset, owner);
	if (backing_missing(&pool->backing, offset, size, 1))
		return refuse(recovery, POOL_E_DAMAGED, "block at 0x%llx: granted, but not backed",
			      (unsigned long long)offset);
	if (is_slab) {
		extent_map_hang(&pool->map, extent, slab_holding(pool, owner));
		return 0;
	}
	if (size <= 2 * pool->guard_bytes || (extent_state(&pool->map, extent) != EXTENT_PINNED &&
					      extent_slack(&pool->map, extent) < 2 * pool->guard_bytes))
		return refuse(recovery, POOL_E_DAMAGED, "block at 0x%llx: smaller than its guards",
			      (unsigned long long)offset);
	holding = holding_of(pool, owner);
	extent_map_hang(&pool->map, extent, &holding->list);
	if (holding->oldest == EXTENT_NONE) /* they come by age */
		holding->oldest = extent;
	return 0;
}

static int recover_map(struct recovery *recovery)
{
	struct pool *pool = recovery->pool;
	int r;

	r = extent_map_recover(&pool->map, &pool->ledger, POOL_FIRST, pool->options.size, now_s(), take_block, recovery,
			       recovery->why, recovery->n_why);
	if (r == -ENOSPC)
		return refuse(recovery, POOL_E_UNBACKED, "there is no memory for its ledger to grow");
	if (r == -ENOMEM)
		return refuse(recovery, r, "there is no memory to recover it with");
	return r == EXTENT_E_DAMAGED ? POOL_E_DAMAGED : r;
}

static int refuse_leases(struct recovery *recovery, int r)
{
	switch (r) {
	case 0:
		return 0;
	case POOL_E_DAMAGED:
		return refuse(recovery, r, "its books of slabs and heaps cannot be right");
	case POOL_E_UNBACKED:
	case -ENOSPC:
		return refuse(recovery, POOL_E_UNBACKED, "there is no memory for its lease segment's pages");
	default:
		return refuse(recovery, r, "its lease segment: %s", strerrordesc_np(-r));
	}
}

static int recover_leases(struct recovery *recovery)
{
	struct pool *pool = recovery->pool;
	struct ledger_header *header = pool->ledger.header;
	char name[sizeof(header->lease_object) + 1] = "";
	int r = 0;

	memcpy(name, header->lease_object, sizeof(header->lease_object));
	if (lease_is_wanted(pool) && recovery->is_study) {
		r = lease_open_copy(pool, recovery->lease_fd);
		recovery->lease_fd = -1;
	} else if (lease_is_wanted(pool)) {
		r = lease_open(pool, name);
	}
	if (!r && pool->lease.is_on && strcmp(name, pool->lease.object.name))
		memcpy(header->lease_object, pool->lease.object.name, sizeof(header->lease_object));
	if (!r)
		r = lease_recover(pool);
	return refuse_leases(recovery, r);
}

/* Blocks that are nobody's are there because somebody retains them. */
static bool nobodys_are_held(const struct pool *pool)
{
	for (uint32_t e = pool->nobody.list.head; e != EXTENT_NONE; e = extent_links(&pool->map, e)->owner_next)
		if (!(extent_flags(&pool->map, e) & EXTENT_HELD))
			return false;
	return true;
}

static int recover_rest(struct recovery *recovery)
{
	struct pool *pool = recovery->pool;

	if (!hold_recover(pool))
		return refuse(recovery, POOL_E_DAMAGED, "its books of retains cannot be right");
	if (!block_name_recover(pool))
		return refuse(recovery, POOL_E_DAMAGED, "its books of names cannot be right");
	if (!nobodys_are_held(pool))
		return refuse(recovery, POOL_E_DAMAGED, "a block is nobody's, and nobody retains it");
	if (!result_recover(pool))
		return refuse(recovery, POOL_E_DAMAGED, "its books of answers cannot be right");
	return 0;
}

/* What the lists count: a list at a time, for a block at a time would be a tenth of all. */
static void charge_all(struct pool *pool)
{
	for (struct pool_member *m = pool->first; m; m = m->next) {
		charge_blocks_always(pool, m->account, m->blocks.list.n_blocks, m->blocks.list.n_bytes);
		charge_blocks_always(pool, m->account, m->slabs.n_blocks, m->slabs.n_bytes);
	}
	charge_blocks_always(pool, pool->account, pool->orphan_slabs.n_blocks, pool->orphan_slabs.n_bytes);
	charge_blocks_always(pool, pool->account, pool->own.list.n_blocks, pool->own.list.n_bytes);
	charge_blocks_always(pool, pool->account, pool->nobody.list.n_blocks, pool->nobody.list.n_bytes);
}

static bool is_about_block(const struct pool_recent *recent)
{
	return !recent->outcome && recent->what >= RECENT_ALLOC && recent->what <= RECENT_TAKE;
}

/*
 * What the black box names was a block once. Its ring is no truth: an operation that was taken back may be in it. But a block that
 * is live is found before anybody looks here, and an offset that is none is free.
 */
static void recall_freed(struct pool *pool)
{
	struct pool_recent page[64];
	uint64_t after = 0;
	uint32_t n;

	while ((n = recent_list(&pool->ledger, after, page, N_ELEMENTS(page)))) {
		for (uint32_t i = 0; i < n; i++)
			if (is_about_block(&page[i]))
				block_remember_freed(pool, page[i].offset);
		after = page[n - 1].number;
	}
}

static void recover_figures(struct pool *pool)
{
	uint32_t largest;

	charge_all(pool);
	lease_recover_slots(pool); /* gives back what was charged for a pin that went no further */
	pool->alloc_total = pool->free_total + pool->map.n_live;
	note_peak(pool);
	if (pool->options.reserve)
		quota_charge_always(pool->account, QUOTA_BYTES, pool->map.total_bytes);
	if (extent_map_largest_gaps(&pool->map, &largest, 1)) /* if any is large enough to give pages back, it is */
		decay_note(pool, largest);
}

/* ---- all of it ---- */

/* As if it had never been looked at. */
static void let_go(struct pool *pool)
{
	pool->books.name[0] = pool->data.name[0] = pool->lease.object.name[0] = '\0'; /* so that they are not removed */
	while (pool->first) {
		struct pool_member *member = pool->first;

		pool->first = member->next;
		free(member);
	}
	pool_close(pool);
}

static int recover(struct recovery *recovery)
{
	struct pool *pool = recovery->pool;
	int r;

	r = open_objects(recovery);
	if (!r)
		r = recover_backing(recovery);
	if (r)
		return r;
	r = member_recover(pool);
	if (r == POOL_E_DAMAGED)
		return refuse(recovery, r, "its books of sessions cannot be right");
	if (r)
		return refuse(recovery, r, "there is no memory to recover it with");
	r = recover_map(recovery);
	if (!r)
		r = recover_leases(recovery);
	return r ? r : recover_rest(recovery);
}

/* From the books that are open: they are consumed if 0 is returned. */
static int recover_open(struct recovery *recovery, const struct pool_env *env)
{
	struct pool_options options;
	int r;

	r = read_header(recovery, &options);
	if (r)
		return r;
	recovery->pool = calloc(1, sizeof(*recovery->pool));
	if (!recovery->pool)
		return refuse(recovery, -ENOMEM, "there is no memory to recover it with");
	r = pool_init(recovery->pool, env, recovery->header.pool_id, &options);
	if (r) {
		free(recovery->pool);
		return r == POOL_E_INVALID ? refuse_ledger(recovery, LEDGER_E_DAMAGED)
					   : refuse(recovery, r, "there is no memory to recover it with");
	}
	r = recover(recovery);
	warm_end(&recovery->warm);
	if (r) {
		let_go(recovery->pool);
		return r;
	}
	recover_figures(recovery->pool);
	recall_freed(recovery->pool);
	return 0;
}

int pool_recover(struct pool **poolp, const struct pool_env *env, const char *name, char *why, size_t n_why)
{
	struct recovery recovery = {.name = name, .why = why, .n_why = n_why, .books = SEGMENT_NULL};
	int r;

	r = segment_open(&recovery.books, env->instance, name);
	if (r)
		return refuse(&recovery, trouble(r), "its ledger %s cannot be opened: %s", name, why_not(r));
	r = recover_open(&recovery, env);
	segment_deinit(&recovery.books);
	if (r)
		return r;
	recent_add(recovery.pool, NULL, RECENT_RECOVER, 0, 0, used_bytes(recovery.pool));
	pool_commit(recovery.pool);
	*poolp = recovery.pool;
	return 0;
}

int pool_study(struct pool **poolp, const struct pool_env *env, int fd, int lease_fd, char *why, size_t n_why)
{
	struct recovery recovery = {.name = "its object",
				    .why = why,
				    .n_why = n_why,
				    .books = SEGMENT_NULL,
				    .is_study = true,
				    .lease_fd = lease_fd};
	int r;

	recovery.books.fd = fd;
	r = recover_open(&recovery, env);
	segment_deinit(&recovery.books); /* on failure */
	if (recovery.lease_fd >= 0)
		close(recovery.lease_fd);
	if (!r)
		*poolp = recovery.pool;
	return r;
}

struct pool *pool_keep(struct pool *pool)
{
	assert(!pool->is_destroyed);
	let_go(pool);
	return NULL;
}

const char *pool_data_name(const struct pool *pool)
{
	return pool->data.name;
}

const char *pool_lease_name(const struct pool *pool)
{
	return pool->lease.object.name;
}

const char *pool_books_name(const struct pool *pool)
{
	return pool->books.name;
}
