// SPDX-License-Identifier: MIT
/*
 * A pool's life: made whole or not at all, grown, destroyed, and gone with its last reference.
 *
 * Destroying is a state and then steps that may be done again: is_destroyed first, after which no call changes anything;
 * charges; the names of the segments, the ledger's last. What is charged at that moment stands in the counters of its
 * owners' lists, so that no block need be visited. A call that is backing pages without the mutex at that moment finds
 * out when it comes back, and undoes its own.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/pool_internal.h"

#define PAGE	    4096u
#define WAIT_MAX_NS 1000000u /* most that a worker in steps stands back: a waiter has been woken long before */

static_assert(POOL_FIRST == BACKING_FIRST, "the first page is nobody's, and never backed");
static_assert(POOL_FIRST % PAGE == 0 && POOL_GUARD_BYTES % EXTENT_GRANULE == 0, "blocks begin at granules");

/* ---- the mutex ---- */

static void mark_locked(struct pool *pool)
{
	atomic_store_explicit(&pool->locked_by, pthread_self(), memory_order_relaxed);
}

void pool_lock(struct pool *pool)
{
	if (pthread_mutex_trylock(&pool->mutex)) {
		atomic_fetch_add_explicit(&pool->n_waiting, 1, memory_order_relaxed);
		pthread_mutex_lock(&pool->mutex);
		atomic_fetch_sub_explicit(&pool->n_waiting, 1, memory_order_relaxed);
	}
	mark_locked(pool);
}

void pool_unlock(struct pool *pool)
{
	assert(pool_is_locked(pool));
	pool_commit(pool); /* what happened under one hold of the mutex happened whole */
	atomic_store_explicit(&pool->locked_by, (pthread_t)0, memory_order_relaxed);
	pthread_mutex_unlock(&pool->mutex);
}

/* A mutex goes to whoever is there, and a thread that was just woken is not: without this a worker would always win. */
void pool_lock_after_others(struct pool *pool)
{
	uint64_t end_ns;

	if (atomic_load_explicit(&pool->n_waiting, memory_order_relaxed)) {
		end_ns = clock_ns(CLOCK_MONOTONIC) + WAIT_MAX_NS;
		while (atomic_load_explicit(&pool->n_waiting, memory_order_relaxed) &&
		       clock_ns(CLOCK_MONOTONIC) < end_ns)
			sched_yield();
	}
	pool_lock(pool);
}

/* ---- records ---- */

int record_reserve(struct pool *pool, const struct record_pool *records)
{
	return records->unused != POOL_NONE ? 0 : ledger_reserve(&pool->ledger, records->table, records->n_high + 1);
}

int record_reserve_n(struct pool *pool, const struct record_pool *records, uint32_t n)
{
	uint32_t n_unused = records->n_high - records->n;

	return n <= n_unused ? 0 : ledger_reserve(&pool->ledger, records->table, records->n_high + n - n_unused);
}

static uint32_t *record_link(const struct pool *pool, const struct record_pool *records, uint32_t index)
{
	void *link = (uint8_t *)ledger_at(&pool->ledger, records->table, index) + records->link_at;

	return link;
}

uint32_t record_take(struct pool *pool, struct record_pool *records)
{
	uint32_t index = records->unused;

	if (index == POOL_NONE)
		index = records->n_high++;
	else
		records->unused = *record_link(pool, records, index);
	records->n++;
	return index;
}

void record_give(struct pool *pool, struct record_pool *records, uint32_t index)
{
	*record_link(pool, records, index) = records->unused;
	records->unused = index;
	records->n--;
}

static struct record_pool record_pool_of(enum ledger_table_id table, size_t link_at)
{
	return (struct record_pool){.table = table, .link_at = (uint32_t)link_at, .unused = POOL_NONE};
}

/* ---- making ---- */

