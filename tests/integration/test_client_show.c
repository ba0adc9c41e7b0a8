// SPDX-License-Identifier: MIT
#include "client_world.h"

#include <stdio.h>
#include <time.h>

static int count_pool(void *arg, const struct mempool_pool_info *info)
{
	*(int *)arg += !strcmp(info->name, "p") && info->total == 1u << 20;
	return 0;
}

static int count_session(void *arg, const struct mempool_session_info *info)
{
	*(int *)arg += info->session == mempool_session(client) && info->pid == getpid() && info->blocks == 1 &&
		       !strcmp(info->state, "active");
	return 0;
}

static void test_lists_and_infos_tell_the_truth(void **state)
{
	struct mempool_daemon_info daemon_info = {.struct_size = sizeof(daemon_info)};
	struct mempool_pool_info info = {.struct_size = sizeof(info)};
	int n = 0;

	(void)state;
	assert_true(mempool_alloc(pool, 100));
	assert_int_equal(mempool_pool_list(client, count_pool, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(mempool_session_list(client, "p", count_session, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(mempool_session_list(client, "nobody", count_session, &n), -ENOENT);
	assert_int_equal(mempool_pool_get_info(pool, &info), 0);
	assert_string_equal(info.name, "p");
	assert_int_equal(info.allocations, 1);
	assert_int_equal(mempool_daemon_info(client, &daemon_info), 0);
	assert_string_equal(daemon_info.version, mempool_version());
	assert_int_equal(daemon_info.pid, world.pid);
	assert_int_equal(daemon_info.limit_requests_in_flight, 128);
	assert_true(daemon_info.n_loops >= 1);
}

static void test_stats_of_callers_of_other_ages(void **state)
{
	struct {
		struct mempool_stats known;
		uint64_t tail;
	} newer;
	uint64_t total_only = 0;

	(void)state;
	memset(&newer, 0xff, sizeof(newer));
	assert_int_equal(mempool_pool_stats_sized(pool, &newer.known, sizeof(newer)), 0);
	assert_true(newer.tail == 0 && newer.known.total == 1u << 20);
	assert_int_equal(mempool_pool_stats_sized(pool, (struct mempool_stats *)(void *)&total_only, 8), 0);
	assert_true(total_only == 1u << 20);
}

static void draw_with(enum mempool_format format, uint32_t color, char *out, size_t n_out)
{
	struct mempool_visualize_options options = {.struct_size = sizeof(options), .format = format, .color = color};
	FILE *stream = fmemopen(out, n_out, "w");

	assert_int_equal(mempool_pool_visualize(pool, stream, &options), 0);
	fclose(stream);
}

static void draw(enum mempool_format format, char *out, size_t n_out)
{
	draw_with(format, 0, out, n_out);
}

static void test_visualize_draws_in_every_format(void **state)
{
	static char out[1 << 16];

	(void)state;
	assert_true(mempool_alloc(pool, 500000));
	draw(MEMPOOL_FORMAT_ASCII, out, sizeof(out));
	assert_non_null(strstr(out, "AAAA"));
	assert_non_null(strstr(out, "gaps: 1"));
	draw(MEMPOOL_FORMAT_UNICODE, out, sizeof(out));
	assert_non_null(strstr(out, "█"));
	draw(MEMPOOL_FORMAT_JSON, out, sizeof(out));
	assert_non_null(strstr(out, "\"total\":1048576"));
}

static void test_visualize_tells_idle_slots_from_gaps_and_holders_apart(void **state)
{
	static char out[1 << 16];
	static mempool_offset offsets[20000];
	struct mempool_client *other;
	struct mempool_pool *theirs;

	(void)state;
	make_pool(8u << 20, NULL);
	assert_int_equal(mempool_connect(&other, world.socket), 0);
	assert_int_equal(mempool_pool_open(other, "p", &theirs), 0);
	draw(MEMPOOL_FORMAT_ASCII, out, sizeof(out));
	assert_null(strstr(out, "idle"));
	assert_non_null(strstr(out, " 1 other session\n"));
	for (int i = 0; i < 20000; i++)
		assert_true(offsets[i] = mempool_alloc(pool, 100));
	assert_true(mempool_alloc(theirs, 1000000));
	assert_int_equal(mempool_free_batch(pool, 19999, offsets), 0);
	draw(MEMPOOL_FORMAT_ASCII, out, sizeof(out));
	assert_non_null(strstr(out, ". free  - idle in slabs  a < half"));
	assert_non_null(strstr(out, "idle in slabs: "));
	assert_non_null(strstr(out, "----")); /* on the map */
	assert_non_null(strstr(out, "...."));
	assert_non_null(strstr(out, "AAAA"));
	assert_non_null(strstr(out, "\n  B "));
	draw(MEMPOOL_FORMAT_UNICODE, out, sizeof(out));
	assert_non_null(strstr(out, "· free  ╌ idle in slabs  a < half"));
	assert_null(strstr(out, "█"));
	draw_with(MEMPOOL_FORMAT_UNICODE, 1, out, sizeof(out));
	assert_non_null(strstr(out, "█"));
	mempool_pool_close(theirs);
	mempool_disconnect(other);
}

static void test_visualize_says_when_the_stream_is_full(void **state)
{
	FILE *full = fopen("/dev/full", "we");

	(void)state;
	assert_non_null(full);
	assert_int_equal(mempool_pool_visualize(pool, full, NULL), -EIO);
	fclose(full);
}

static void test_large_maps_draw_within_a_second(void **state)
{
	static char out[1 << 16];
	struct timespec begin, end;

	(void)state;
	make_pool((uint64_t)1 << 40, NULL);
	assert_true(mempool_alloc(pool, 1000));
	clock_gettime(CLOCK_MONOTONIC, &begin);
	draw(MEMPOOL_FORMAT_UNICODE, out, sizeof(out));
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("a tebibyte drawn in %.1f ms\n",
	       (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) / 1e6);
	assert_non_null(strstr(out, "1.0T"));
}

static void test_map_of_a_million_blocks_is_summarised_by_the_daemon(void **state)
{
	enum {
		N = 1000000
	};
	static char out[1 << 16];
	static mempool_offset offsets[N];
	static size_t sizes[N];
	struct mempool_pool_options options;
	struct timespec begin, end;

	(void)state;
	mempool_pool_options_init(&options);
	options.fill = MEMPOOL_FILL_NONE;
	make_pool(64u << 20, &options);
	for (size_t i = 0; i < N; i++)
		sizes[i] = 16;
	assert_int_equal(mempool_alloc_batch(pool, N, sizes, offsets), 0);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	draw(MEMPOOL_FORMAT_ASCII, out, sizeof(out));
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("a million blocks drawn in %.1f ms\n",
	       (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) / 1e6);
	assert_non_null(strstr(out, "1000000 blocks"));
	assert_true(strlen(out) < 4096); /* whatever the number of blocks */
	assert_int_equal(mempool_free_batch(pool, N, offsets), 0);
	assert_int_equal(used_now(), 0);
}

static int disconnect_once(void *arg, const struct mempool_operation *operation)
{
	struct mempool_client **ownp = arg;

	(void)operation;
	mempool_disconnect(*ownp);
	*ownp = NULL;
	return 0;
}

/* As another thread might at any time. There is a page more to be asked for. */
static void test_disconnect_in_the_middle_of_a_list(void **state)
{
	struct mempool_pool_options options;
	struct mempool_client *own;

	(void)state;
	mempool_pool_options_init(&options);
	options.lease = MEMPOOL_LEASE_OFF; /* each call is in the log */
	make_pool(1 << 20, &options);
	for (int i = 0; i < 600; i++)
		assert_int_equal(mempool_free(pool, mempool_alloc(pool, 16)), 0);
	assert_int_equal(mempool_connect(&own, world.socket), 0);
	assert_int_equal(mempool_pool_log(own, "p", disconnect_once, &own), -ENOTCONN);
	assert_null(own);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lists_and_infos_tell_the_truth),
		TEST(test_stats_of_callers_of_other_ages),
		TEST(test_visualize_draws_in_every_format),
		TEST(test_visualize_tells_idle_slots_from_gaps_and_holders_apart),
		TEST(test_visualize_says_when_the_stream_is_full),
		TEST(test_large_maps_draw_within_a_second),
		TEST(test_map_of_a_million_blocks_is_summarised_by_the_daemon),
		TEST(test_disconnect_in_the_middle_of_a_list),
	};

	return cmocka_run_group_tests(tests, world_begin, world_end);
}
