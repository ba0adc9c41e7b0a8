// SPDX-License-Identifier: MIT
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

static void test_pool_of_1_tib_is_sparse(void **state)
{
	struct pool_options options = world_options(1024 * GIB);
	struct pool_block low, high;
	struct pool_member *member;
	struct world world;
	struct pool *pool;

	(void)state;
	world_init(&world);
	pool = world_pool_with(&world, &options);
	assert_true(world_stats(pool).backed < 16 << 20);
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
	assert_int_equal(pool_decay_in(pool), UINT64_MAX);
	large = world_alloc(member, 100 << 20);
	assert_true(world_stats(pool).backed >= 100 << 20);
	small = world_alloc(member, DECAY_BYTES / 2);
	assert_int_equal(pool_free(member, large), 0);
	assert_int_equal(world.n_decays_wanted, 1);
	assert_in_range(pool_decay_in(pool), 3500 * 1000, 3600 * 1000);
	waits = pool_decay_step(pool);
	assert_in_range(waits, 3500 * 1000, 3600 * 1000);
	assert_true(world_stats(pool).backed >= 100 << 20); /* too young */
	world.env.decay_ms = 0;
	pool->decay_at_ms = 0;
	assert_int_equal(pool_decay_in(pool), 0);
	assert_true(world_stats(pool).backed >= 100 << 20); /* to be asked changes nothing */
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

/* A step is what holds the mutex. How long one takes, the benchmark says: here, that the work is cut into many, of a part each. */
static void test_pool_session_end_of_1e6_blocks_holds_the_mutex_briefly(void **state)
{
	struct pool_member *member;
	struct pool_warning report = {0};
	uint64_t start_ns, ns, longest_ns = 0, n_steps = 0, n_before, n_most = 0;
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
		n_before = report.n_blocks;
		start_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		more = pool_leave_step(member, &report);
		ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_ns;
		longest_ns = ns > longest_ns ? ns : longest_ns;
		n_most = report.n_blocks - n_before > n_most ? report.n_blocks - n_before : n_most;
		n_steps++;
	} while (more);
	printf("1e6 blocks ended in %llu steps, of %llu blocks and %llu us at most\n", (unsigned long long)n_steps,
	       (unsigned long long)n_most, (unsigned long long)longest_ns / 1000);
	assert_int_equal(report.n_blocks, 1000000);
	assert_true(n_most < 100000); /* which no machine comes to in half a millisecond */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pool_of_16_bytes_works_to_the_last_granule),
		cmocka_unit_test(test_pool_with_bad_options_is_refused),
		cmocka_unit_test(test_pool_of_1_tib_is_sparse),
		cmocka_unit_test(test_pool_rights_are_a_files),
		cmocka_unit_test(test_pool_destroyed_with_blocks_warns_and_charges_nobody),
		cmocka_unit_test(test_pool_empty_is_destroyed_if_empty),
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
