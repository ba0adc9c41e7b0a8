// SPDX-License-Identifier: MIT
#include "client_world.h"

#include <stdio.h>

static void test_alloc_fills_aligns_and_frees(void **state)
{
	mempool_offset offset = mempool_alloc(pool, 100);

	(void)state;
	assert_true(offset >= 4096 && offset % 16 == 0);
	assert_int_equal(mempool_usable_size(pool, offset), 112);
	assert_true(is_filled(offset, 0xCC, 112));
	assert_int_equal(used_now(), 112);
	assert_int_equal(mempool_free(pool, offset), 0);
	assert_int_equal(used_now(), 0);
}

static void test_alloc_aligned_as_offset_and_as_address(void **state)
{
	(void)state;
	make_pool(16u << 20, NULL);
	for (size_t alignment = 1; alignment <= MEMPOOL_ALIGNMENT_MAX; alignment *= 2) {
		mempool_offset offset = mempool_alloc_aligned(pool, 10, alignment);

		assert_true(offset && offset % alignment == 0);
		assert_true((uintptr_t)mempool_ptr(pool, offset) % alignment == 0);
	}
}

static void test_alloc_bad_input_gets_exactly_its_answer(void **state)
{
	static const size_t alignments[] = {0, 3, 24, 4u << 20, SIZE_MAX, (size_t)1 << 63};

	(void)state;
	errno = 0;
	assert_true(!mempool_alloc(pool, 0) && errno == EINVAL);
	errno = 0;
	assert_true(!mempool_alloc(NULL, 1) && errno == EINVAL);
	for (size_t i = 0; i < N_ELEMENTS(alignments); i++) {
		errno = 0;
		assert_true(!mempool_alloc_aligned(pool, 1, alignments[i]) && errno == EINVAL);
		assert_true(*mempool_last_error());
	}
	errno = 0;
	assert_true(!mempool_alloc(pool, 2u << 20) && errno == ENOSPC);
	assert_non_null(strstr(mempool_last_error(), "largest gap"));
	errno = 0;
	assert_true(!mempool_alloc(pool, SIZE_MAX) && errno == ENOSPC);
	errno = 0;
	assert_true(!mempool_alloc(pool, SIZE_MAX - 15) && errno == ENOSPC);
	assert_int_equal(used_now(), 0);
}

static void test_free_bad_input_gets_exactly_its_answer(void **state)
{
	mempool_offset offset = mempool_alloc(pool, 64), second = mempool_alloc(pool, 64);

	(void)state;
	assert_int_equal(mempool_free(pool, 0), 0);
	assert_int_equal(mempool_free(pool, offset + 8), -EFAULT);
	assert_int_equal(mempool_free(pool, offset + 16), -EFAULT);
	assert_int_equal(mempool_free(pool, 16), -EFAULT);
	assert_int_equal(mempool_free(pool, UINT64_MAX), -EFAULT);
	assert_int_equal(mempool_free(pool, (uint64_t)1 << 63), -EFAULT);
	assert_int_equal(used_now(), 128);
	assert_int_equal(mempool_free(pool, offset), 0);
	assert_int_equal(mempool_free(pool, offset), -EALREADY);
	assert_int_equal(used_now(), 64);
	assert_int_equal(mempool_free(pool, second), 0);
}

static void test_largest_free_can_be_had_to_the_last_granule(void **state)
{
	struct mempool_pool_options options = {.struct_size = sizeof(options), .lease = MEMPOOL_LEASE_OFF};
	struct mempool_stats stats;

	(void)state;
	make_pool(1u << 20, &options); /* extents alone: idle slots of a slab are not `free` */
	assert_true(mempool_alloc(pool, 1000) && mempool_alloc(pool, 50000));
	while (!mempool_pool_stats(pool, &stats) && stats.largest_free)
		assert_true(mempool_alloc(pool, stats.largest_free));
	assert_true(stats.used == stats.total && stats.free == 0 && stats.fragmentation == 0);
}

