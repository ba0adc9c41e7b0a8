// SPDX-License-Identifier: MIT
#include "pool_world.h"

static void test_pool_alloc_checks_what_it_is_asked(void **state)
{
	static const uint64_t bad[] = {3, 24, POOL_ALIGNMENT_MAX + 1, POOL_ALIGNMENT_MAX * 2, UINT64_MAX};
	struct pool_member *member;
	struct pool_block block;
	uint64_t sizes[] = {16, 0}, offsets[2];
	struct world world;
	struct pool *pool;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 8 << 20);
	member = world_join(&world, pool);
	assert_int_equal(pool_alloc(member, 0, 0, 0, &block), POOL_E_INVALID);
	assert_int_equal(pool_alloc_batch(member, 2, sizes, 0, offsets), POOL_E_INVALID);
	assert_int_equal(pool_realloc(member, POOL_FIRST, 0, 0, &block), POOL_E_INVALID);
	for (size_t i = 0; i < N_ELEMENTS(bad); i++)
		assert_int_equal(pool_alloc(member, 16, bad[i], 0, &block), POOL_E_INVALID);
	for (uint64_t alignment = 1; alignment <= POOL_ALIGNMENT_MAX; alignment *= 2) {
		assert_int_equal(pool_alloc(member, 100, alignment, POOL_MAY_BLOCK, &block), 0);
		assert_int_equal(block.offset % (alignment < 16 ? 16 : alignment), 0);
		assert_int_equal(pool_free(member, block.offset), 0);
	}
	assert_int_equal(pool_alloc(member, UINT64_MAX, 0, 0, &block), POOL_E_FULL);
	assert_int_equal(pool_alloc(member, UINT64_MAX - 15, 0, 0, &block), POOL_E_FULL);
	assert_int_equal(pool_alloc(member, EXTENT_BYTES_MAX, 0, 0, &block), POOL_E_FULL);
	sizes[0] = sizes[1] = UINT64_C(1) << 46;
	assert_int_equal(pool_alloc_batch(member, 2, sizes, 0, offsets), POOL_E_FULL);
	assert_int_equal(world_stats(pool).failed_total, 4);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_alloc_of_largest_free_succeeds(void **state)
{
	struct pool_options options = world_options(300000);
	struct pool_member *member;
	struct pool_block block;
	struct world world;
	struct pool *pool;

	(void)state;
	for (int guard = 0; guard < 2; guard++) {
		world_init(&world);
		options.guard = guard;
		pool = world_pool_with(&world, &options);
		member = world_join(&world, pool);
		for (uint64_t largest; (largest = world_stats(pool).largest_free);) {
			assert_int_equal(pool_alloc(member, largest + 1, 0, POOL_MAY_BLOCK, &block), POOL_E_FULL);
			assert_int_equal(pool_alloc(member, largest > 5000 ? largest / 2 + 1 : largest, 0,
						    POOL_MAY_BLOCK, &block),
					 0);
		}
		assert_true(world_stats(pool).free < (guard ? 48 : 16));
		world_check(pool);
		world_leave(member);
		world_destroy(pool);
		world_deinit(&world);
	}
}

