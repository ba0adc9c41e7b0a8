// SPDX-License-Identifier: MIT
/* Blocks: requests for them, their names and holds. */
#include <errno.h>

#include "dispatch_world.h"
#include "pool/pool_internal.h"

static void test_dispatch_requests_on_a_pool_need_membership(void **state)
{
	struct client client = client_greet(*state, 0), other = client_greet(*state, 0);
	uint64_t pool = create(&client, "m", 4096);

	assert_int_equal(SAY(&other, ALLOC, alloc, Alloc, SET(pool, pool), SET(size, 1)), -EACCES);
	assert_int_equal(SAY(&other, ALLOC, alloc, Alloc, SET(size, 1)), -EINVAL);
	assert_int_equal(SAY(&other, ALLOC, alloc, Alloc, SET(pool, 12345), SET(size, 1)), -ESTALE);
	assert_int_equal(SAY(&other, FREE, free, Free, SET(pool, pool), SET(offset, 1)), -EACCES);
	assert_int_equal(SAY(&other, REALLOC, realloc, Realloc, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, ALLOC_BATCH, alloc_batch, AllocBatch, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, FREE_BATCH, free_batch, FreeBatch, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, PUBLISH, publish, Publish, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, FIND, find, Find, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, RETAIN, retain, Retain, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, TAKE, take, Take, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, INSPECT, inspect, Inspect, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, STATS, stats, Stats, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, VISUALIZE, visualize, Visualize, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, LIST_EXTENTS, list_extents, ListExtents, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, CHECK, check, Check, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, RESIZE_POOL, resize_pool, ResizePool, SET(pool, pool)), -EACCES);
	assert_int_equal(SAY(&other, CLOSE_POOL, close_pool, ClosePool, SET(pool, pool)), -EACCES);
	client_close(&client);
	client_close(&other);
}

static void test_dispatch_alloc_and_free(void **state)
{
	struct client client = client_greet(*state, 0);
	uint64_t pool = create(&client, "b", 1 << 20), offset = alloc(&client, pool, 100);

	assert_int_equal(SAY(&client, ALLOC, alloc, Alloc, SET(pool, pool)), -EINVAL);
	assert_int_equal(SAY(&client, ALLOC, alloc, Alloc, SET(pool, pool), SET(size, 1), SET(alignment, 48)), -EINVAL);
	assert_int_equal(SAY(&client, ALLOC, alloc, Alloc, SET(pool, pool), SET(size, 1), SET(alignment, 4 << 20)),
			 -EINVAL);
	assert_int_equal(SAY(&client, ALLOC, alloc, Alloc, SET(pool, pool), SET(size, 1), SET(alignment, 65536)), 0);
	assert_int_equal(client.reply->block->offset % 65536, 0);
	assert_int_equal(SAY(&client, ALLOC, alloc, Alloc, SET(pool, pool), SET(size, 2 << 20)), -ENOSPC);
	assert_says(&client, "2.00 MiB");
	assert_int_equal(SAY(&client, FREE, free, Free, SET(pool, pool), SET(offset, 0)), 0);
	assert_int_equal(SAY(&client, FREE, free, Free, SET(pool, pool), SET(offset, offset)), 0);
	assert_int_equal(SAY(&client, FREE, free, Free, SET(pool, pool), SET(offset, offset)), -EALREADY);
	assert_int_equal(SAY(&client, FREE, free, Free, SET(pool, pool), SET(offset, offset + 1)), -EFAULT);
	assert_says(&client, "pool \"b\"");
	client_close(&client);
}

