// SPDX-License-Identifier: MIT
/* Empty slabs taken back, and large slots that a heap only caches: what a request has of them, and what is left alone. */
#include <pthread.h>
#include <sched.h>

#include "lease_world.h"

static void test_recall_gives_room_to_a_request(void **state)
{
	struct lease_world t;
	uint64_t blocks[8], size, n = 0;

	(void)state;
	lease_world_init(&t, 4u << 20, 0);
	size = world_stats(t.pool).total;
	for (; n < 8; n++)
		blocks[n] = client_alloc(&t, 0, 20000);
	assert_true(world_stats(t.pool).largest_free < size);
	for (uint64_t i = 0; i < n; i++)
		client_free(&t, 0, blocks[i]);
	client_flush(&t, 0);
	assert_true(world_stats(t.pool).leased_idle > 0);
	assert_int_equal(world_alloc(t.members[1], size), POOL_FIRST);
	assert_int_equal(world_stats(t.pool).leased_idle, 0);
	world_check(t.pool);
	lease_world_deinit(&t);
}

/* Return: NULL: it got all there is */
static void *alloc_all(void *arg)
{
	struct lease_world *t = arg;
	struct pool_block block;

	return pool_alloc(t->members[1], world_stats(t->pool).total, 0, POOL_MAY_BLOCK, &block) ? t : NULL;
}

/* A scan is under way, which has passed what is empty: the next one counts. */
static void test_recall_during_a_scan_has_the_next(void **state)
{
	struct lease_world t;
	pthread_t thread;
	void *failed;

	(void)state;
	lease_world_init(&t, 4u << 20, 0);
	client_free(&t, 0, client_alloc(&t, 0, 64));
	client_flush(&t, 0);
	t.pool->lease.is_scanning = true;
	t.pool->lease.n_begun++;
	assert_int_equal(pthread_create(&thread, NULL, alloc_all, &t), 0);
	while (!client_header(&t)->pressure) /* raised just before it waits, under the mutex */
		sched_yield();
	pool_lock(t.pool);
	t.pool->lease.is_scanning = false;
	t.pool->lease.n_ended++;
	pthread_cond_broadcast(&t.pool->scan_ended);
	pool_unlock(t.pool);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	assert_int_equal(t.pool->lease.n_ended, 2);
	assert_int_equal(world_stats(t.pool).leased_idle, 0);
	world_check(t.pool);
	lease_world_deinit(&t);
}

/* However many stand in line for a worker: what is scanned after they came is scanned for all of them. */
static void test_recall_is_shared_by_those_in_line(void **state)
{
	struct lease_world t;
	struct pool_block block;
	uint64_t total;

	(void)state;
	lease_world_init(&t, 4u << 20, 0);
	total = world_stats(t.pool).total;
	client_alloc(&t, 2, 64);
	t.pool->lease.is_scanning = true; /* so that who comes stands in line; it does not count for him */
	t.pool->lease.n_begun++;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pool_alloc(t.members[i], total, 0, 0, &block), POOL_E_SLOW);
	t.pool->lease.is_scanning = false;
	t.pool->lease.n_ended++;
	assert_int_equal(pool_alloc(t.members[0], total, 0, POOL_MAY_BLOCK, &block), POOL_E_FULL);
	assert_int_equal(t.pool->lease.n_ended, 2);
	assert_int_equal(pool_alloc(t.members[1], total, 0, POOL_MAY_BLOCK, &block), POOL_E_FULL);
	assert_int_equal(t.pool->lease.n_ended, 2);
	/* Another, which did not. */
	assert_int_equal(pool_alloc(t.members[1], total, 0, POOL_MAY_BLOCK, &block), POOL_E_FULL);
	assert_int_equal(t.pool->lease.n_ended, 3);
	lease_world_deinit(&t);
}

static void test_recall_leaves_cached_and_custody_alone(void **state)
{
	struct lease_world t;
	struct pool_block block;
	uint64_t a, total;
	uint32_t id;

	(void)state;
	lease_world_init(&t, 4u << 20, 0);
	total = world_stats(t.pool).total;
	a = client_alloc(&t, 0, 64);
	id = client_slab_of(&t, a);
	client_free(&t, 0, a); /* cached */
	assert_int_equal(pool_alloc(t.members[1], total, 0, POOL_MAY_BLOCK, &block), POOL_E_FULL);
	client_flush(&t, 0);
	assert_true(lease_custody_take(&client_slab(&t, id)->custody, t.heaps[0]));
	assert_int_equal(pool_alloc(t.members[1], total, 0, POOL_MAY_BLOCK, &block), POOL_E_FULL);
	world_leave(t.members[0]); /* custody of the dead is broken */
	t.members[0] = NULL;
	assert_int_equal(pool_alloc(t.members[1], total, 0, POOL_MAY_BLOCK, &block), 0);
	world_check(t.pool);
	lease_world_deinit(&t);
}

static void test_large_cached_block_is_taken_from_a_stopped_heap(void **state)
{
	struct lease_world t;
	uint64_t a, total;

	(void)state;
	lease_world_init(&t, 8u << 20, 0);
	total = world_stats(t.pool).total;
	a = client_alloc(&t, 0, 100000);
	client_free(&t, 0, a);
	assert_int_equal(client_word_at(&t, a), lease_cached_by(t.heaps[0]));
	assert_int_equal(world_alloc(t.members[1], total), POOL_FIRST);
	world_check(t.pool);
	lease_world_deinit(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recall_gives_room_to_a_request),
		cmocka_unit_test(test_recall_during_a_scan_has_the_next),
		cmocka_unit_test(test_recall_is_shared_by_those_in_line),
		cmocka_unit_test(test_recall_leaves_cached_and_custody_alone),
		cmocka_unit_test(test_large_cached_block_is_taken_from_a_stopped_heap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