static void test_realloc_in_place_moved_and_refused(void **state)
{
	struct mempool_pool_options options = {.struct_size = sizeof(options), .lease = MEMPOOL_LEASE_OFF};
	mempool_offset a, b, moved;

	(void)state;
	make_pool(1u << 20, &options); /* a slot would move: see the next */
	a = mempool_alloc(pool, 64);
	memset(mempool_ptr(pool, a), 7, 64);
	assert_true(mempool_realloc(pool, a, 6400) == a);
	assert_true(is_filled(a, 7, 64) && is_filled(a + 64, 0xCC, 6400 - 64));
	b = mempool_alloc(pool, 64);
	assert_true(mempool_realloc(pool, a, 64) == a);
	moved = mempool_realloc(pool, a, 100000);
	assert_true(moved && moved != a);
	assert_true(is_filled(moved, 7, 64) && is_filled(moved + 64, 0xCC, 100000 - 64));
	assert_int_equal(mempool_free(pool, a), -EALREADY);
	errno = 0;
	assert_true(!mempool_realloc(pool, b, 0) && errno == EINVAL);
	errno = 0;
	assert_true(!mempool_realloc(pool, b, 64u << 20) && errno == ENOSPC);
	errno = 0;
	assert_true(!mempool_realloc(pool, b + 16, 10) && errno == EFAULT);
	assert_int_equal(used_now(), 100000 + 64);
	assert_true(mempool_realloc(pool, 0, 32));
	assert_int_equal(mempool_publish(pool, b, "named"), 0);
	errno = 0;
	assert_true(!mempool_realloc(pool, b, 1u << 20) && errno == EBUSY); /* it would have to move */
}

static void test_realloc_of_a_slot_stays_in_its_class(void **state)
{
	mempool_offset a, moved;

	(void)state;
	for (int i = 0; i < 64; i++) /* until this thread has a heap */
		assert_int_equal(mempool_free(pool, mempool_alloc(pool, 1000)), 0);
	a = mempool_alloc(pool, 1000);
	memset(mempool_ptr(pool, a), 7, 1000);
	assert_true(mempool_usable_size(pool, a) >= 1000);
	assert_true(mempool_realloc(pool, a, 990) == a && mempool_realloc(pool, a, mempool_usable_size(pool, a)) == a);
	moved = mempool_realloc(pool, a, 3000);
	assert_true(moved && moved != a);
	assert_true(is_filled(moved, 7, 1000) && is_filled(moved + 1024, 0xCC, 3000 - 1024));
	assert_int_equal(mempool_free(pool, a), -EALREADY);
	assert_true(!mempool_realloc(pool, a, 64) && errno == EALREADY);
	assert_int_equal(mempool_free(pool, moved), 0);
	assert_int_equal(used_now(), 0);
}

static void test_batch_is_all_or_none_beyond_one_frame(void **state)
{
	enum {
		N = 10000
	};
	static size_t sizes[N];
	static mempool_offset offsets[N];

	(void)state;
	make_pool(16u << 20, NULL);
	for (int i = 0; i < N; i++)
		sizes[i] = 16 + (size_t)i % 500;
	assert_int_equal(mempool_alloc_batch(pool, N, sizes, offsets), 0);
	for (int i = 0; i < N; i++) {
		assert_true(is_filled(offsets[i], 0xCC, sizes[i]));
		memset(mempool_ptr(pool, offsets[i]), i & 0xff, sizes[i]);
	}
	for (int i = 0; i < N; i++)
		assert_true(is_filled(offsets[i], i & 0xff, sizes[i])); /* no overlap */
	offsets[17] = 0;
	assert_int_equal(mempool_free_batch(pool, N, offsets), 0);
	assert_int_equal(mempool_free_batch(pool, 3, offsets + N - 3), -EALREADY);
	sizes[N - 1] = 64u << 20;
	memset(offsets, 0xAA, sizeof(offsets));
	assert_int_equal(mempool_alloc_batch(pool, N, sizes, offsets), -ENOSPC);
	assert_true(offsets[0] == UINT64_C(0xAAAAAAAAAAAAAAAA));
	sizes[3] = 0;
	assert_int_equal(mempool_alloc_batch(pool, N, sizes, offsets), -EINVAL);
	assert_int_equal(used_now(), 48); /* number 17, which was not freed */
}