/* Its mutex is held for long: a worker waits for that, no loop. */
static void test_dispatch_of_a_pool_that_is_being_checked_is_slow(void **state)
{
	struct client client = client_greet(*state, 0);
	uint64_t id = create(&client, "c", 1 << 20), offset = alloc(&client, id, 100);
	struct pool *pool;

	assert_int_equal(registry_find_id(client.bench->services.registry, id, &pool), 0);
	atomic_store(&pool->is_being_checked, true);
	assert_int_equal(SAY(&client, FREE, free, Free, SET(pool, id), SET(offset, offset)), 0);
	assert_true(client.was_slow);
	assert_int_equal(SAY(&client, OPEN_POOL, open_pool, OpenPool, SET(pool, id)), 0);
	assert_true(client.was_slow);
	atomic_store(&pool->is_being_checked, false);
	assert_int_equal(SAY(&client, FREE, free, Free, SET(pool, id), SET(offset, offset)), -EALREADY);
	assert_false(client.was_slow);
	assert_int_equal(SAY(&client, CHECK, check, Check, SET(pool, id)), 0);
	assert_false(pool_is_being_checked(pool));
	pool_unref(pool);
	client_close(&client);
}

/* Its sentence takes long, even where the refusal does not: a worker says it. */
static void test_dispatch_refusal_in_a_large_pool_is_slow(void **state)
{
	struct client client = client_greet(*state, 0);
	uint64_t id = create(&client, "l", 64 << 20), offset = alloc(&client, id, 100000);
	struct pool_member *member = session_member(client.peer.session, id);
	uint32_t heap, ids[POOL_SLABS_MAX], n;

	member->call.id = 0; /* no request */
	assert_int_equal(pool_open_heap(member, true, &heap), 0);
	while (!pool_is_long_to_read(member->pool))
		assert_int_equal(pool_lease_slabs(member, heap, 0, POOL_SLABS_MAX, POOL_MAY_BLOCK, ids, &n), 0);
	assert_int_equal(SAY(&client, REALLOC, realloc, Realloc, SET(pool, id), SET(offset, offset),
			     SET(size, UINT64_C(1) << 60)),
			 -ENOSPC);
	assert_true(client.was_slow);
	assert_says(&client, "1.00 EiB");
	pool_lock(member->pool);
	lease_damage(member->pool, "a test says so"); /* nothing can be recalled any more */
	pool_unlock(member->pool);
	assert_int_equal(SAY(&client, ALLOC, alloc, Alloc, SET(pool, id), SET(size, 1 << 30)), -ENOSPC);
	assert_true(client.was_slow);
	assert_int_equal(SAY(&client, STATS, stats, Stats, SET(pool, id)), 0);
	assert_int_equal(client.reply->stats->failed_total, 2); /* each once */
	client_close(&client);
}

static void test_dispatch_realloc_and_inspect(void **state)
{
	struct client client = client_greet(*state, 0);
	uint64_t pool = create(&client, "r", 1 << 20), offset = alloc(&client, pool, 100);

	assert_int_equal(SAY(&client, REALLOC, realloc, Realloc, SET(pool, pool), SET(offset, offset)), -EINVAL);
	assert_int_equal(
		SAY(&client, REALLOC, realloc, Realloc, SET(pool, pool), SET(offset, offset), SET(size, 50000)), 0);
	assert_true(client.reply->block->size >= 50000);
	assert_true(client.reply->block->old_size >= 100);
	offset = client.reply->block->offset;
	assert_int_equal(SAY(&client, INSPECT, inspect, Inspect, SET(pool, pool), SET(offset, offset)), 0);
	assert_int_equal(client.reply->block->owner, client.peer.session->identity.session);
	assert_int_equal(client.reply->block->origin, client.peer.session->identity.session);
	assert_int_equal(SAY(&client, INSPECT, inspect, Inspect, SET(pool, pool), SET(offset, 16)), -EFAULT);
	client_close(&client);
}

