// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fcntl.h>
#include <time.h>

#include "pool_world.h"

#define GIB (UINT64_C(1) << 30)

/* ---- life ---- */

static void test_pool_of_16_bytes_works_to_the_last_granule(void **state)
{
	struct pool_member *member;
	struct pool_block block;
	struct world world;
	struct pool *pool;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1); /* rounded up */
	member = world_join(&world, pool);
	assert_int_equal(world_stats(pool).total, 16);
	assert_int_equal(pool_segment_bytes(pool), 8192);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(world_stats(pool).largest_free, 16);
		assert_int_equal(pool_alloc(member, 17, 0, POOL_MAY_BLOCK, &block), POOL_E_FULL);
		assert_int_equal(pool_alloc(member, 16, 0, POOL_MAY_BLOCK, &block), 0);
		assert_int_equal(block.offset, POOL_FIRST);
		assert_int_equal(pool_alloc(member, 1, 0, POOL_MAY_BLOCK, &block), POOL_E_FULL);
		assert_int_equal(pool_free(member, block.offset), 0);
		world_check(pool);
	}
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_with_bad_options_is_refused(void **state)
{
	struct pool_options options = world_options(0);
	struct world world;
	struct pool *pool;

	(void)state;
	world_init(&world);
	assert_int_equal(pool_new(&pool, &world.env, 1, &options), POOL_E_INVALID);
	options.size = UINT64_MAX;
	assert_int_equal(pool_new(&pool, &world.env, 1, &options), POOL_E_INVALID);
	options.size = 100;
	options.max_size = 99;
	assert_int_equal(pool_new(&pool, &world.env, 1, &options), POOL_E_INVALID);
	options.max_size = 0;
	options.n_name_bytes = NAME_BYTES_MAX + 1;
	assert_int_equal(pool_new(&pool, &world.env, 1, &options), POOL_E_INVALID);
	world_deinit(&world);
}

static void test_pool_of_1_tib_is_sparse_and_quick(void **state)
{
	struct pool_options options = world_options(1024 * GIB);
	struct pool_block low, high;
	struct pool_member *member;
	struct world world;
	struct pool *pool;
	uint64_t start_ns;

	(void)state;
	world_init(&world);
	start_ns = clock_ns(CLOCK_MONOTONIC);
	pool = world_pool_with(&world, &options);
	assert_true(clock_ns(CLOCK_MONOTONIC) - start_ns < 1000000000);
	member = world_join(&world, pool);
	assert_int_equal(pool_alloc(member, 100, 0, POOL_MAY_BLOCK, &low), 0);
	assert_int_equal(pool_alloc(member, 40000, 0, POOL_MAY_BLOCK, &high), 0); /* large ones from the high end */
	assert_true(high.offset > 5 * GIB);
	assert_int_equal(pool_free(member, high.offset), 0);
	assert_int_equal(pool_free(member, high.offset), POOL_E_FREED);
	assert_true(world_stats(pool).backed <= 1 << 20);
	assert_int_equal(world_stats(pool).total, 1024 * GIB);
	world_check(pool);
	assert_int_equal(world_leave(member).n_blocks, 1);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_rights_are_a_files(void **state)
{
	static const struct {
		uint32_t mode, uid, gid, extra;
		bool opens, manages;
	} rows[] = {
		{0600, WORLD_UID, 1, 0, true, true},
		{0400, WORLD_UID, 1, 0, false, true},
		{0066, WORLD_UID, WORLD_UID, 0, false, true},
		{0660, 5, WORLD_UID, 0, true, false},
		{0660, 5, 5, WORLD_UID, true, false},
		{0640, 5, WORLD_UID, 0, false, false},
		{0606, 5, WORLD_UID, 0, false, false},
		{0606, 5, 5, 0, true, false},
		{0660, 5, 5, 0, false, false},
		{0600, 0, 0, 0, true, true},
	};
	struct pool_options options = world_options(4096);
	struct world world;

	(void)state;
	world_init(&world);
	for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
		struct pool_identity who = {.uid = rows[i].uid,
					    .gid = rows[i].gid,
					    .groups = &rows[i].extra,
					    .n_groups = rows[i].extra != 0};
		struct pool *pool;

		options.mode = rows[i].mode;
		pool = world_pool_with(&world, &options);
		assert_int_equal(pool_may_open(pool, &who), rows[i].opens);
		assert_int_equal(pool_may_manage(pool, &who), rows[i].manages);
		world_destroy(pool);
	}
	world_deinit(&world);
}

