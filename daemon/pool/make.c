// SPDX-License-Identifier: MIT
/*
 * A pool is made whole or not at all: objects, books, options. What a kill leaves of one half made is an object that the
 * registry does not know, and that the next start removes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "pool/pool_internal.h"

#define PAGE 4096u

static_assert(POOL_FIRST == BACKING_FIRST, "the first page is nobody's, and never backed");
static_assert(POOL_FIRST % PAGE == 0 && POOL_GUARD_BYTES % EXTENT_GRANULE == 0, "blocks begin at granules");

static struct record_pool record_pool_of(enum ledger_table_id table, size_t link_at)
{
	return (struct record_pool){.table = table, .link_at = (uint32_t)link_at, .unused = POOL_NONE};
}

static uint64_t least_of(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t pool_segment_bytes_for(uint64_t total)
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

struct ledger_shape pool_shape(uint64_t max_bytes)
{
	uint64_t segment_bytes_max = pool_segment_bytes_for(max_bytes);
	uint32_t unit_bytes = backing_unit_bytes(segment_bytes_max);
	uint64_t n_blocks_max = max_bytes / EXTENT_GRANULE;
	struct ledger_shape shape = {
		.elem_bytes = {[LEDGER_MEMBERS] = sizeof(struct member_record),
			       [LEDGER_HOLDS] = sizeof(struct hold_record),
			       [LEDGER_NAMES] = sizeof(struct name_record),
			       [LEDGER_BACKED] = sizeof(uint64_t),
			       [LEDGER_RESULTS] = sizeof(struct result_ring),
			       [LEDGER_BATCHES] = sizeof(struct batch_record),
			       [LEDGER_RECENT] = sizeof(struct recent_record),
			       [LEDGER_SLABS] = sizeof(struct slab_record),
			       [LEDGER_HEAPS] = sizeof(struct heap_record)},
		.n_max = {[LEDGER_MEMBERS] = POOL_MEMBERS_MAX,
			  [LEDGER_HOLDS] = (uint32_t)least_of(n_blocks_max * POOL_MEMBERS_MAX, POOL_HOLDS_MAX),
			  [LEDGER_NAMES] = (uint32_t)least_of(n_blocks_max, POOL_NAMES_MAX),
			  [LEDGER_BACKED] = backing_n_words(segment_bytes_max, unit_bytes),
			  [LEDGER_RESULTS] = POOL_MEMBERS_MAX,
			  [LEDGER_BATCHES] = POOL_BATCHES_MAX,
			  [LEDGER_RECENT] = RECENT_N,
			  [LEDGER_SLABS] = (uint32_t)least_of(max_bytes / LEASE_PAGE_BYTES + 1, LEASE_SLABS_MAX),
			  [LEDGER_HEAPS] = LEASE_HEAPS_MAX},
	};

	extent_map_shape(&shape, max_bytes);
	return shape;
}

static void fill_header(struct pool *pool, uint32_t unit_bytes)
{
	const struct pool_options *options = &pool->options;
	struct ledger_header *header = pool->ledger.header;

	intent_store(&header->kind, LEDGER_POOL);
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
	memcpy(header->lease_object, pool->lease.object.name, sizeof(header->lease_object));
}

static int make_books(struct pool *pool)
{
	uint32_t unit_bytes = backing_unit_bytes(pool_segment_bytes_for(pool->options.max_size));
	struct ledger_shape shape = pool_shape(pool->options.max_size);
	int r;

	r = ledger_init(&pool->ledger, pool->books.fd, &shape);
	if (r)
		return r;
	pool->books.fd = -1; /* the ledger's now */
	fill_header(pool, unit_bytes);
	r = ledger_reserve(&pool->ledger, LEDGER_BACKED, shape.n_max[LEDGER_BACKED]);
	if (!r)
		r = backing_init(&pool->backing, &pool->ledger, pool->env->budget, pool->data.fd, unit_bytes,
				 pool_segment_bytes_for(pool->options.size));
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
	if (!r && ftruncate(pool->data.fd, (off_t)pool_segment_bytes_for(pool->options.size)))
		r = -errno;
	if (!r)
		r = lease_make(pool);
	if (!r) /* the last: what no ledger names is removed */
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
		goto err_length;
	r = -pthread_mutex_init(&pool->check_mutex, NULL);
	if (r)
		goto err_mutex;
	r = -pthread_cond_init(&pool->scan_ended, NULL);
	if (r)
		goto err_check;
	return 0;

err_check:
	pthread_mutex_destroy(&pool->check_mutex);
err_mutex:
	pthread_mutex_destroy(&pool->mutex);
err_length:
	pthread_rwlock_destroy(&pool->length_lock);
	return r;
}

static struct pool_holding holding_null(void)
{
	return (struct pool_holding){.list.head = EXTENT_NONE, .oldest = EXTENT_NONE};
}

int pool_init(struct pool *pool, const struct pool_env *env, uint64_t id, const struct pool_options *options)
{
	int r = take_options(&pool->options, options);

	if (r)
		return r;
	pool->env = env;
	pool->id = id;
	pool->created_s = (uint64_t)time(NULL);
	pool->guard_bytes = options->guard ? POOL_GUARD_BYTES : 0;
	pool->data = pool->books = pool->lease.object = (struct segment)SEGMENT_NULL;
	pool->ledger = (struct ledger)LEDGER_NULL;
	pool->own = pool->nobody = holding_null();
	pool->orphan_slabs.head = EXTENT_NONE;
	pool->name_root = POOL_NONE;
	pool->member_records = record_pool_of(LEDGER_MEMBERS, offsetof(struct member_record, unused_next));
	pool->holds = record_pool_of(LEDGER_HOLDS, offsetof(struct hold_record, block_next));
	pool->names = record_pool_of(LEDGER_NAMES, offsetof(struct name_record, child));
	pool->batches = record_pool_of(LEDGER_BATCHES, offsetof(struct batch_record, next));
	pool->slab_records = record_pool_of(LEDGER_SLABS, offsetof(struct slab_record, unused_next));
	atomic_init(&pool->n_refs, 1);
	if (getrandom(&pool->name_seed, sizeof(pool->name_seed), 0) != (ssize_t)sizeof(pool->name_seed))
		return -EIO;
	pool->account = quota_account_of(env->quota, options->uid);
	if (!pool->account)
		return -ENOMEM;
	return make_locks(pool);
}

void pool_close(struct pool *pool)
{
	assert(!pool->first);
	budget_give_back(pool->env->budget, atomic_load(&pool->backing.backed_bytes));
	segment_unlink(&pool->data);
	lease_close(pool);
	segment_unlink(&pool->books);
	ledger_deinit(&pool->ledger);
	segment_deinit(&pool->data);
	segment_deinit(&pool->books);
	pthread_cond_destroy(&pool->scan_ended);
	pthread_mutex_destroy(&pool->check_mutex);
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
		pool_close(pool);
		return POOL_E_QUOTA;
	}
	r = make_segments(pool);
	if (r) {
		if (pool->options.reserve)
			quota_give_back(pool->account, QUOTA_BYTES, pool->options.size);
		pool_close(pool);
		return r;
	}
	*poolp = pool;
	return 0;
}
