// SPDX-License-Identifier: MIT
#include <errno.h>
#include <string.h>

#include "tests/lib/map.h"
#include "tests/lib/test.h"

static struct test_map t;

static void begin(uint64_t total_bytes, uint64_t max_bytes)
{
	memset(&t, 0xff, sizeof(t));
	assert_int_equal(test_map_init(&t, total_bytes, max_bytes), 0);
}

static void end(void)
{
	assert_int_equal(extent_map_check(&t.map, stderr), 0);
	test_map_deinit(&t);
}

static int take(uint64_t size, uint64_t alignment, uint64_t bias, uint32_t *extentp)
{
	int r = extent_map_take(&t.map, size, alignment, bias, 0, 7, 1, extentp);

	if (!r)
		extent_map_publish(&t.map, *extentp, 3, &t.owner);
	intent_commit(&t.ledger);
	return r;
}

static void give(uint32_t extent)
{
	extent_map_give(&t.map, extent, &t.owner, 2);
	intent_commit(&t.ledger);
}

static void test_extent_smallest_pool_serves_its_only_granule(void **state)
{
	uint32_t a, b;

	(void)state;
	begin(16, 16);
	assert_int_equal(take(32, 16, 0, &a), EXTENT_E_EXHAUSTED);
	assert_int_equal(take(16, 16, 0, &a), 0);
	assert_int_equal(extent_offset(&t.map, a), MAP_FIRST);
	assert_int_equal(take(16, 16, 0, &b), EXTENT_E_EXHAUSTED);
	give(a);
	assert_int_equal(take(16, 16, 0, &b), 0);
	end();
}

static void test_extent_every_granule_can_be_a_block(void **state)
{
	uint32_t extents[1000], one;

	(void)state;
	begin(16000, 16000);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(take(16, 16, 0, &extents[i]), 0);
	assert_int_equal(take(16, 16, 0, &one), EXTENT_E_EXHAUSTED);
	assert_int_equal(t.map.free_bytes, 0);
	assert_int_equal(extent_map_largest_gap(&t.map), 0);
	for (int i = 0; i < 1000; i += 2)
		give(extents[i]);
	assert_int_equal(extent_map_check(&t.map, stderr), 0);
	assert_int_equal(take(32, 16, 0, &one), EXTENT_E_EXHAUSTED);
	for (int i = 1; i < 1000; i += 2)
		give(extents[i]);
	assert_int_equal(t.map.n_gaps, 1);
	assert_int_equal(t.owner.n_blocks, 0);
	end();
}

static void test_extent_take_keeps_every_alignment_and_bias(void **state)
{
	(void)state;
	begin(64u << 20, 64u << 20);
	for (uint64_t alignment = 16; alignment <= 2u << 20; alignment *= 2) {
		for (uint64_t bias = 0; bias <= 16; bias += 16) {
			uint32_t small, large;

			assert_int_equal(take(48, alignment, bias, &small), 0);
			assert_int_equal((extent_offset(&t.map, small) + bias) % alignment, 0);
			assert_int_equal(take(100000, alignment, bias, &large), 0);
			assert_int_equal((extent_offset(&t.map, large) + bias) % alignment, 0);
		}
	}
	end();
}

static void test_extent_aligned_fits_where_only_one_place_does(void **state)
{
	uint32_t one;

	(void)state;
	begin((4u << 20) - MAP_FIRST, 4u << 20); /* [4 KiB, 4 MiB): one 2 MiB block, and only at 2 MiB */
	assert_int_equal(take(2u << 20, 2u << 20, 0, &one), 0);
	assert_int_equal(extent_offset(&t.map, one), 2u << 20);
	end();
}

static void test_extent_largest_gap_can_always_be_had(void **state)
{
	uint32_t extents[300], n = 0, one;

	(void)state;
	begin(1u << 20, 1u << 20);
	while (n < 300 && !take(16 * (1 + n * 37 % 211), 16, 0, &extents[n]))
		n++;
	for (uint32_t i = 0; i < n; i += 3)
		give(extents[i]);
	while (extent_map_largest_gap(&t.map)) {
		assert_int_equal(take(extent_map_largest_gap(&t.map) + 16, 16, 0, &one), EXTENT_E_EXHAUSTED);
		assert_int_equal(take(extent_map_largest_gap(&t.map), 16, 0, &one), 0);
	}
	assert_int_equal(t.map.free_bytes, 0);
	end();
}

static void test_extent_resize_grows_into_the_gap_behind_and_back(void **state)
{
	uint32_t a, b;

	(void)state;
	begin(4096, 4096);
	assert_int_equal(take(64, 16, 0, &a), 0);
	assert_int_equal(take(64, 16, 0, &b), 0);
	assert_int_equal(extent_map_resize(&t.map, a, 128, 0, &t.owner, 2), EXTENT_E_NO_ROOM);
	give(b);
	assert_int_equal(extent_map_resize(&t.map, a, 4096, 0, &t.owner, 2), 0);
	assert_int_equal(t.map.n_gaps, 0);
	assert_int_equal(extent_map_resize(&t.map, a, 4112, 0, &t.owner, 2), EXTENT_E_NO_ROOM);
	assert_int_equal(extent_map_resize(&t.map, a, 16, 0, &t.owner, 2), 0);
	assert_int_equal(t.owner.n_bytes, 16);
	assert_int_equal(extent_map_room_behind(&t.map, a), 4080);
	end();
}

