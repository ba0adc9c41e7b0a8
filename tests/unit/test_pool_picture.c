// SPDX-License-Identifier: MIT
#include "pool_world.h"

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
	pool_explain_full(pool, POOL_E_FULL, world_stats(pool).largest_free + 1, 0, out, sizeof(out));
	assert_non_null(strstr(out, "allocating 145 KiB in")); /* which would read as if it fitted */
	assert_non_null(strstr(out, "the largest gap takes 145 KiB, 1 byte too little; held"));
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