static void expect_destroyed(struct pool_member *member, uint64_t offset)
{
	const struct pool_identity who = {.session = 99};
	struct pool_member *other;
	struct pool_warning warning;
	struct pool_block block;
	uint64_t sizes[] = {16}, offsets[1];

	assert_int_equal(pool_alloc(member, 16, 0, 0, &block), POOL_E_DESTROYED);
	assert_int_equal(pool_alloc_batch(member, 1, sizes, 0, offsets), POOL_E_DESTROYED);
	assert_int_equal(pool_free(member, offset), POOL_E_DESTROYED);
	assert_int_equal(pool_realloc(member, offset, 64, 0, &block), POOL_E_DESTROYED);
	assert_int_equal(pool_publish(member, offset, "n", 1), POOL_E_DESTROYED);
	assert_int_equal(pool_find(member, "n", 1, true, &block), POOL_E_DESTROYED);
	assert_int_equal(pool_retain(member, offset), POOL_E_DESTROYED);
	assert_int_equal(pool_take(member, offset, member->session), POOL_E_DESTROYED);
	assert_int_equal(pool_inspect(member, offset, &block), POOL_E_DESTROYED);
	assert_int_equal(pool_resize(member->pool, NULL, GIB, POOL_MAY_BLOCK), POOL_E_DESTROYED);
	assert_int_equal(pool_join(member->pool, &who, &other), POOL_E_DESTROYED);
	assert_int_equal(pool_destroy(member->pool, false, &warning), POOL_E_DESTROYED);
	assert_int_equal(pool_decay_step(member->pool), UINT64_MAX);
}

static void test_pool_destroyed_with_blocks_warns_and_charges_nobody(void **state)
{
	struct pool_member *members[5];
	struct pool_warning warning;
	struct world world;
	struct pool *pool;
	uint64_t offsets[5], bytes = 0;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1 << 20);
	for (uint32_t i = 0; i < 5; i++) {
		members[i] = world_join_as(&world, pool, WORLD_UID + i);
		offsets[i] = world_alloc(members[i], 1000 * (i + 1));
		bytes += round_up(1000 * (i + 1), 16);
	}
	assert_int_equal(pool_publish(members[4], offsets[4], "n", 1), 0);
	assert_int_equal(pool_retain(members[1], offsets[1]), 0);
	assert_int_equal(pool_destroy(pool, true, &warning), POOL_E_NOT_EMPTY);
	memset(&warning, 0xff, sizeof(warning));
	assert_int_equal(pool_destroy(pool, false, &warning), 0);
	assert_int_equal(warning.n_blocks, 5);
	assert_int_equal(warning.n_bytes, bytes);
	assert_int_equal(warning.n_holders, 4);
	assert_int_equal(warning.holders[0].session, 0);
	assert_int_equal(warning.holders[0].n_bytes, 5008);
	assert_int_equal(warning.holders[1].session, members[3]->session);
	assert_int_equal(warning.holders[3].session, members[1]->session);
	assert_int_equal(world_objects(&world), world.n_objects);
	for (uint32_t uid = WORLD_UID; uid < WORLD_UID + 5; uid++) {
		assert_int_equal(world_used(&world, uid, QUOTA_BYTES), 0);
		assert_int_equal(world_used(&world, uid, QUOTA_BLOCKS), 0);
	}
	assert_int_equal(world_stats(pool).allocations, 5);
	expect_destroyed(members[0], offsets[0]);
	for (int i = 0; i < 5; i++)
		assert_int_equal(world_leave(members[i]).n_blocks, 0);
	pool_unref(pool);
	world_deinit(&world);
}

static void test_pool_empty_is_destroyed_if_empty(void **state)
{
	struct pool_warning warning;
	struct world world;
	struct pool *pool;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 4096);
	assert_int_equal(pool_destroy(pool, true, &warning), 0);
	assert_int_equal(warning.n_blocks, 0);
	assert_int_equal(warning.n_holders, 0);
	pool_unref(pool);
	world_deinit(&world);
}

/* ---- blocks ---- */

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

/* ---- slow ---- */

