// SPDX-License-Identifier: MIT
#include "client_world.h"

static struct mempool_client *other;
static struct mempool_pool *theirs;

static void open_other(void)
{
	assert_int_equal(mempool_connect(&other, world.socket), 0);
	assert_int_equal(mempool_pool_open(other, "p", &theirs), 0);
}

static void close_other(void)
{
	mempool_pool_close(theirs);
	mempool_disconnect(other);
}

static void test_published_outlives_its_session_and_is_found(void **state)
{
	mempool_offset offset, found = 0;

	(void)state;
	open_other();
	offset = mempool_alloc(theirs, 100);
	assert_int_equal(mempool_publish(theirs, offset, "key"), 0);
	assert_int_equal(mempool_publish(theirs, mempool_alloc(theirs, 16), "key"), -EEXIST);
	close_other();
	assert_true(await_used(112));
	assert_int_equal(mempool_find(pool, "key", &found), 0);
	assert_true(found == offset);
	assert_int_equal(mempool_find(pool, "no-key", &found), -ENOENT);
	assert_int_equal(mempool_find(pool, "bad key", &found), -EINVAL);
	assert_int_equal(mempool_free(pool, offset), 0);
	assert_int_equal(mempool_find(pool, "key", &found), -ENOENT);
	assert_int_equal(used_now(), 0);
}

/* Slots of a heap and others; more than go out at once; in their midst what cannot be published. */
static void test_publish_of_a_batch_publishes_all_it_can(void **state)
{
	enum {
		N = 1000
	};
	mempool_offset offsets[N + 2];

	(void)state;
	open_other();
	for (int i = 0; i < N; i++)
		offsets[i] = mempool_alloc(theirs, 100);
	offsets[N] = offsets[N - 1];
	offsets[N - 1] = mempool_alloc(pool, 64);
	offsets[N + 1] = 16;
	assert_int_equal(mempool_publish_batch(theirs, N + 2, offsets), -EPERM);
	assert_non_null(strstr(mempool_last_error(), "publishing 0x"));
	assert_int_equal(mempool_publish_batch(theirs, 1, offsets + N + 1), -EFAULT);
	assert_int_equal(mempool_publish_batch(theirs, 0, NULL), 0);
	assert_int_equal(mempool_publish_batch(theirs, 1, NULL), -EINVAL);
	assert_int_equal(mempool_publish_batch(NULL, 1, offsets), -EINVAL);
	close_other();
	assert_true(await_used(N * 112 + 64));
	assert_int_equal(mempool_free_batch(pool, N + 1, offsets), 0);
	assert_true(await_used(0));
}

static void test_last_hold_frees_whoever_has_it(void **state)
{
	mempool_offset offset = mempool_alloc(pool, 64), acquired;

	(void)state;
	open_other();
	assert_int_equal(mempool_retain(theirs, offset), -EPERM);
	assert_int_equal(mempool_publish(pool, offset, "shared"), 0);
	assert_int_equal(mempool_acquire(theirs, "shared", &acquired), 0);
	assert_int_equal(mempool_retain(theirs, offset), 0);
	assert_int_equal(mempool_free(pool, offset), 0); /* the pool's hold, and the name with it */
	assert_int_equal(mempool_find(pool, "shared", &acquired), -ENOENT);
	assert_int_equal(mempool_free(pool, offset), -EALREADY);
	assert_int_equal(used_now(), 64);
	assert_int_equal(mempool_free(theirs, offset), 0);
	assert_int_equal(used_now(), 64);
	assert_int_equal(mempool_free(theirs, offset), 0);
	assert_int_equal(used_now(), 0);
	close_other();
}

static void test_retain_by_its_owner_counts_apart(void **state)
{
	mempool_offset offset = mempool_alloc(pool, 64);

	(void)state;
	assert_int_equal(mempool_retain(pool, offset), 0);
	assert_int_equal(mempool_free(pool, offset), 0);
	assert_int_equal(used_now(), 64);
	assert_int_equal(mempool_free(pool, offset), 0);
	assert_int_equal(used_now(), 0);
}

static void test_take_hands_over_exactly_once(void **state)
{
	mempool_offset offset = mempool_alloc(pool, 64);

	(void)state;
	open_other();
	assert_int_equal(mempool_take(theirs, offset, mempool_session(other)), -ESTALE);
	assert_int_equal(mempool_take(theirs, offset, mempool_session(client)), 0);
	assert_int_equal(mempool_take(theirs, offset, mempool_session(client)), -ESTALE);
	assert_int_equal(mempool_take(theirs, offset + 16, mempool_session(client)), -ESTALE);
	assert_int_equal(mempool_publish(pool, offset, NULL), -EPERM);
	close_other(); /* it dies with the receiver now */
	assert_true(await_used(0));
}

static void test_lifetime_pool_keeps_what_a_session_leaves(void **state)
{
	struct mempool_pool_options options;
	mempool_offset offset;

	(void)state;
	mempool_pool_options_init(&options);
	options.lifetime = MEMPOOL_LIFETIME_POOL;
	make_pool(1u << 20, &options);
	open_other();
	offset = mempool_alloc(theirs, 64);
	close_other();
	assert_int_equal(used_now(), 64);
	assert_int_equal(mempool_free(pool, offset), 0);
	assert_int_equal(used_now(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_published_outlives_its_session_and_is_found),
		TEST(test_publish_of_a_batch_publishes_all_it_can),
		TEST(test_last_hold_frees_whoever_has_it),
		TEST(test_retain_by_its_owner_counts_apart),
		TEST(test_take_hands_over_exactly_once),
		TEST(test_lifetime_pool_keeps_what_a_session_leaves),
	};

	return cmocka_run_group_tests(tests, world_begin, world_end);
}