static void test_extent_offsets_beyond_32_bits(void **state)
{
	uint64_t total = UINT64_C(1) << 40;
	uint32_t low, high, found;

	(void)state;
	begin(total, total);
	assert_int_equal(take(total - 4096, 16, 0, &high), 0);
	assert_int_equal(take(4096, 16, 0, &low), 0);
	assert_int_equal(t.map.free_bytes, 0);
	assert_int_equal(extent_map_at(&t.map, MAP_FIRST + total - 1, EXTENT_NONE),
			 extent_map_next(&t.map, low) == EXTENT_NONE ? low : high);
	assert_int_equal(extent_map_find(&t.map, extent_offset(&t.map, high), &found), 0);
	assert_int_equal(found, high);
	assert_int_equal(extent_map_find(&t.map, extent_offset(&t.map, high) + 16, &found), EXTENT_E_NONE);
	end();
}

static void test_extent_at_is_right_with_any_hint(void **state)
{
	uint32_t extents[64], one;

	(void)state;
	begin(64 * 160, 64 * 160);
	for (int i = 0; i < 64; i++)
		assert_int_equal(take(160, 16, 0, &extents[i]), 0);
	for (int i = 0; i < 64; i += 2)
		give(extents[i]);
	for (uint64_t at = MAP_FIRST; at < MAP_FIRST + 64 * 160; at += 8)
		for (uint32_t hint = 0; hint < 140; hint += 7) {
			one = extent_map_at(&t.map, at, hint == 133 ? EXTENT_NONE : hint);
			assert_true(extent_offset(&t.map, one) <= at &&
				    at - extent_offset(&t.map, one) < extent_size(&t.map, one));
		}
	assert_int_equal(extent_map_at(&t.map, MAP_FIRST - 1, 0), EXTENT_NONE);
	assert_int_equal(extent_map_at(&t.map, MAP_FIRST + 64 * 160, 0), EXTENT_NONE);
	end();
}

static void test_extent_largest_gaps_are_sorted(void **state)
{
	uint32_t extents[200], gaps[150], n;

	(void)state;
	begin(1u << 20, 1u << 20);
	for (uint32_t i = 0; i < 200; i++)
		assert_int_equal(take(16 * (1 + i * 53 % 97), 16, 0, &extents[i]), 0);
	for (uint32_t i = 0; i < 200; i += 2)
		give(extents[i]);
	n = extent_map_largest_gaps(&t.map, gaps, 150);
	assert_int_equal(n, t.map.n_gaps);
	for (uint32_t i = 1; i < n; i++)
		assert_true(extent_size(&t.map, gaps[i]) <= extent_size(&t.map, gaps[i - 1]));
	assert_int_equal(extent_map_largest_gaps(&t.map, gaps, 5), 5);
	end();
}

static void test_extent_full_books_refuse_and_change_nothing(void **state)
{
	struct ledger_shape shape = {0};
	uint32_t one, n_taken = 0;
	uint64_t free_bytes;

	(void)state;
	extent_map_shape(&shape, 1u << 20);
	shape.n_max[LEDGER_EXTENTS] = shape.n_max[LEDGER_LINKS] = 10;
	t.owner = (struct extent_owner){.head = EXTENT_NONE};
	assert_int_equal(ledger_init(&t.ledger, memfd_create("l", MFD_CLOEXEC), &shape), 0);
	assert_int_equal(extent_map_init(&t.map, &t.ledger, MAP_FIRST, 1u << 20), 0);
	while (!take(64, 16, 0, &one))
		n_taken++;
	assert_in_range(n_taken, 7, 9);
	free_bytes = t.map.free_bytes;
	assert_int_equal(take(64, 16, 0, &one), -ENOSPC);
	assert_true(t.map.free_bytes == free_bytes);
	assert_int_equal(extent_map_check(&t.map, stderr), 0);
	while (t.owner.head != EXTENT_NONE)
		give(t.owner.head); /* giving back needs no space */
	assert_int_equal(t.map.n_gaps, 1);
	end();
}

static void test_extent_grow_joins_the_last_gap(void **state)
{
	uint32_t one;

	(void)state;
	begin(160, 4096);
	assert_int_equal(take(64, 16, 0, &one), 0);
	assert_int_equal(extent_map_grow(&t.map, 1600, 2), 0);
	assert_int_equal(t.map.n_gaps, 1);
	assert_int_equal(extent_map_largest_gap(&t.map), 160 - 64 + 1600);
	assert_int_equal(take(160 - 64 + 1600, 16, 0, &one), 0);
	assert_int_equal(extent_map_grow(&t.map, 16, 2), 0);
	assert_int_equal(extent_map_largest_gap(&t.map), 16);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_extent_smallest_pool_serves_its_only_granule),
		cmocka_unit_test(test_extent_every_granule_can_be_a_block),
		cmocka_unit_test(test_extent_take_keeps_every_alignment_and_bias),
		cmocka_unit_test(test_extent_aligned_fits_where_only_one_place_does),
		cmocka_unit_test(test_extent_largest_gap_can_always_be_had),
		cmocka_unit_test(test_extent_resize_grows_into_the_gap_behind_and_back),
		cmocka_unit_test(test_extent_offsets_beyond_32_bits),
		cmocka_unit_test(test_extent_at_is_right_with_any_hint),
		cmocka_unit_test(test_extent_largest_gaps_are_sorted),
		cmocka_unit_test(test_extent_full_books_refuse_and_change_nothing),
		cmocka_unit_test(test_extent_grow_joins_the_last_gap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