static void test_pool_backs_much_only_for_one_who_may_block(void **state)
{
	struct pool_member *member;
	struct pool_block block;
	struct pool_stats before;
	struct world world;
	struct pool *pool;
	uint64_t sizes[2] = {POOL_SLOW_BYTES, POOL_SLOW_BYTES}, offsets[2], small;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 64 << 20);
	member = world_join(&world, pool);
	before = world_stats(pool);
	assert_int_equal(pool_alloc(member, 3 * POOL_SLOW_BYTES, 0, 0, &block), POOL_E_SLOW);
	assert_int_equal(pool_alloc_batch(member, 2, sizes, 0, offsets), POOL_E_SLOW);
	assert_memory_equal(&before, &(struct pool_stats[]){world_stats(pool)}[0], sizeof(before));
	assert_int_equal(world_used(&world, WORLD_UID, QUOTA_BYTES), 0);
	assert_int_equal(pool_alloc(member, 3 * POOL_SLOW_BYTES, 0, POOL_MAY_BLOCK, &block), 0);
	assert_int_equal(pool_free(member, block.offset), 0);
	assert_int_equal(pool_alloc(member, 3 * POOL_SLOW_BYTES, 0, 0, &block), 0); /* backed already */
	assert_int_equal(pool_free(member, block.offset), 0);
	small = world_alloc(member, 16);
	assert_int_equal(pool_realloc(member, small, 20 << 20, 0, &block), POOL_E_SLOW);
	assert_int_equal(pool_realloc(member, small, 20 << 20, POOL_MAY_BLOCK, &block), 0);
	assert_false(block.moved);
	assert_int_equal(world_stats(pool).backed, atomic_load(&pool->backing.backed_bytes));
	world_check(pool);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_short_of_memory_takes_it_from_its_gaps(void **state)
{
	struct pool_member *member;
	struct pool_block block;
	struct world world;
	struct pool *pool;
	uint64_t big, end;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 64 << 20);
	member = world_join(&world, pool);
	big = world_alloc(member, 8 << 20);
	end = world_alloc(member, 8 << 20);
	world.budget.limit_bytes = budget_spent(&world.budget);
	assert_int_equal(pool_alloc(member, 4 << 20, 0, POOL_MAY_BLOCK, &block), POOL_E_UNBACKED);
	assert_int_equal(pool_alloc(member, 100000, 0, 0, &block), POOL_E_SLOW);
	assert_int_equal(pool_alloc(member, 100000, 0, POOL_MAY_BLOCK, &block), POOL_E_UNBACKED);
	assert_int_equal(world_stats(pool).failed_total, 2);
	assert_int_equal(pool_free(member, big), 0);
	assert_int_equal(pool_alloc(member, 30 << 20, 0, POOL_MAY_BLOCK, &block), POOL_E_UNBACKED);
	assert_int_equal(pool_alloc(member, 16 << 10, 0, POOL_MAY_BLOCK, &block), 0);
	assert_int_equal(pool_realloc(member, block.offset, 6 << 20, POOL_MAY_BLOCK, &block), 0);
	assert_int_equal(pool_realloc(member, block.offset, 20 << 20, POOL_MAY_BLOCK, &block), POOL_E_UNBACKED);
	assert_true(budget_spent(&world.budget) <= world.budget.limit_bytes);
	assert_int_equal(pool_free(member, end), 0);
	world_check(pool);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

/* ---- pages ---- */

static uint64_t run_decay(struct pool *pool)
{
	uint64_t ms = 0;

	for (int i = 0; i < 10000 && !ms; i++)
		ms = pool_decay_step(pool);
	return ms;
}

