// SPDX-License-Identifier: MIT
#include "proto/lease_word.h"

#include "tests/lib/test.h"

static void test_size_class_wastes_an_eighth_at_most(void **state)
{
	uint32_t before = 0;

	(void)state;
	for (uint64_t size = 1; size <= SIZE_CLASS_BYTES_MAX; size += size < 70000 ? 1 : 97) {
		uint32_t class = size_class_of(size);

		assert_in_range(class, before, SIZE_CLASS_N - 1);
		assert_true(size_class_bytes(class) >= size);
		assert_true(!class || size_class_bytes(class - 1) < size); /* the smallest that holds it */
		if (size > 128)
			assert_true((size_class_bytes(class) - size) * 8 <= size_class_bytes(class));
		before = class;
	}
	assert_int_equal(size_class_of(SIZE_CLASS_BYTES_MAX), SIZE_CLASS_N - 1);
	assert_int_equal(size_class_of(SIZE_CLASS_CUT_MAX), SIZE_CLASS_CUT_N - 1);
	assert_int_equal(size_class_bytes(SIZE_CLASS_CUT_N - 1), SIZE_CLASS_CUT_MAX);
}

static void test_size_class_bytes_are_whole_granules(void **state)
{
	(void)state;
	for (uint32_t class = 0; class < SIZE_CLASS_N; class ++) {
		assert_int_equal(size_class_bytes(class) % 16, 0);
		assert_int_equal(size_class_of(size_class_bytes(class)), class);
	}
}

static void test_slot_at_finds_starts_and_nothing_else(void **state)
{
	(void)state;
	for (uint32_t class = 0; class < SIZE_CLASS_CUT_N; class ++) {
		uint32_t slot_bytes = (uint32_t)size_class_bytes(class);
		uint32_t n_slots = (256u << 10) / slot_bytes;
		uint64_t reciprocal = lease_reciprocal_of(slot_bytes);
		uint32_t slot;

		for (uint64_t distance = 0; distance < (300u << 10); distance += 8) {
			bool starts = distance % slot_bytes == 0 && distance / slot_bytes < n_slots;

			assert_int_equal(lease_slot_at(distance, reciprocal, n_slots, &slot), starts);
			if (starts)
				assert_int_equal(slot, distance / slot_bytes);
		}
	}
}

static void test_words_are_one_thing_each(void **state)
{
	(void)state;
	for (uint32_t word = 0; word <= UINT16_MAX; word++) {
		bool cached = lease_is_cached((uint16_t)word), live = lease_is_live((uint16_t)word);

		assert_false(cached && live);
		if (!word)
			assert_false(cached || live);
	}
	assert_true(lease_is_cached(LEASE_FREE));
	assert_int_equal(lease_heap_of(lease_cached_by(7)), 7);
	assert_int_equal(lease_heap_of(lease_live_of(LEASE_HEAPS_MAX - 1)), LEASE_HEAPS_MAX - 1);
	assert_int_equal(lease_heap_of(LEASE_PINNED), 0);
	assert_int_equal(lease_heap_of(LEASE_POOLS), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size_class_wastes_an_eighth_at_most),
		cmocka_unit_test(test_size_class_bytes_are_whole_granules),
		cmocka_unit_test(test_slot_at_finds_starts_and_nothing_else),
		cmocka_unit_test(test_words_are_one_thing_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
