// SPDX-License-Identifier: MIT
/*
 * A pool's life, once it is made (make.c) or recovered (recover.c): grown, destroyed, and gone with its last reference.
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

#define WAIT_MAX_NS 1000000u /* most that a worker in steps stands back: a waiter has been woken long before */

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

void pool_wait(struct pool *pool, pthread_cond_t *cond)
{
	assert(pool_is_locked(pool));
	pool_commit(pool);
	atomic_store_explicit(&pool->locked_by, (pthread_t)0, memory_order_relaxed);
	pthread_cond_wait(cond, &pool->mutex);
	mark_locked(pool);
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

/* ---- references ---- */

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
	pool_close(pool);
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
	for (struct pool_member *m = pool->first; m; m = m->next)
		uncharge_blocks(pool, m->account, m->slabs.n_blocks, m->slabs.n_bytes);
	uncharge_blocks(pool, pool->account, pool->orphan_slabs.n_blocks, pool->orphan_slabs.n_bytes);
	if (pool->options.reserve)
		quota_give_back(pool->account, QUOTA_BYTES, pool->map.total_bytes);
}

/* Slots as pool_survey() has counted them. */
static void fill_warning(struct pool *pool, struct pool_warning *warning)
{
	warning->n_blocks = pool->map.n_live + pool->lease.n_live;
	warning->n_bytes = used_bytes(pool);
	warning->n_holders = top_holders(pool, warning->holders, N_ELEMENTS(warning->holders));
}

static bool has_no_block(const struct pool *pool)
{
	return pool->map.free_bytes + pool->map.leased_bytes == pool->map.total_bytes;
}

static void commit_nothing(void *arg)
{
	(void)arg;
}

void pool_survey(struct pool *pool, bool if_empty)
{
	uint64_t n_bytes;
	bool changed;
	int r;

	pool_lock_after_others(pool);
	if (!pool->is_destroyed && if_empty && has_no_block(pool)) {
		r = slab_recall_all(pool, NULL, POOL_MAY_BLOCK, &changed);
		assert(!r);
		(void)r;
	}
	pool->lease.n_freed_before = lease_count_freed(pool);
	if (!pool->is_destroyed && (!if_empty || lease_is_large(pool)))
		lease_count_live(pool, true, &n_bytes);
	pool_unlock(pool);
}

/*
 * Where few slabs are left they are looked through now. Else the survey's count says it: a slot that was live before it began, and
 * that nobody has freed since, was seen; and where somebody has, there was a live one.
 */
static bool has_live_slot(struct pool *pool)
{
	if (!lease_is_large(pool))
		return lease_has_live(pool);
	return pool->lease.n_live || lease_count_freed(pool) != pool->lease.n_freed_before;
}

int pool_destroy(struct pool *pool, bool if_empty, struct pool_warning *warning)
{
	pool_survey(pool, if_empty);
	return pool_destroy_with(pool, if_empty, warning, commit_nothing, NULL);
}

int pool_destroy_with(struct pool *pool, bool if_empty, struct pool_warning *warning, void (*commit)(void *arg),
		      void *arg)
{
	int r = 0;

	pool_lock(pool);
	if (pool->is_destroyed)
		r = POOL_E_DESTROYED;
	else if (if_empty && (!has_no_block(pool) || pool->map.n_pinned || has_live_slot(pool)))
		r = POOL_E_NOT_EMPTY;
	if (!r) {
		*warning = (struct pool_warning){0};
		if (!if_empty)
			fill_warning(pool, warning);
		commit(arg);
		pool->is_destroyed = true;
		give_charges_back(pool);
		lease_set_flag(pool, LEASE_DESTROYED);
		segment_unlink(&pool->data);
		segment_unlink(&pool->lease.object);
		segment_unlink(&pool->books);
	}
	pool_unlock(pool);
	return r;
}

/* ---- growth ---- */

/* The data segment is longer; nobody knows yet. Both locks are held. */
static int lengthen(struct pool *pool, uint64_t total)
{
	uint64_t segment_bytes = pool_segment_bytes_for(total);

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
	if (!asker || !result_find(asker, RECENT_RESIZE, &r, NULL)) {
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

int pool_lease_fd(const struct pool *pool)
{
	return pool->lease.object.fd;
}

uint64_t pool_lease_bytes(const struct pool *pool)
{
	return pool->lease.layout.file_bytes;
}

uint64_t pool_segment_bytes(const struct pool *pool)
{
	return pool_segment_bytes_for(pool->options.max_size);
}