static void test_dispatch_batches(void **state)
{
	struct client client = client_greet(*state, 0);
	uint64_t pool = create(&client, "batch", 1 << 20), offsets[5], sizes[DISPATCH_BATCH_MAX + 1];

	for (size_t i = 0; i < N_ELEMENTS(sizes); i++)
		sizes[i] = 64;
#define BATCH(n) SAY(&client, ALLOC_BATCH, alloc_batch, AllocBatch, SET(pool, pool), .n_sizes = (n), .sizes = sizes)
	assert_int_equal(BATCH(0), -EINVAL);
	assert_int_equal(BATCH(DISPATCH_BATCH_MAX + 1), -EINVAL);
	assert_int_equal(BATCH(DISPATCH_BATCH_MAX), 0);
	assert_int_equal(client.reply->blocks->n_offsets, DISPATCH_BATCH_MAX);
	memcpy(offsets, client.reply->blocks->offsets, 3 * sizeof(*offsets));
	sizes[1] = 0;
	assert_int_equal(BATCH(3), -EINVAL);
	sizes[1] = 1 << 20;
	assert_int_equal(BATCH(3), -ENOSPC);
#undef BATCH
	offsets[3] = 0;
	offsets[4] = offsets[1] + 1; /* no block: the others are freed all the same */
	assert_int_equal(
		SAY(&client, FREE_BATCH, free_batch, FreeBatch, SET(pool, pool), .n_offsets = 5, .offsets = offsets),
		-EFAULT);
	assert_int_equal(client.reply->blocks->n_offsets, 1);
	assert_int_equal(client.reply->blocks->offsets[0], offsets[4]);
	assert_int_equal(
		SAY(&client, FREE_BATCH, free_batch, FreeBatch, SET(pool, pool), .n_offsets = 1, .offsets = offsets),
		-EALREADY);
	assert_int_equal(SAY(&client, FREE_BATCH, free_batch, FreeBatch, SET(pool, pool)), -EINVAL);
	client_close(&client);
}

static void test_dispatch_names_and_holds(void **state)
{
	struct client client = client_greet(*state, 0), other = client_greet(*state, 0);
	uint64_t pool = create(&client, "n", 1 << 20), a = alloc(&client, pool, 64), b = alloc(&client, pool, 64);

	assert_int_equal(SAY(&other, OPEN_POOL, open_pool, OpenPool, SET(pool, pool)), 0);
	assert_int_equal(SAY(&client, FIND, find, Find, SET(pool, pool), SET(name, BYTES("key"))), -ENOENT);
	assert_int_equal(SAY(&client, FIND, find, Find, SET(pool, pool)), -EINVAL);
	assert_int_equal(
		SAY(&client, PUBLISH, publish, Publish, SET(pool, pool), SET(offset, a), SET(name, BYTES("/"))),
		-EINVAL);
	assert_int_equal(
		SAY(&client, PUBLISH, publish, Publish, SET(pool, pool), SET(offset, a), SET(name, BYTES("key"))), 0);
	assert_int_equal(
		SAY(&client, PUBLISH, publish, Publish, SET(pool, pool), SET(offset, b), SET(name, BYTES("key"))),
		-EEXIST);
	assert_int_equal(SAY(&other, PUBLISH, publish, Publish, SET(pool, pool), SET(offset, b)), -EPERM);
	assert_int_equal(SAY(&other, FIND, find, Find, SET(pool, pool), SET(name, BYTES("key")), SET(retain, 1)), 0);
	assert_int_equal(other.reply->block->offset, a);
	assert_int_equal(SAY(&other, RETAIN, retain, Retain, SET(pool, pool), SET(offset, b)), -EPERM);
	assert_int_equal(SAY(&other, TAKE, take, Take, SET(pool, pool), SET(offset, b), SET(from_session, 999)),
			 -ESTALE);
	assert_int_equal(SAY(&other, TAKE, take, Take, SET(pool, pool), SET(offset, b),
			     SET(from_session, client.peer.session->identity.session)),
			 0);
	assert_int_equal(SAY(&other, RETAIN, retain, Retain, SET(pool, pool), SET(offset, b)), 0);
	client_close(&client);
	client_close(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(requests_on_a_pool_need_membership),
		TEST(alloc_and_free),
		TEST(of_a_pool_that_is_being_checked_is_slow),
		TEST(refusal_in_a_large_pool_is_slow),
		TEST(realloc_and_inspect),
		TEST(batches),
		TEST(names_and_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