static void test_pool_guarded_block_has_room_on_both_sides(void **state)
{
	struct pool_options options = world_options(1 << 20);
	struct pool_member *member;
	struct pool_block block, again;
	struct world world;
	struct pool *pool;
	uint64_t end;

	(void)state;
	world_init(&world);
	options.guard = true;
	pool = world_pool_with(&world, &options);
	member = world_join(&world, pool);
	end = POOL_FIRST;
	for (uint64_t size = 1; size < 100; size++) {
		assert_int_equal(pool_alloc(member, size, 0, POOL_MAY_BLOCK, &block), 0);
		assert_int_equal(block.size, size);
		assert_int_equal(block.offset % 16, 0);
		assert_true(block.offset >= end + POOL_GUARD_BYTES);
		end = block.offset + size + POOL_GUARD_BYTES;
		assert_int_equal(pool_inspect(member, block.offset, &again), 0);
		assert_int_equal(again.size, size);
		assert_int_equal(pool_inspect(member, block.offset - 16, &again), POOL_E_NO_BLOCK);
	}
	assert_int_equal(pool_inspect(member, 0, &again), POOL_E_NO_BLOCK);
	assert_int_equal(pool_inspect(member, 15, &again), POOL_E_NO_BLOCK);
	assert_int_equal(pool_alloc(member, 100, 4096, POOL_MAY_BLOCK, &block), 0);
	assert_int_equal(block.offset % 4096, 0);
	assert_int_equal(pool_realloc(member, block.offset, 50, 0, &again), 0);
	assert_int_equal(again.size, 50);
	assert_int_equal(world_stats(pool).requested, 99 * 100 / 2 + 50);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_free_tells_known_from_unknown(void **state)
{
	struct pool_member *member;
	struct world world;
	struct pool *pool;
	uint64_t offset;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1 << 20);
	member = world_join(&world, pool);
	offset = world_alloc(member, 100);
	assert_int_equal(pool_free(member, offset + 16), POOL_E_NO_BLOCK);
	assert_int_equal(pool_free(member, offset + 1), POOL_E_NO_BLOCK);
	assert_int_equal(pool_free(member, 0), POOL_E_NO_BLOCK);
	assert_int_equal(pool_free(member, UINT64_MAX), POOL_E_NO_BLOCK);
	assert_int_equal(pool_free(member, offset), 0);
	assert_int_equal(pool_free(member, offset), POOL_E_FREED);
	assert_int_equal(pool_realloc(member, offset, 10, 0, &(struct pool_block){0}), POOL_E_FREED);
	assert_int_equal(pool_retain(member, offset), POOL_E_FREED);
	assert_int_equal(world_alloc(member, 100), offset);
	assert_int_equal(pool_free(member, offset), 0);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_block_lives_until_its_last_hold(void **state)
{
	struct pool_member *owner, *first, *second;
	struct pool_extent extent;
	struct world world;
	struct pool *pool;
	uint64_t offset, hint = 0, next;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1 << 20);
	owner = world_join_as(&world, pool, WORLD_UID + 1);
	first = world_join_as(&world, pool, WORLD_UID + 2);
	second = world_join_as(&world, pool, WORLD_UID + 3);
	offset = world_alloc(owner, 1000);
	assert_int_equal(pool_retain(first, offset), POOL_E_NOT_OWNER);
	assert_int_equal(pool_retain(owner, offset), 0);
	assert_int_equal(pool_retain(first, offset), 0); /* it has retains already */
	assert_int_equal(pool_retain(first, offset), 0);
	assert_int_equal(pool_extents(pool, 0, &hint, &extent, 1, &next), 1);
	assert_int_equal(extent.n_holds, 4);
	assert_int_equal(pool_free(owner, offset), 0); /* its retain first */
	assert_int_equal(world_used(&world, WORLD_UID + 1, QUOTA_BYTES), 1008);
	assert_int_equal(pool_free(second, offset), 0); /* the owner's hold, by one who has none */
	assert_int_equal(world_used(&world, WORLD_UID + 1, QUOTA_BYTES), 0);
	assert_int_equal(world_used(&world, WORLD_UID, QUOTA_BYTES), 1008); /* the pool's uid pays */
	assert_int_equal(pool_free(owner, offset), POOL_E_FREED);
	assert_int_equal(pool_publish(owner, offset, NULL, 0), POOL_E_NOT_OWNER);
	assert_int_equal(pool_take(owner, offset, owner->session), POOL_E_STALE);
	world_check(pool);
	assert_int_equal(pool_free(first, offset), 0);
	assert_int_equal(world_stats(pool).allocations, 1);
	assert_int_equal(pool_free(first, offset), 0);
	assert_int_equal(world_stats(pool).allocations, 0);
	assert_int_equal(pool_free(first, offset), POOL_E_FREED);
	world_leave(owner);
	world_leave(first);
	world_leave(second);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_published_block_is_the_pools(void **state)
{
	struct pool_member *maker, *user;
	struct pool_block block;
	struct world world;
	struct pool *pool;
	uint64_t offset, other;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1 << 20);
	maker = world_join_as(&world, pool, WORLD_UID + 1);
	user = world_join_as(&world, pool, WORLD_UID + 2);
	offset = world_alloc(maker, 100);
	other = world_alloc(maker, 100);
	assert_int_equal(pool_publish(user, offset, "name", 4), POOL_E_NOT_OWNER);
	assert_int_equal(pool_publish(maker, offset, "name", NAME_BYTES_MAX + 1), POOL_E_INVALID);
	assert_int_equal(pool_publish(maker, offset + 16, "name", 4), POOL_E_NO_BLOCK);
	assert_int_equal(pool_publish(maker, offset, NULL, 0), 0);
	assert_int_equal(pool_publish(user, offset, "name", 4), 0); /* the pool's already: it gets a name */
	assert_int_equal(pool_publish(user, offset, "name", 4), 0);
	assert_int_equal(pool_publish(user, offset, "else", 4), POOL_E_NAMED);
	assert_int_equal(pool_publish(maker, other, "name", 4), POOL_E_NAME_TAKEN);
	assert_int_equal(pool_inspect(maker, other, &block), 0);
	assert_int_equal(block.owner, maker->session); /* refused: it changed nothing */
	assert_int_equal(pool_find(user, "nam", 3, false, &block), POOL_E_NO_NAME);
	assert_int_equal(pool_find(user, "name", 4, true, &block), 0);
	assert_int_equal(block.offset, offset);
	assert_int_equal(block.owner, 0);
	assert_int_equal(block.origin, maker->session);
	assert_int_equal(world_leave(maker).n_blocks, 1);
	assert_int_equal(pool_realloc(user, offset, 5000, POOL_MAY_BLOCK, &block), 0); /* in place: room behind */
	assert_false(block.moved);
	assert_int_equal(pool_free(user, offset), 0); /* the retain */
	assert_int_equal(pool_free(user, offset), 0); /* the pool's hold, and the name with it */
	assert_int_equal(pool_find(user, "name", 4, false, &block), POOL_E_NO_NAME);
	assert_int_equal(world_stats(pool).allocations, 0);
	world_check(pool);
	world_leave(user);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_names_of_many_blocks_are_all_found(void **state)
{
	enum {
		N = 3000
	};
	static uint64_t offsets[N];
	struct pool_member *member;
	struct pool_block block;
	char name[NAME_BYTES_MAX + 1];
	struct world world;
	struct pool *pool;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1 << 20);
	member = world_join(&world, pool);
	for (int i = 0; i < N; i++) {
		offsets[i] = world_alloc(member, 16);
		snprintf(name, sizeof(name), "%0*d", 1 + i % NAME_BYTES_MAX, i);
		assert_int_equal(pool_publish(member, offsets[i], name, strlen(name)), 0);
	}
	world_check(pool);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < N; i++) {
			snprintf(name, sizeof(name), "%0*d", 1 + i % NAME_BYTES_MAX, i);
			if (round && i % 3 == 0) {
				assert_int_equal(pool_free(member, offsets[i]), 0);
				assert_int_equal(pool_find(member, name, strlen(name), false, &block), POOL_E_NO_NAME);
			} else {
				assert_int_equal(pool_find(member, name, strlen(name), false, &block), 0);
				assert_int_equal(block.offset, offsets[i]);
			}
		}
	world_check(pool);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_take_moves_block_and_charge(void **state)
{
	struct pool_member *from, *to;
	struct world world;
	struct pool *pool;
	uint64_t offset;

	(void)state;
	world_init_limits(&world, 2000, 10);
	pool = world_pool(&world, 1 << 20);
	from = world_join_as(&world, pool, WORLD_UID + 1);
	to = world_join_as(&world, pool, WORLD_UID + 2);
	offset = world_alloc(from, 1600);
	assert_int_equal(pool_take(to, offset, to->session), POOL_E_STALE);
	assert_int_equal(pool_take(to, offset, 0), POOL_E_STALE);
	assert_int_equal(pool_take(to, offset + 16, from->session), POOL_E_STALE);
	world_alloc(to, 416);
	assert_int_equal(pool_take(to, offset, from->session), POOL_E_QUOTA);
	assert_int_equal(world_used(&world, WORLD_UID + 1, QUOTA_BYTES), 1600);
	assert_int_equal(world_leave(to).n_bytes, 416);
	to = world_join_as(&world, pool, WORLD_UID + 2);
	assert_int_equal(pool_take(to, offset, from->session), 0);
	assert_int_equal(pool_take(to, offset, from->session), POOL_E_STALE);
	assert_int_equal(pool_take(to, offset, to->session), 0);
	assert_int_equal(world_used(&world, WORLD_UID + 1, QUOTA_BYTES), 0);
	assert_int_equal(world_used(&world, WORLD_UID + 2, QUOTA_BYTES), 1600);
	assert_int_equal(world_leave(from).n_blocks, 0);
	assert_int_equal(world_leave(to).n_blocks, 1);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_quota_holds_at_minus_one_zero_and_plus_one(void **state)
{
	struct pool_member *member;
	struct pool_block block;
	uint64_t sizes[] = {16, 16}, offsets[2];
	struct world world;
	struct pool *pool;

	(void)state;
	world_init_limits(&world, 1024, 3);
	pool = world_pool(&world, 1 << 20);
	member = world_join(&world, pool);
	assert_int_equal(pool_alloc(member, 1025, 0, POOL_MAY_BLOCK, &block), POOL_E_QUOTA);
	assert_int_equal(pool_alloc(member, 1024, 0, POOL_MAY_BLOCK, &block), 0);
	assert_int_equal(pool_alloc(member, 1, 0, POOL_MAY_BLOCK, &block), POOL_E_QUOTA);
	assert_int_equal(pool_free(member, block.offset), 0);
	assert_int_equal(pool_alloc(member, 1008, 0, POOL_MAY_BLOCK, &block), 0);
	assert_int_equal(pool_realloc(member, block.offset, 1025, POOL_MAY_BLOCK, &block), POOL_E_QUOTA);
	assert_int_equal(pool_realloc(member, block.offset, 900, POOL_MAY_BLOCK, &block), 0);
	assert_int_equal(pool_alloc(member, 16, 0, POOL_MAY_BLOCK, &block), 0);
	assert_int_equal(pool_alloc_batch(member, 2, sizes, POOL_MAY_BLOCK, offsets), POOL_E_QUOTA);
	assert_int_equal(pool_alloc_batch(member, 1, sizes, POOL_MAY_BLOCK, offsets), 0);
	assert_int_equal(pool_alloc(member, 1, 0, POOL_MAY_BLOCK, &block), POOL_E_QUOTA); /* a fourth block */
	assert_int_equal(world_stats(pool).failed_total, 5);
	world_check(pool);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_batch_is_all_or_none(void **state)
{
	enum {
		N = 4096
	};
	static uint64_t sizes[N], offsets[N];
	struct pool_member *member;
	struct world world;
	struct pool *pool;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, N * 64);
	member = world_join(&world, pool);
	for (int i = 0; i < N; i++)
		sizes[i] = 64;
	world_alloc(member, 16);
	assert_int_equal(pool_alloc_batch(member, N, sizes, POOL_MAY_BLOCK, offsets), POOL_E_FULL);
	assert_int_equal(world_stats(pool).used, 16);
	assert_int_equal(pool_alloc_batch(member, N - 1, sizes, POOL_MAY_BLOCK, offsets), 0);
	assert_int_equal(world_stats(pool).allocations, N);
	world_check(pool);
	assert_int_equal(pool_alloc_batch(member, 0, sizes, POOL_MAY_BLOCK, offsets), 0);
	assert_int_equal(world_leave(member).n_blocks, N);
	assert_int_equal(world_stats(pool).free, N * 64);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_realloc_moves_what_does_not_fit(void **state)
{
	struct pool_member *member, *other;
	struct pool_block block;
	uint64_t first, second;
	struct world world;
	struct pool *pool;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1 << 20);
	member = world_join(&world, pool);
	other = world_join(&world, pool);
	first = world_alloc(member, 100);
	second = world_alloc(member, 100);
	assert_int_equal(pool_realloc(other, first, 200, POOL_MAY_BLOCK, &block), POOL_E_NOT_OWNER);
	assert_int_equal(pool_realloc(member, first, 200, POOL_MAY_BLOCK, &block), 0);
	assert_true(block.moved);
	assert_int_equal(block.old_size, 112);
	assert_int_equal(block.size, 208);
	assert_int_equal(block.owner, member->session);
	assert_int_equal(pool_free(member, first), 0); /* the old one stayed */
	assert_int_equal(pool_retain(member, second), 0);
	assert_int_equal(pool_realloc(member, second, 5000, POOL_MAY_BLOCK, &block), POOL_E_PINNED);
	assert_int_equal(pool_realloc(member, second, 112, POOL_MAY_BLOCK, &block), 0);
	assert_false(block.moved);
	assert_int_equal(pool_realloc(member, 0, 50, POOL_MAY_BLOCK, &block), 0);
	assert_int_equal(block.old_size, 0);
	assert_int_equal(pool_realloc(member, block.offset, UINT64_MAX, POOL_MAY_BLOCK, &block), POOL_E_FULL);
	assert_int_equal(pool_realloc(member, block.offset, 2 << 20, POOL_MAY_BLOCK, &block), POOL_E_FULL);
	world_check(pool);
	world_leave(member);
	world_leave(other);
	world_destroy(pool);
	world_deinit(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pool_alloc_checks_what_it_is_asked),
		cmocka_unit_test(test_pool_alloc_of_largest_free_succeeds),
		cmocka_unit_test(test_pool_guarded_block_has_room_on_both_sides),
		cmocka_unit_test(test_pool_free_tells_known_from_unknown),
		cmocka_unit_test(test_pool_block_lives_until_its_last_hold),
		cmocka_unit_test(test_pool_published_block_is_the_pools),
		cmocka_unit_test(test_pool_names_of_many_blocks_are_all_found),
		cmocka_unit_test(test_pool_take_moves_block_and_charge),
		cmocka_unit_test(test_pool_quota_holds_at_minus_one_zero_and_plus_one),
		cmocka_unit_test(test_pool_batch_is_all_or_none),
		cmocka_unit_test(test_pool_realloc_moves_what_does_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