static uint64_t least_of(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t segment_bytes_of(uint64_t total)
{
	return POOL_FIRST + round_up(total, PAGE);
}

/* Options as they will be kept: sizes checked, and in whole granules. */
static int take_options(struct pool_options *to, const struct pool_options *from)
{
	*to = *from;
	if (!to->max_size)
		to->max_size = to->size;
	if (!to->size || to->max_size < to->size || to->max_size > EXTENT_BYTES_MAX - POOL_FIRST - PAGE ||
	    to->n_name_bytes > NAME_BYTES_MAX)
		return POOL_E_INVALID;
	to->size = round_up(to->size, EXTENT_GRANULE);
	to->max_size = round_up(to->max_size, EXTENT_GRANULE);
	return 0;
}

static struct ledger_shape books_shape(uint64_t max_bytes, uint64_t segment_bytes_max, uint32_t unit_bytes)
{
	uint64_t n_blocks_max = max_bytes / EXTENT_GRANULE;
	struct ledger_shape shape = {
		.elem_bytes = {[LEDGER_MEMBERS] = sizeof(struct member_record),
			       [LEDGER_HOLDS] = sizeof(struct hold_record),
			       [LEDGER_NAMES] = sizeof(struct name_record),
			       [LEDGER_BACKED] = sizeof(uint64_t),
			       [LEDGER_RESULTS] = sizeof(struct result_ring),
			       [LEDGER_BATCHES] = sizeof(struct batch_record),
			       [LEDGER_RECENT] = sizeof(struct recent_record)},
		.n_max = {[LEDGER_MEMBERS] = POOL_MEMBERS_MAX,
			  [LEDGER_HOLDS] = (uint32_t)least_of(n_blocks_max * POOL_MEMBERS_MAX, POOL_HOLDS_MAX),
			  [LEDGER_NAMES] = (uint32_t)least_of(n_blocks_max, POOL_NAMES_MAX),
			  [LEDGER_BACKED] = backing_n_words(segment_bytes_max, unit_bytes),
			  [LEDGER_RESULTS] = POOL_MEMBERS_MAX,
			  [LEDGER_BATCHES] = POOL_BATCHES_MAX,
			  [LEDGER_RECENT] = RECENT_N},
	};

	extent_map_shape(&shape, max_bytes);
	return shape;
}

static void fill_header(struct pool *pool, uint32_t unit_bytes)
{
	const struct pool_options *options = &pool->options;
	struct ledger_header *header = pool->ledger.header;

	header->kind = LEDGER_POOL;
	header->pool_id = pool->id;
	header->total_bytes = options->size;
	header->max_bytes = options->max_size;
	header->created_s = pool->created_s;
	header->uid = options->uid;
	header->gid = options->gid;
	header->mode = options->mode;
	header->lifetime = options->lifetime;
	header->fill = options->fill;
	header->lease = options->lease;
	header->guard = options->guard;
	header->reserve = options->reserve;
	header->unit_bytes = unit_bytes;
	header->n_name_bytes = options->n_name_bytes;
	memcpy(header->name, options->name, options->n_name_bytes);
	memcpy(header->data_object, pool->data.name, sizeof(header->data_object));
}

static int make_books(struct pool *pool)
{
	uint64_t max_bytes = pool->options.max_size, segment_bytes = segment_bytes_of(max_bytes);
	uint32_t unit_bytes = backing_unit_bytes(segment_bytes);
	struct ledger_shape shape = books_shape(max_bytes, segment_bytes, unit_bytes);
	int r;

	r = ledger_init(&pool->ledger, pool->books.fd, &shape);
	if (r)
		return r;
	pool->books.fd = -1; /* the ledger's now */
	fill_header(pool, unit_bytes);
	r = ledger_reserve(&pool->ledger, LEDGER_BACKED, shape.n_max[LEDGER_BACKED]);
	if (!r)
		r = backing_init(&pool->backing, &pool->ledger, pool->env->budget, pool->data.fd, unit_bytes,
				 segment_bytes_of(pool->options.size));
	if (!r)
		r = extent_map_init(&pool->map, &pool->ledger, POOL_FIRST, pool->options.size);
	return r;
}

static int back_whole(struct pool *pool)
{
	int r = backing_ensure(&pool->backing, POOL_FIRST, pool->options.size);

	return r == BACKING_E_EXHAUSTED ? POOL_E_UNBACKED : r;
}

static int make_segments(struct pool *pool)
{
	int r;

	r = segment_create(&pool->data, pool->env->instance);
	if (!r && ftruncate(pool->data.fd, (off_t)segment_bytes_of(pool->options.size)))
		r = -errno;
	if (!r)
		r = segment_create(&pool->books, pool->env->instance);
	if (!r)
		r = make_books(pool);
	if (!r && pool->options.reserve)
		r = back_whole(pool);
	return r;
}

static int make_locks(struct pool *pool)
{
	pthread_rwlockattr_t attr;
	int r;

	r = -pthread_rwlockattr_init(&attr);
	if (r)
		return r;
	/* growth waits for those who back pages, and not for those who will */
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	r = -pthread_rwlock_init(&pool->length_lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	if (r)
		return r;
	r = -pthread_mutex_init(&pool->mutex, NULL);
	if (r)
		pthread_rwlock_destroy(&pool->length_lock);
	return r;
}

static struct pool_holding holding_null(void)
{
	return (struct pool_holding){.list.head = EXTENT_NONE, .oldest = EXTENT_NONE};
}

static int pool_init(struct pool *pool, const struct pool_env *env, uint64_t id, const struct pool_options *options)
{
	int r = take_options(&pool->options, options);

	if (r)
		return r;
	pool->env = env;
	pool->id = id;
	pool->created_s = (uint64_t)time(NULL);
	pool->guard_bytes = options->guard ? POOL_GUARD_BYTES : 0;
	pool->data = pool->books = (struct segment)SEGMENT_NULL;
	pool->ledger = (struct ledger)LEDGER_NULL;
	pool->own = pool->nobody = holding_null();
	pool->name_root = POOL_NONE;
	pool->member_records = record_pool_of(LEDGER_MEMBERS, offsetof(struct member_record, unused_next));
	pool->holds = record_pool_of(LEDGER_HOLDS, offsetof(struct hold_record, block_next));
	pool->names = record_pool_of(LEDGER_NAMES, offsetof(struct name_record, child));
	pool->batches = record_pool_of(LEDGER_BATCHES, offsetof(struct batch_record, next));
	atomic_init(&pool->n_refs, 1);
	if (getrandom(&pool->name_seed, sizeof(pool->name_seed), 0) != (ssize_t)sizeof(pool->name_seed))
		return -EIO;
	pool->account = quota_account_of(env->quota, options->uid);
	if (!pool->account)
		return -ENOMEM;
	return make_locks(pool);
}

static void close_pool(struct pool *pool)
{
	assert(!pool->first);
	budget_give_back(pool->env->budget, atomic_load(&pool->backing.backed_bytes));
	segment_unlink(&pool->data);
	segment_unlink(&pool->books);
	ledger_deinit(&pool->ledger);
	segment_deinit(&pool->data);
	segment_deinit(&pool->books);
	pthread_mutex_destroy(&pool->mutex);
	pthread_rwlock_destroy(&pool->length_lock);
	free(pool->members);
	free(pool);
}

int pool_new(struct pool **poolp, const struct pool_env *env, uint64_t id, const struct pool_options *options)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	int r;

	if (!pool)
		return -ENOMEM;
	r = pool_init(pool, env, id, options);
	if (r) {
		free(pool);
		return r;
	}
	if (pool->options.reserve && quota_charge(pool->account, QUOTA_BYTES, pool->options.size)) {
		close_pool(pool);
		return POOL_E_QUOTA;
	}
	r = make_segments(pool);
	if (r) {
		if (pool->options.reserve)
			quota_give_back(pool->account, QUOTA_BYTES, pool->options.size);
		close_pool(pool);
		return r;
	}
	*poolp = pool;
	return 0;
}

struct pool *pool_ref(struct pool *pool)
{
	atomic_fetch_add_explicit(&pool->n_refs, 1, memory_order_relaxed); /* by one who has one already */
	return pool;
}

struct pool *pool_unref(struct pool *pool)
{
	struct pool_warning warning;
	int r;

	/* release: what this thread did is done before another frees; acquire: and seen by the one who does */
	if (!pool || atomic_fetch_sub_explicit(&pool->n_refs, 1, memory_order_acq_rel) > 1)
		return NULL;
	r = pool_destroy(pool, false, &warning);
	(void)r; /* it may be destroyed already, which is as well */
	close_pool(pool);
	return NULL;
}

/* ---- the end ---- */

/* What is charged is what the lists count; a reserved pool has paid for all its bytes at once. */
static void give_charges_back(struct pool *pool)
{
	for (struct pool_member *m = pool->first; m; m = m->next)
		uncharge_blocks(pool, m->account, m->blocks.list.n_blocks, m->blocks.list.n_bytes);
	uncharge_blocks(pool, pool->account, pool->own.list.n_blocks, pool->own.list.n_bytes);
	uncharge_blocks(pool, pool->account, pool->nobody.list.n_blocks, pool->nobody.list.n_bytes);
	if (pool->options.reserve)
		quota_give_back(pool->account, QUOTA_BYTES, pool->map.total_bytes);
}

static void fill_warning(struct pool *pool, struct pool_warning *warning)
{
	warning->n_blocks = pool->map.n_live;
	warning->n_bytes = pool->own.list.n_bytes + pool->nobody.list.n_bytes;
	for (struct pool_member *m = pool->first; m; m = m->next)
		warning->n_bytes += m->blocks.list.n_bytes;
	warning->n_holders = top_holders(pool, warning->holders, N_ELEMENTS(warning->holders));
}

int pool_destroy(struct pool *pool, bool if_empty, struct pool_warning *warning)
{
	int r = 0;

	pool_lock(pool);
	if (pool->is_destroyed)
		r = POOL_E_DESTROYED;
	else if (if_empty && pool->map.free_bytes != pool->map.total_bytes)
		r = POOL_E_NOT_EMPTY;
	if (!r) {
		*warning = (struct pool_warning){0};
		fill_warning(pool, warning);
		pool->is_destroyed = true;
		give_charges_back(pool);
		segment_unlink(&pool->data);
		segment_unlink(&pool->books);
	}
	pool_unlock(pool);
	return r;
}

/* ---- growth ---- */

/* The data segment is longer; nobody knows yet. Both locks are held. */
static int lengthen(struct pool *pool, uint64_t total)
{
	uint64_t segment_bytes = segment_bytes_of(total);

	/* a growth that failed may have left it longer than the pool is */
	if (segment_bytes <= pool->backing.segment_bytes)
		return 0;
	if (ftruncate(pool->data.fd, (off_t)segment_bytes))
		return -errno;
	return backing_grow(&pool->backing, segment_bytes);
}

/* In a reserved pool the new part is backed before anybody sees it. The length is held; the mutex is not, meanwhile. */
static int back_new_part(struct pool *pool, uint64_t old, uint64_t n_more)
{
	int r;

	pool_unlock(pool);
	r = backing_ensure(&pool->backing, POOL_FIRST + old, n_more);
	pool_lock(pool);
	return r ? r : pool->is_destroyed ? POOL_E_DESTROYED : 0;
}

static int grow(struct pool *pool, uint64_t total)
{
	uint64_t old = pool->map.total_bytes, n_more = total - old;
	uint32_t tail = pool->map.tail;
	bool reserve = pool->options.reserve;
	int r;

	if (reserve && quota_charge(pool->account, QUOTA_BYTES, n_more))
		return POOL_E_QUOTA;
	r = lengthen(pool, total);
	if (!r && reserve)
		r = back_new_part(pool, old, n_more);
	if (!r)
		r = extent_map_grow(&pool->map, n_more, now_s());
	if (!r)
		cursor_move(pool, tail, pool->map.tail);
	if (r && reserve) {
		quota_give_back(pool->account, QUOTA_BYTES, n_more);
		backing_punch(&pool->backing, POOL_FIRST + old, n_more, UINT64_MAX);
	}
	return r == BACKING_E_EXHAUSTED ? POOL_E_UNBACKED : r;
}

static int resize_locked(struct pool *pool, uint64_t total)
{
	int r = 0;

	if (pool->is_destroyed)
		return POOL_E_DESTROYED;
	if (total < pool->map.total_bytes)
		return POOL_E_SHRINK;
	if (total > pool->options.max_size)
		return POOL_E_ABOVE_MAX;
	if (total > pool->map.total_bytes)
		r = grow(pool, total);
	if (!r)
		intent_set(&pool->ledger, &pool->ledger.header->total_bytes, total);
	return r;
}

int pool_resize(struct pool *pool, struct pool_member *asker, uint64_t size, unsigned flags)
{
	const struct pool_block block = {.size = size};
	uint64_t total;
	int r;

	if (!round_up_checked(size, EXTENT_GRANULE, &total))
		return POOL_E_ABOVE_MAX;
	if (flags & POOL_MAY_BLOCK)
		pthread_rwlock_wrlock(&pool->length_lock);
	else if (pool->options.reserve || pthread_rwlock_trywrlock(&pool->length_lock))
		return POOL_E_SLOW;
	pool_lock(pool);
	if (!asker || !result_find(asker, &r, NULL)) {
		r = resize_locked(pool, total);
		if (asker)
			result_put(asker, RECENT_RESIZE, r, &block);
	}
	pool_unlock(pool);
	pthread_rwlock_unlock(&pool->length_lock);
	return r;
}

/* ---- what does not change ---- */

static bool is_in_group(const struct pool_identity *who, uint32_t gid)
{
	if (who->gid == gid)
		return true;
	for (uint32_t i = 0; i < who->n_groups; i++)
		if (who->groups[i] == gid)
			return true;
	return false;
}

/* As the kernel judges a file: one class alone counts, and the owner's comes first. */
bool pool_may_open(const struct pool *pool, const struct pool_identity *who)
{
	const struct pool_options *options = &pool->options;
	uint32_t shift = who->uid == options->uid ? 6 : is_in_group(who, options->gid) ? 3 : 0;

	return who->uid == 0 || (options->mode >> shift & 6) == 6;
}

bool pool_may_manage(const struct pool *pool, const struct pool_identity *who)
{
	return who->uid == 0 || who->uid == pool->options.uid || who->uid == pool->env->quota->own_uid;
}

uint64_t pool_id(const struct pool *pool)
{
	return pool->id;
}

const struct pool_options *pool_options(const struct pool *pool)
{
	return &pool->options;
}

uint64_t pool_created_s(const struct pool *pool)
{
	return pool->created_s;
}

bool pool_is_private(const struct pool *pool)
{
	return !pool->options.n_name_bytes;
}

int pool_data_fd(const struct pool *pool)
{
	return pool->data.fd;
}

uint64_t pool_segment_bytes(const struct pool *pool)
{
	return segment_bytes_of(pool->options.max_size);
}
