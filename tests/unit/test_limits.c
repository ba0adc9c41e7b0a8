// SPDX-License-Identifier: MIT
#include <string.h>

#include "server/limits.h"
#include "tests/lib/test.h"

static void test_limits_defaults_are_the_documented_ones(void **state)
{
	struct limits limits;
	char why[160];

	(void)state;
	memset(&limits, 0xff, sizeof(limits));
	limits_default(&limits);
	assert_int_equal(limits.request_frame, 65536);
	assert_int_equal(limits.request_frame_before_hello, 16384);
	assert_int_equal(limits.connections_per_uid, 1024);
	assert_int_equal(limits.connections_total, 4096);
	assert_int_equal(limits.connections_before_hello, 64);
	assert_int_equal(limits.time_to_hello_ms, 30000);
	assert_int_equal(limits.time_to_finish_frame_ms, 10000);
	assert_int_equal(limits.queued_reply_pause, 65536);
	assert_int_equal(limits.queued_reply_slow, 262144);
	assert_int_equal(limits.queued_reply_slow_ms, 10000);
	assert_int_equal(limits.queued_reply_close, 1048576);
	assert_int_equal(limits.requests_in_flight, 128);
	assert_int_equal(limits.decode_arena, 1048576);
	assert_int_equal(limits.decode_objects, 4096);
	assert_true(limits.total_bytes == UINT64_MAX);
	assert_true(limits.quota[QUOTA_BYTES] == limits_share_of_shm(50) && limits.quota[QUOTA_BYTES] > 0);
	assert_int_equal(limits.quota[QUOTA_POOLS], 256);
	assert_int_equal(limits.quota[QUOTA_SESSIONS], 1024);
	assert_int_equal(limits.quota[QUOTA_BLOCKS], 16 << 20);
	assert_int_equal(limits.quota[QUOTA_CONNECTIONS], 1024);
	assert_int_equal(limits_settle(&limits, why, sizeof(why)), 0);
}

/* Every uint64_t of the struct has exactly one line of the table, but the quota that follows from a limit. */
static void test_limits_table_names_each_field_once(void **state)
{
	uint64_t values[sizeof(struct limits) / sizeof(uint64_t)] = {0};

	(void)state;
	for (size_t i = 0; i < limits_table_n; i++) {
		const struct limits_entry *entry = &limits_table[i];

		assert_true(entry->offset % sizeof(uint64_t) == 0 && entry->offset < sizeof(struct limits));
		values[entry->offset / sizeof(uint64_t)]++;
		for (size_t j = 0; j < i; j++) {
			assert_string_not_equal(entry->wire_name, limits_table[j].wire_name);
			assert_true(strcmp(entry->section, limits_table[j].section) ||
				    strcmp(entry->key, limits_table[j].key));
		}
	}
	for (size_t i = 0; i < N_ELEMENTS(values); i++) {
		bool follows = i == offsetof(struct limits, quota[QUOTA_CONNECTIONS]) / sizeof(uint64_t);

		assert_int_equal(values[i], follows ? 0 : 1);
	}
}

static void test_limits_defaults_are_in_range(void **state)
{
	struct limits limits;

	(void)state;
	limits_default(&limits);
	for (size_t i = 0; i < limits_table_n; i++) {
		uint64_t value = *limits_value(&limits, &limits_table[i]);

		assert_true(value >= limits_table[i].min && value <= limits_table[i].max);
	}
}

static void test_limits_settle_refuses_a_pause_beyond_the_end(void **state)
{
	struct limits limits;
	char why[160] = "";

	(void)state;
	limits_default(&limits);
	limits.queued_reply_pause = limits.queued_reply_slow;
	assert_int_equal(limits_settle(&limits, why, sizeof(why)), 0);
	limits.queued_reply_pause = limits.queued_reply_slow + 1;
	assert_int_equal(limits_settle(&limits, why, sizeof(why)), LIMITS_E_CONTRADICTION);
	assert_string_equal(why, "queued_reply_pause (262145) must not be above queued_reply_slow (262144)");
	limits_default(&limits);
	limits.queued_reply_close = limits.queued_reply_slow - 1;
	assert_int_equal(limits_settle(&limits, why, sizeof(why)), LIMITS_E_CONTRADICTION);
	assert_string_equal(why, "queued_reply_slow (262144) must not be above queued_reply_close (262143)");
}

static void test_limits_settle_lowers_what_a_lowered_limit_bounds(void **state)
{
	struct limits limits;
	char why[160];

	(void)state;
	limits_default(&limits);
	limits.request_frame = 1000;
	limits.connections_total = 3;
	limits.connections_per_uid = 2;
	assert_int_equal(limits_settle(&limits, why, sizeof(why)), 0);
	assert_int_equal(limits.request_frame_before_hello, 1000);
	assert_int_equal(limits.connections_before_hello, 3);
	assert_int_equal(limits.quota[QUOTA_CONNECTIONS], 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits_defaults_are_the_documented_ones),
		cmocka_unit_test(test_limits_table_names_each_field_once),
		cmocka_unit_test(test_limits_defaults_are_in_range),
		cmocka_unit_test(test_limits_settle_refuses_a_pause_beyond_the_end),
		cmocka_unit_test(test_limits_settle_lowers_what_a_lowered_limit_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
