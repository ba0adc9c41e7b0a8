// SPDX-License-Identifier: MIT
#include "client_world.h"

#include <stdio.h>

static void make_guarded(void)
{
	struct mempool_pool_options options;

	mempool_pool_options_init(&options);
	options.guard = 1;
	make_pool(1u << 20, &options);
}

/* One byte at @at off the block's begin is overwritten; check and free have to name it and @side. */
static void damage(int64_t at, const char *side)
{
	mempool_offset offset = mempool_alloc(pool, 101);
	char report[1024] = "", begin[32];
	FILE *stream = fmemopen(report, sizeof(report), "w");

	assert_int_equal(mempool_usable_size(pool, offset), 101);
	assert_int_equal(mempool_pool_check(pool, NULL), 0);
	*((char *)mempool_ptr(pool, offset) + at) ^= 1;
	assert_int_equal(mempool_pool_check(pool, stream), 1);
	fclose(stream);
	snprintf(begin, sizeof(begin), "0x%llx ", (unsigned long long)offset);
	assert_memory_equal(report, begin, strlen(begin));
	assert_non_null(strstr(report, side));
	assert_non_null(strstr(report, "session"));
	assert_int_equal(mempool_free(pool, offset), -EBADMSG);
	assert_non_null(strstr(mempool_last_error(), side));
	assert_int_equal(used_now(), 0); /* freed all the same */
}

static void test_guard_finds_one_byte_on_either_side(void **state)
{
	(void)state;
	make_guarded();
	damage(101, "after");
	damage(-1, "before");
	damage(-16, "before");
	damage(112 + 15, "after"); /* the last byte of it */
}

static void test_guard_leaves_the_block_to_its_user(void **state)
{
	mempool_offset offset, larger;

	(void)state;
	make_guarded();
	offset = mempool_alloc_aligned(pool, 1000, 4096);
	assert_true(offset % 4096 == 0 && is_filled(offset, 0xCC, 1000));
	memset(mempool_ptr(pool, offset), 1, 1000);
	larger = mempool_realloc(pool, offset, 3000);
	assert_true(larger && is_filled(larger, 1, 1000) && is_filled(larger + 1000, 0xCC, 2000));
	memset(mempool_ptr(pool, larger), 2, 3000);
	assert_int_equal(mempool_pool_check(pool, NULL), 0);
	assert_int_equal(mempool_free(pool, larger), 0);
	assert_int_equal(used_now(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_guard_finds_one_byte_on_either_side),
		TEST(test_guard_leaves_the_block_to_its_user),
	};

	return cmocka_run_group_tests(tests, world_begin, world_end);
}