static void test_fill_none_and_zero(void **state)
{
	struct mempool_pool_options options;
	mempool_offset offset;

	(void)state;
	mempool_pool_options_init(&options);
	options.fill = MEMPOOL_FILL_ZERO;
	make_pool(1u << 20, &options);
	offset = mempool_alloc(pool, 5000);
	memset(mempool_ptr(pool, offset), 1, 5000);
	assert_int_equal(mempool_free(pool, offset), 0);
	assert_true(is_filled(mempool_alloc(pool, 5000), 0, 5000));
	options.fill = MEMPOOL_FILL_NONE;
	make_pool(1u << 20, &options);
	offset = mempool_alloc(pool, 5000);
	memset(mempool_ptr(pool, offset), 9, 5000);
	assert_int_equal(mempool_free(pool, offset), 0);
	assert_true(is_filled(mempool_alloc(pool, 5000), 9, 5000));
}

static void start_with_short_frames(struct daemon *other)
{
	char path[128];
	FILE *config;

	assert_int_equal(daemon_init(other), 0);
	snprintf(path, sizeof(path), "%s/short.conf", other->dir);
	config = fopen(path, "w");
	assert_non_null(config);
	assert_true(fputs("[limits]\nrequest_frame = 256\n", config) >= 0);
	assert_int_equal(fclose(config), 0);
	assert_int_equal(daemon_start(other, (const char *[]){"--config", path, NULL}), 0);
}

static void test_batch_in_requests_as_short_as_the_daemon_wants(void **state)
{
	enum {
		N = 500
	};
	struct mempool_client *own;
	struct mempool_pool *mine;
	struct mempool_pool_options options;
	struct mempool_stats stats;
	mempool_offset offsets[N];
	struct daemon other;
	size_t sizes[N];

	(void)state;
	for (int i = 0; i < N; i++)
		sizes[i] = 16;
	mempool_pool_options_init(&options);
	options.lease = MEMPOOL_LEASE_OFF; /* all by request */
	start_with_short_frames(&other);
	assert_int_equal(mempool_connect(&own, other.socket), 0);
	assert_int_equal(mempool_pool_create(own, "short", 1 << 20, &options, &mine), 0);
	assert_int_equal(mempool_alloc_batch(mine, N, sizes, offsets), 0);
	assert_int_equal(mempool_free_batch(mine, N, offsets), 0);
	assert_int_equal(mempool_pool_stats(mine, &stats), 0);
	assert_int_equal(stats.used, 0);
	mempool_pool_close(mine);
	assert_int_equal(mempool_pool_destroy(own, "short", 0), 0);
	mempool_disconnect(own);
	assert_int_equal(daemon_stop(&other), 0);
	daemon_deinit(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_alloc_fills_aligns_and_frees),
		TEST(test_alloc_aligned_as_offset_and_as_address),
		TEST(test_alloc_bad_input_gets_exactly_its_answer),
		TEST(test_free_bad_input_gets_exactly_its_answer),
		TEST(test_largest_free_can_be_had_to_the_last_granule),
		TEST(test_realloc_in_place_moved_and_refused),
		TEST(test_realloc_of_a_slot_stays_in_its_class),
		TEST(test_batch_is_all_or_none_beyond_one_frame),
		TEST(test_batch_in_requests_as_short_as_the_daemon_wants),
		TEST(test_fill_none_and_zero),
	};

	return cmocka_run_group_tests(tests, world_begin, world_end);
}
