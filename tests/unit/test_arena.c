// SPDX-License-Identifier: MIT
#include "tests/lib/test.h"

#include <string.h>

#include "proto/mempool.pb-c.h"
#include "server/arena.h"

static void *take(struct arena *arena, size_t n_bytes)
{
	return arena->allocator.alloc(arena->allocator.allocator_data, n_bytes);
}

static void test_arena_gives_zeroed_aligned_memory_again_after_reset(void **state)
{
	struct arena arena;
	uint8_t *first;

	(void)state;
	memset(&arena, 0xff, sizeof(arena));
	assert_int_equal(arena_init(&arena, 4096, 16), 0);
	for (int round = 0; round < 3; round++) {
		first = take(&arena, 24);
		assert_non_null(first);
		assert_int_equal((uintptr_t)first % 16, 0);
		for (size_t i = 0; i < 24; i++)
			assert_int_equal(first[i], 0);
		memset(first, 0xee, 24);
		arena.allocator.free(&arena, first); /* changes nothing */
		assert_ptr_not_equal(take(&arena, 1), first);
		arena_reset(&arena);
	}
	arena_deinit(&arena);
	arena_deinit(&arena);
}

static void test_arena_bytes_end_at_the_limit(void **state)
{
	struct arena arena;

	(void)state;
	assert_int_equal(arena_init(&arena, 4096, 16), 0);
	assert_non_null(take(&arena, 4096 - 16));
	assert_false(arena.is_exhausted);
	assert_null(take(&arena, 17));
	assert_true(arena.is_exhausted);
	arena_reset(&arena);
	assert_false(arena.is_exhausted);
	assert_non_null(take(&arena, 4096));
	assert_null(take(&arena, 0)); /* it would need an address of its own */
	arena_reset(&arena);
	assert_null(take(&arena, SIZE_MAX)); /* cannot be rounded up */
	assert_true(arena.is_exhausted);
	arena_deinit(&arena);
}

static void test_arena_objects_end_at_the_limit(void **state)
{
	struct arena arena;

	(void)state;
	assert_int_equal(arena_init(&arena, 4096, 3), 0);
	for (int i = 0; i < 3; i++)
		assert_non_null(take(&arena, 1));
	assert_null(take(&arena, 1));
	assert_true(arena.is_exhausted);
	arena_deinit(&arena);
}

static void test_arena_large_request_is_given_back_to_the_kernel(void **state)
{
	struct arena arena;
	uint8_t *memory;

	(void)state;
	assert_int_equal(arena_init(&arena, 1 << 20, 16), 0);
	memory = take(&arena, 1 << 20);
	assert_non_null(memory);
	memset(memory, 0xee, 1 << 20);
	arena_reset(&arena);
	assert_int_equal(memory[(1 << 20) - 1], 0); /* a fresh page: nobody has zeroed it since */
	assert_int_equal(memory[0], 0xee);	    /* kept */
	arena_deinit(&arena);
}

/* Decoding fails for want of memory and for bad input; the arena tells which. */
static void test_arena_tells_exhausted_from_malformed(void **state)
{
	static const uint8_t ping[] = {0x08, 0x01, 0xc2, 0x03, 0x00}, garbage[] = {0x08, 0x01, 0xc2, 0x03, 0x05};
	struct arena arena;

	(void)state;
	assert_int_equal(arena_init(&arena, 4096, 16), 0);
	assert_non_null(mempool__wire__request__unpack(&arena.allocator, sizeof(ping), ping));
	arena_reset(&arena);
	assert_null(mempool__wire__request__unpack(&arena.allocator, sizeof(garbage), garbage));
	assert_false(arena.is_exhausted);
	arena_deinit(&arena);
	assert_int_equal(arena_init(&arena, 4096, 1), 0);
	assert_null(mempool__wire__request__unpack(&arena.allocator, sizeof(ping), ping));
	assert_true(arena.is_exhausted);
	arena_deinit(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arena_gives_zeroed_aligned_memory_again_after_reset),
		cmocka_unit_test(test_arena_bytes_end_at_the_limit),
		cmocka_unit_test(test_arena_objects_end_at_the_limit),
		cmocka_unit_test(test_arena_large_request_is_given_back_to_the_kernel),
		cmocka_unit_test(test_arena_tells_exhausted_from_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
