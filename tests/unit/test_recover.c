// SPDX-License-Identifier: MIT
#include "pool_world.h"

/* pool_keep() frees what the process knows of it: members are found again. */
static void test_recover_knows_what_was_freed(void **state)
{
	struct pool_member *member, *other;
	struct pool_block block;
	struct world world;
	struct pool *pool;
	uint64_t freed, ended, batch[2], sizes[2] = {40, 50}, failed[2];
	size_t n_failed;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1 << 20);
	member = world_join(&world, pool);
	other = world_join(&world, pool);
	freed = world_alloc(member, 100);
	assert_int_equal(pool_alloc_batch(member, 2, sizes, POOL_MAY_BLOCK, batch), 0);
	ended = world_alloc(other, 5000);
	assert_int_equal(pool_free(member, freed), 0);
	assert_int_equal(pool_free_batch(member, 2, batch, failed, &n_failed), 0);
	world_leave(other);

	pool = world_restart(&world, pool);
	member = pool_member_of(pool, 1);
	assert_int_equal(pool_free(member, freed), POOL_E_FREED);
	assert_int_equal(pool_free(member, batch[0]), POOL_E_FREED);
	assert_int_equal(pool_free(member, batch[1]), POOL_E_FREED);
	assert_int_equal(pool_free(member, ended), POOL_E_FREED);
	assert_int_equal(pool_retain(member, freed), POOL_E_FREED);
	assert_int_equal(pool_free(member, freed + 16), POOL_E_NO_BLOCK); /* where none ever began */
	assert_int_equal(pool_alloc(member, 100, 0, POOL_MAY_BLOCK, &block), 0);
	assert_int_equal(block.offset, freed);
	assert_int_equal(pool_free(member, freed), 0);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

/* What is too long ago for the ring was long ago: nobody is told anything wrong. */
static void test_recover_forgets_what_is_long_ago(void **state)
{
	struct pool_member *member;
	struct world world;
	struct pool *pool;
	uint64_t first;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1 << 20);
	member = world_join(&world, pool);
	first = world_alloc(member, 200);
	assert_int_equal(pool_free(member, first), 0);
	for (unsigned i = 0; i < RECENT_N; i++)
		assert_int_equal(pool_free(member, 0x8000), POOL_E_NO_BLOCK);
	pool = world_restart(&world, pool);
	member = pool_member_of(pool, 1);
	assert_int_equal(pool_free(member, 0x8000), POOL_E_NO_BLOCK); /* a failed free is no block's end */
	assert_int_equal(pool_free(member, first), POOL_E_NO_BLOCK);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recover_knows_what_was_freed),
		cmocka_unit_test(test_recover_forgets_what_is_long_ago),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