static void test_pool_backed_rises_and_falls_with_its_blocks(void **state)
{
	struct pool_member *member;
	struct world world;
	struct pool *pool;
	uint64_t large, small, waits;

	(void)state;
	world_init(&world);
	world.env.decay_ms = 3600 * 1000;
	pool = world_pool(&world, 256 << 20);
	member = world_join(&world, pool);
	assert_int_equal(world_stats(pool).backed, 0);
	assert_int_equal(pool_decay_step(pool), UINT64_MAX);
	large = world_alloc(member, 100 << 20);
	assert_true(world_stats(pool).backed >= 100 << 20);
	small = world_alloc(member, DECAY_BYTES / 2);
	assert_int_equal(pool_free(member, large), 0);
	assert_int_equal(world.n_decays_wanted, 1);
	waits = pool_decay_step(pool);
	assert_in_range(waits, 3500 * 1000, 3600 * 1000);
	assert_true(world_stats(pool).backed >= 100 << 20); /* too young */
	world.env.decay_ms = 0;
	pool->decay_at_ms = 0;
	assert_int_equal(run_decay(pool), UINT64_MAX);
	assert_true(world_stats(pool).backed < 1 << 20);
	assert_int_equal(world_stats(pool).backed, atomic_load(&pool->backing.backed_bytes));
	assert_int_equal(world_stats(pool).backed + pool->lease.backed_bytes, budget_spent(&world.budget));
	world_check(pool);
	large = world_alloc(member, 10 << 20); /* punched pages are backed again */
	assert_true(world_stats(pool).backed >= 10 << 20);
	world_check(pool);
	assert_int_equal(pool_free(member, large), 0);
	assert_int_equal(pool_free(member, small), 0);
	assert_int_equal(world.n_decays_wanted, 2);
	assert_int_equal(run_decay(pool), UINT64_MAX);
	assert_int_equal(world_stats(pool).backed, 0);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_decay_comes_back_for_gaps_that_are_too_young(void **state)
{
	struct pool_member *member;
	struct world world;
	struct pool *pool;
	uint64_t offset;

	(void)state;
	world_init(&world);
	world.env.decay_ms = 3600 * 1000;
	pool = world_pool(&world, 16 << 20);
	member = world_join(&world, pool);
	offset = world_alloc(member, 1 << 20);
	assert_int_equal(pool_free(member, offset), 0);
	pool->decay_at_ms = 0; /* as if it were time to look */
	assert_in_range(run_decay(pool), 1, 3600 * 1000);
	assert_true(pool->decay_pending);
	assert_true(world_stats(pool).backed >= 1 << 20);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_reserved_is_backed_charged_and_kept(void **state)
{
	struct pool_options options = world_options(1 << 20);
	struct pool_member *member;
	struct pool_block block;
	struct world world;
	struct pool *pool;

	(void)state;
	world_init_limits(&world, 3 << 20, 2);
	options.reserve = true;
	options.max_size = 8 << 20;
	options.uid = WORLD_UID;
	pool = world_pool_with(&world, &options);
	member = world_join_as(&world, pool, WORLD_UID + 1);
	assert_int_equal(world_stats(pool).backed, 1 << 20);
	assert_int_equal(world_used(&world, WORLD_UID, QUOTA_BYTES), 1 << 20);
	assert_int_equal(pool_alloc(member, 1 << 20, 0, 0, &block), 0);
	assert_int_equal(world_used(&world, WORLD_UID + 1, QUOTA_BYTES), 0);
	assert_int_equal(world_used(&world, WORLD_UID + 1, QUOTA_BLOCKS), 1);
	assert_int_equal(pool_free(member, block.offset), 0);
	assert_int_equal(world.n_decays_wanted, 0);
	assert_int_equal(world_stats(pool).backed, 1 << 20);
	assert_int_equal(pool_resize(pool, NULL, 2 << 20, 0), POOL_E_SLOW);
	assert_int_equal(pool_resize(pool, NULL, 2 << 20, POOL_MAY_BLOCK), 0);
	assert_int_equal(world_stats(pool).backed, 2 << 20);
	assert_int_equal(world_used(&world, WORLD_UID, QUOTA_BYTES), 2 << 20);
	assert_int_equal(pool_resize(pool, NULL, (3 << 20) + 16, POOL_MAY_BLOCK), POOL_E_QUOTA);
	world.budget.limit_bytes = budget_spent(&world.budget);
	assert_int_equal(pool_resize(pool, NULL, 3 << 20, POOL_MAY_BLOCK), POOL_E_UNBACKED);
	assert_int_equal(world_stats(pool).total, 2 << 20);
	assert_int_equal(world_stats(pool).backed, 2 << 20);
	assert_int_equal(world_used(&world, WORLD_UID, QUOTA_BYTES), 2 << 20);
	world.budget.limit_bytes = UINT64_MAX;
	assert_int_equal(pool_resize(pool, NULL, 3 << 20, POOL_MAY_BLOCK), 0);
	world_check(pool);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_grows_to_its_max_and_no_further(void **state)
{
	struct pool_options options = world_options(100);
	struct pool_member *member;
	struct pool_block block;
	struct world world;
	struct pool *pool;
	struct stat st;

	(void)state;
	world_init(&world);
	options.max_size = 5 * GIB + 1;
	pool = world_pool_with(&world, &options);
	member = world_join(&world, pool);
	assert_int_equal(world_stats(pool).total, 112);
	assert_int_equal(pool_alloc(member, 112, 0, POOL_MAY_BLOCK, &block), 0);
	assert_int_equal(pool_resize(pool, NULL, 96, POOL_MAY_BLOCK), POOL_E_SHRINK);
	assert_int_equal(pool_resize(pool, NULL, 0, POOL_MAY_BLOCK), POOL_E_SHRINK);
	assert_int_equal(pool_resize(pool, NULL, 5 * GIB + 17, POOL_MAY_BLOCK), POOL_E_ABOVE_MAX);
	assert_int_equal(pool_resize(pool, NULL, UINT64_MAX, POOL_MAY_BLOCK), POOL_E_ABOVE_MAX);
	assert_int_equal(pool_resize(pool, NULL, 100, 0), 0);
	for (uint64_t size = 128; size < 5 * GIB; size *= 3) {
		assert_int_equal(pool_resize(pool, NULL, size, 0), 0);
		assert_int_equal(world_stats(pool).total, round_up(size, 16));
		assert_int_equal(fstat(pool_data_fd(pool), &st), 0);
		assert_int_equal(st.st_size, 4096 + round_up(size, 4096));
		assert_int_equal(pool_alloc(member, 17, 0, POOL_MAY_BLOCK, &block), size < 144 ? POOL_E_FULL : 0);
		world_check(pool);
	}
	assert_int_equal(pool_resize(pool, NULL, 5 * GIB + 1, 0), 0);
	assert_int_equal(pool_segment_bytes(pool), 4096 + round_up(5 * GIB + 1, 4096));
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

/* ---- members ---- */

static void test_pool_session_end_drops_what_was_its_own(void **state)
{
	struct pool_member *ending, *other;
	struct pool_warning report;
	struct world world;
	struct pool *pool;
	uint64_t leaked, shared, published, taken, retained_by_itself;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1 << 20);
	ending = world_join_as(&world, pool, WORLD_UID + 1);
	other = world_join_as(&world, pool, WORLD_UID + 2);
	leaked = world_alloc(ending, 160);
	retained_by_itself = world_alloc(ending, 320);
	shared = world_alloc(ending, 640);
	published = world_alloc(ending, 1280);
	taken = world_alloc(ending, 2560);
	assert_int_equal(pool_retain(ending, retained_by_itself), 0);
	assert_int_equal(pool_retain(ending, shared), 0);
	assert_int_equal(pool_retain(other, shared), 0);
	assert_int_equal(pool_publish(ending, published, "p", 1), 0);
	assert_int_equal(pool_take(other, taken, ending->session), 0);
	report = world_leave(ending);
	assert_int_equal(report.n_blocks, 2);
	assert_int_equal(report.n_bytes, 160 + 320);
	assert_int_equal(report.n_holders, 1);
	assert_int_equal(report.holders[0].pid, 4711);
	assert_true(report.holders[0].oldest_s != 0);
	assert_int_equal(world_used(&world, WORLD_UID + 1, QUOTA_BLOCKS), 0);
	assert_int_equal(world_used(&world, WORLD_UID, QUOTA_BYTES), 640 + 1280);
	assert_int_equal(pool_free(other, leaked), POOL_E_FREED);
	assert_int_equal(pool_free(other, shared), 0);
	assert_int_equal(pool_free(other, published), 0);
	assert_int_equal(pool_free(other, taken), 0);
	assert_int_equal(world_stats(pool).allocations, 0);
	world_check(pool);
	world_leave(other);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_of_lifetime_pool_keeps_what_a_session_leaves(void **state)
{
	struct pool_options options = world_options(1 << 20);
	struct pool_member *member;
	struct pool_holder holder;
	struct world world;
	struct pool *pool;
	uint64_t offset;

	(void)state;
	world_init(&world);
	options.lifetime = 1;
	pool = world_pool_with(&world, &options);
	member = world_join_as(&world, pool, WORLD_UID + 1);
	offset = world_alloc(member, 160);
	assert_int_equal(world_leave(member).n_blocks, 0);
	assert_int_equal(world_used(&world, WORLD_UID + 1, QUOTA_BYTES), 0);
	assert_int_equal(world_used(&world, WORLD_UID, QUOTA_BYTES), 160);
	assert_int_equal(pool_holders(pool, &holder, 1), 1);
	assert_int_equal(holder.session, 0);
	assert_int_equal(holder.n_blocks, 1);
	world_check(pool);
	member = world_join(&world, pool);
	assert_int_equal(pool_free(member, offset), 0);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_take_from_an_ending_session_is_stale(void **state)
{
	struct pool_member *ending, *other;
	struct pool_warning report = {0};
	struct world world;
	struct pool *pool;
	uint64_t first;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 64 << 20);
	ending = world_join(&world, pool);
	other = world_join(&world, pool);
	first = world_alloc(ending, 16); /* the last to be dropped */
	for (int i = 0; i < 300000; i++)
		world_alloc(ending, 16);
	assert_true(pool_leave_step(ending, &report));
	world_check(pool);
	assert_int_equal(pool_take(other, first, ending->session), POOL_E_STALE);
	assert_int_equal(pool_inspect(other, first, &(struct pool_block){0}), 0);
	while (pool_leave_step(ending, &report))
		;
	assert_int_equal(report.n_blocks, 300001);
	world_leave(other);
	world_destroy(pool);
	world_deinit(&world);
}

/* The time of the thread's own, which being preempted does not add to: a step is what holds the mutex. */
static void test_pool_session_end_of_1e6_blocks_holds_the_mutex_briefly(void **state)
{
	struct pool_member *member;
	struct pool_warning report = {0};
	uint64_t start_ns, ns, longest_ns = 0, n_steps = 0;
	struct world world;
	struct pool *pool;
	bool more;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 64 << 20);
	member = world_join(&world, pool);
	for (int i = 0; i < 1000000; i++)
		world_alloc(member, 16 + 16 * (i % 3));
	do {
		start_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		more = pool_leave_step(member, &report);
		ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_ns;
		longest_ns = ns > longest_ns ? ns : longest_ns;
		n_steps++;
	} while (more);
	printf("1e6 blocks ended in %llu steps, the longest %llu us\n", (unsigned long long)n_steps,
	       (unsigned long long)longest_ns / 1000);
	assert_int_equal(report.n_blocks, 1000000);
	assert_true(n_steps > 10);
	/* Sanitizers and a busy machine stretch the last item; a step without an end would be thousands of us. */
	assert_true(longest_ns < 10000000);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_members_are_listed_by_session(void **state)
{
	struct pool_member *members[20];
	struct pool_member_info infos[7];
	struct world world;
	struct pool *pool;
	uint64_t after = 0;
	uint32_t n, n_seen = 0;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1 << 20);
	for (int i = 0; i < 20; i++)
		members[i] = world_join(&world, pool);
	world_leave(members[7]);
	assert_int_equal(pool_retain(members[3], world_alloc(members[3], 100)), 0);
	while ((n = pool_members(pool, after, infos, N_ELEMENTS(infos)))) {
		for (uint32_t i = 0; i < n; i++) {
			assert_true(infos[i].session > after);
			after = infos[i].session;
			assert_int_equal(infos[i].n_blocks, after == members[3]->session);
			assert_int_equal(infos[i].n_bytes, after == members[3]->session ? 112 : 0);
			assert_int_equal(infos[i].n_holds, after == members[3]->session);
			assert_int_equal(infos[i].oldest_s != 0, after == members[3]->session);
			assert_string_equal(infos[i].command, "test");
		}
		n_seen += n;
	}
	assert_int_equal(n_seen, 19);
	assert_int_equal(world_stats(pool).sessions, 19);
	world_check(pool);
	for (int i = 0; i < 20; i++)
		if (i != 7)
			world_leave(members[i]);
	world_destroy(pool);
	world_deinit(&world);
}

/* ---- pictures ---- */

static void test_pool_cells_add_up_and_name_the_holder(void **state)
{
	enum {
		N_CELLS = 37
	};
	uint64_t used[N_CELLS], sum = 0;
	uint32_t holder[N_CELLS];
	struct pool_holder holders[2];
	struct pool_cells cells = {.n = N_CELLS, .used = used, .holder = holder, .holders = holders};
	struct pool_member *big, *small;
	struct world world;
	struct pool *pool;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1000000);
	small = world_join(&world, pool);
	big = world_join(&world, pool);
	world_alloc(small, 1000);
	world_alloc(big, 500000); /* from the high end */
	assert_int_equal(pool_holders(pool, holders, 2), 2);
	assert_int_equal(holders[0].session, big->session);
	cells.n_holders = 2;
	memset(used, 0xff, sizeof(used));
	memset(holder, 0xff, sizeof(holder));
	pool_draw(pool, &cells);
	assert_int_equal(cells.n, N_CELLS);
	assert_int_equal(cells.cell_bytes, 27040); /* 1000000 / 37 in whole granules */
	for (uint32_t i = 0; i < cells.n; i++)
		sum += used[i];
	assert_int_equal(sum, world_stats(pool).used);
	assert_int_equal(used[0], 1008);
	assert_int_equal(holder[0], 2);
	assert_int_equal(used[10], 0);
	assert_int_equal(holder[10], 0);
	assert_int_equal(used[30], cells.cell_bytes);
	assert_int_equal(holder[30], 1);
	assert_int_equal(holder[36], 1);
	cells.n_holders = 0;
	pool_draw(pool, &cells);
	assert_int_equal(holder[30], 0);
	world_leave(big);
	world_leave(small);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_tiny_has_fewer_cells_than_wanted(void **state)
{
	uint64_t used[80];
	uint32_t holder[80];
	struct pool_cells cells = {.n = 80, .used = used, .holder = holder};
	struct world world;
	struct pool *pool;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 40);
	pool_draw(pool, &cells);
	assert_int_equal(cells.n, 3);
	assert_int_equal(cells.cell_bytes, 16);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_gaps_are_largest_first(void **state)
{
	struct pool_gap gaps[300];
	struct pool_member *member;
	struct world world;
	struct pool *pool;
	uint64_t offsets[100], sum = 0;
	uint32_t n;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1 << 20);
	member = world_join(&world, pool);
	for (uint64_t i = 0; i < 100; i++)
		offsets[i] = world_alloc(member, 16 * (1 + i % 20));
	for (int i = 0; i < 100; i += 2)
		assert_int_equal(pool_free(member, offsets[i]), 0);
	n = pool_gaps(pool, gaps, N_ELEMENTS(gaps));
	assert_int_equal(n, world_stats(pool).gaps);
	for (uint32_t i = 0; i < n; i++) {
		assert_true(!i || gaps[i].size <= gaps[i - 1].size);
		sum += gaps[i].size;
	}
	assert_int_equal(sum, world_stats(pool).free);
	assert_int_equal(pool_gaps(pool, gaps, 3), 3);
	assert_int_equal(pool_gaps(pool, gaps, 0), 0);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_extents_with_any_hint_join_without_a_seam(void **state)
{
	static const uint64_t hints[] = {0, 1, 77, UINT32_MAX, UINT64_MAX};
	struct pool_extent page[8];
	struct pool_member *member;
	struct world world;
	struct pool *pool;
	uint64_t at, next, hint;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 100000);
	member = world_join(&world, pool);
	for (int i = 0; i < 200; i++)
		world_alloc(member, 16 * (1 + (uint64_t)i % 7));
	for (size_t k = 0; k < N_ELEMENTS(hints); k++) {
		at = POOL_FIRST;
		next = 0;
		do {
			hint = hints[k];
			for (uint32_t i = 0, n = pool_extents(pool, next, &hint, page, 1 + (uint32_t)k, &next); i < n;
			     i++) {
				assert_int_equal(page[i].offset, at);
				at += page[i].size;
			}
		} while (next);
		assert_int_equal(at, POOL_FIRST + world_stats(pool).total);
	}
	hint = 0;
	assert_int_equal(pool_extents(pool, POOL_FIRST + 5, &hint, page, 1, &next), 1);
	assert_int_equal(page[0].offset, POOL_FIRST + 5); /* clipped */
	assert_int_equal(page[0].size, 11);
	assert_int_equal(pool_extents(pool, UINT64_MAX, &hint, page, 1, &next), 0);
	assert_int_equal(next, 0);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_explains_within_the_buffer_it_got(void **state)
{
	struct pool_options options = world_options(1 << 20);
	struct pool_member *member;
	struct world world;
	struct pool *pool;
	char out[400];

	(void)state;
	world_init(&world);
	pool = world_pool_with(&world, &options);
	member = world_join(&world, pool);
	world_alloc(member, 900000);
	pool_explain_full(pool, POOL_E_FULL, 3 << 20, 0, out, sizeof(out));
	assert_string_equal(
		out,
		"allocating 3.00 MiB in pool \"p\": 145 KiB of 1.00 MiB is free, the largest gap takes 145 "
		"KiB; held by pid 4711 (test) 879 KiB; free blocks, or create a larger pool: this one was not made "
		"to grow");
	pool_explain_full(pool, POOL_E_FULL, 100, 2 << 20, out, sizeof(out));
	assert_non_null(strstr(out, "100 bytes at a multiple of 2.00 MiB"));
	pool_explain_full(pool, POOL_E_UNBACKED, 100, 16, out, sizeof(out));
	assert_non_null(strstr(out, "no memory"));
	for (size_t n = 0; n < 200; n++) {
		memset(out, '#', sizeof(out));
		pool_explain_full(pool, POOL_E_FULL, UINT64_MAX, 1 << 20, out, n);
		assert_int_equal(out[n], '#');
		assert_true(!n || strlen(out) < n);
	}
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

/* ---- check ---- */

static void expect_faults(struct pool *pool)
{
	struct pool_fault fault;

	assert_true(pool_check(pool, &fault, 1) > 0);
	assert_true(strlen(fault.what) > 0);
	assert_true(pool_check(pool, NULL, 0) > 0);
}

static void test_pool_check_sees_books_that_do_not_agree(void **state)
{
	struct pool_member *member;
	struct world world;
	struct pool *pool;
	uint32_t extent;
	uint64_t offset, word;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1 << 20);
	member = world_join(&world, pool);
	offset = world_alloc(member, 100);
	assert_int_equal(pool_retain(member, offset), 0);
	assert_int_equal(pool_publish(member, world_alloc(member, 100), "n", 1), 0);
	assert_int_equal(extent_map_find(&pool->map, offset, &extent), 0);
	world_check(pool);
	for (int i = 0; i < 9; i++) {
		uint64_t *bits = ledger_at(&pool->ledger, LEDGER_BACKED, 0);

		word = *bits;
		switch (i) {
		case 0:
			hold_record(pool, 0)->member++;
			expect_faults(pool);
			hold_record(pool, 0)->member--;
			break;
		case 1:
			name_record(pool, 0)->hash++;
			expect_faults(pool);
			name_record(pool, 0)->hash--;
			break;
		case 2:
			*bits = 0; /* granted, but not backed */
			expect_faults(pool);
			*bits = word;
			break;
		case 3:
			member->n_holds++;
			expect_faults(pool);
			member->n_holds--;
			break;
		case 4:
			pool->alloc_total++;
			expect_faults(pool);
			pool->alloc_total--;
			break;
		case 5:
			member->blocks.list.n_bytes += 16;
			expect_faults(pool);
			member->blocks.list.n_bytes -= 16;
			break;
		case 6:
			member->blocks.oldest = EXTENT_NONE;
			expect_faults(pool);
			member->blocks.oldest = extent;
			break;
		case 7:
			member_record(pool, member->index)->session++;
			expect_faults(pool);
			member_record(pool, member->index)->session--;
			break;
		case 8:
			pool->holds.n++;
			expect_faults(pool);
			pool->holds.n--;
			break;
		}
		world_check(pool);
	}
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

static void test_pool_dump_tells_everything(void **state)
{
	struct pool_member *member;
	struct world world;
	struct pool *pool;
	char *text = NULL;
	size_t n;
	FILE *out = open_memstream(&text, &n);
	uint64_t offset;

	(void)state;
	world_init(&world);
	pool = world_pool(&world, 1 << 20);
	member = world_join(&world, pool);
	offset = world_alloc(member, 100);
	assert_int_equal(pool_publish(member, offset, "frame", 5), 0);
	assert_int_equal(pool_retain(member, offset), 0);
	pool_dump(pool, out);
	fclose(out);
	assert_non_null(strstr(text, "pool 1 \"p\""));
	assert_non_null(strstr(text, "name \"frame\": 0x1000"));
	assert_non_null(strstr(text, "session 1 retains 0x1000 1 times"));
	free(text);
	world_leave(member);
	world_destroy(pool);
	world_deinit(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pool_of_16_bytes_works_to_the_last_granule),
		cmocka_unit_test(test_pool_with_bad_options_is_refused),
		cmocka_unit_test(test_pool_of_1_tib_is_sparse_and_quick),
		cmocka_unit_test(test_pool_rights_are_a_files),
		cmocka_unit_test(test_pool_destroyed_with_blocks_warns_and_charges_nobody),
		cmocka_unit_test(test_pool_empty_is_destroyed_if_empty),
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
		cmocka_unit_test(test_pool_backs_much_only_for_one_who_may_block),
		cmocka_unit_test(test_pool_short_of_memory_takes_it_from_its_gaps),
		cmocka_unit_test(test_pool_backed_rises_and_falls_with_its_blocks),
		cmocka_unit_test(test_pool_decay_comes_back_for_gaps_that_are_too_young),
		cmocka_unit_test(test_pool_reserved_is_backed_charged_and_kept),
		cmocka_unit_test(test_pool_grows_to_its_max_and_no_further),
		cmocka_unit_test(test_pool_session_end_drops_what_was_its_own),
		cmocka_unit_test(test_pool_of_lifetime_pool_keeps_what_a_session_leaves),
		cmocka_unit_test(test_pool_take_from_an_ending_session_is_stale),
		cmocka_unit_test(test_pool_session_end_of_1e6_blocks_holds_the_mutex_briefly),
		cmocka_unit_test(test_pool_members_are_listed_by_session),
		cmocka_unit_test(test_pool_cells_add_up_and_name_the_holder),
		cmocka_unit_test(test_pool_tiny_has_fewer_cells_than_wanted),
		cmocka_unit_test(test_pool_gaps_are_largest_first),
		cmocka_unit_test(test_pool_extents_with_any_hint_join_without_a_seam),
		cmocka_unit_test(test_pool_explains_within_the_buffer_it_got),
		cmocka_unit_test(test_pool_check_sees_books_that_do_not_agree),
		cmocka_unit_test(test_pool_dump_tells_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
