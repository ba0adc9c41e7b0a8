// SPDX-License-Identifier: MIT
#include <string.h>

#include "ctl/units.h"
#include "tests/lib/test.h"

static void test_size_takes_units_in_either_case(void **state)
{
	const struct {
		const char *text;
		uint64_t size;
	} cases[] = {
		{"0", 0},
		{"1", 1},
		{"4096", 4096},
		{"64K", 64 << 10},
		{"64k", 64 << 10},
		{"2M", 2 << 20},
		{"2MiB", 2 << 20},
		{"3G", UINT64_C(3) << 30},
		{"1T", UINT64_C(1) << 40},
		{"1.5G", UINT64_C(3) << 29},
		{"0.5K", 512},
		{"1.1T", UINT64_C(1209462790553)}, /* 1.1 * 2^40 = 1209462790553.6 */
		{"18446744073709551615", UINT64_MAX},
		{"16777215T", UINT64_C(16777215) << 40},
	};

	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		uint64_t size = ~cases[i].size;

		assert_null(size_parse(cases[i].text, &size));
		assert_int_equal(size, cases[i].size);
	}
}

static void test_size_refuses_with_a_reason_and_changes_nothing(void **state)
{
	const char *const texts[] = {
		"",	     "-1",  "K",    "x",     " 1",	   "1 ",
		"1KB",	     "1Q",  "1.5",  "1.K",   "1.1234567M", "18446744073709551616",
		"16777216T", "1e3", "0x10", "1KiBx", "+1",
	};

	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(texts); i++) {
		uint64_t size = 42;
		const char *why = size_parse(texts[i], &size);

		assert_non_null(why);
		assert_true(strlen(why) > 8);
		assert_int_equal(size, 42);
	}
}

static void test_size_is_shown_with_a_unit_that_fits(void **state)
{
	const struct {
		uint64_t size;
		const char *text;
	} cases[] = {
		{0, "0"},
		{1023, "1023"},
		{1024, "1K"},
		{1025, "1.0K"},
		{1536, "1.5K"},
		{(1 << 20) - 1, "1023.9K"},
		{64 << 20, "64M"},
		{UINT64_C(1) << 40, "1T"},
		{UINT64_MAX, "16777215.9T"},
	};
	char out[UNITS_TEXT_BYTES];

	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(cases); i++)
		assert_string_equal(size_format(cases[i].size, out), cases[i].text);
}

static void test_size_shown_without_a_point_is_read_back_exactly(void **state)
{
	char out[UNITS_TEXT_BYTES];

	(void)state;
	for (unsigned shift = 0; shift < 64; shift++) {
		for (uint64_t factor = 1; factor < 1024 && (factor << shift) >> shift == factor; factor += 341) {
			uint64_t size;

			size_format(factor << shift, out);
			if (strchr(out, '.'))
				continue;
			assert_null(size_parse(out, &size));
			assert_int_equal(size, factor << shift);
		}
	}
}

static void test_number_takes_decimal_and_hexadecimal_only(void **state)
{
	const char *const refused[] = {
		"", "0x", "-1", "12g", "0xg", " 1", "0x10000000000000000", "18446744073709551616"};
	uint64_t number;

	(void)state;
	assert_null(number_parse("4096", &number));
	assert_int_equal(number, 4096);
	assert_null(number_parse("0x1000", &number));
	assert_int_equal(number, 4096);
	assert_null(number_parse("0xffffffffffffffff", &number));
	assert_int_equal(number, UINT64_MAX);
	assert_null(number_parse("0x00000000000000000001", &number));
	assert_int_equal(number, 1);
	for (size_t i = 0; i < N_ELEMENTS(refused); i++) {
		number = 42;
		assert_non_null(number_parse(refused[i], &number));
		assert_int_equal(number, 42);
	}
}

static void test_count_has_commas(void **state)
{
	char out[UNITS_TEXT_BYTES];

	(void)state;
	assert_string_equal(count_format(0, out), "0");
	assert_string_equal(count_format(999, out), "999");
	assert_string_equal(count_format(1000, out), "1,000");
	assert_string_equal(count_format(1048576, out), "1,048,576");
	assert_string_equal(count_format(UINT64_MAX, out), "18,446,744,073,709,551,615");
}

static void test_age_has_two_units(void **state)
{
	char out[UNITS_TEXT_BYTES];

	(void)state;
	assert_string_equal(age_format(0, out), "0s");
	assert_string_equal(age_format(59, out), "59s");
	assert_string_equal(age_format(60, out), "1m00s");
	assert_string_equal(age_format(3599, out), "59m59s");
	assert_string_equal(age_format(3600, out), "1h00m");
	assert_string_equal(age_format(86400 * 12 + 3600 * 4, out), "12d04h");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size_takes_units_in_either_case),
		cmocka_unit_test(test_size_refuses_with_a_reason_and_changes_nothing),
		cmocka_unit_test(test_size_is_shown_with_a_unit_that_fits),
		cmocka_unit_test(test_size_shown_without_a_point_is_read_back_exactly),
		cmocka_unit_test(test_number_takes_decimal_and_hexadecimal_only),
		cmocka_unit_test(test_count_has_commas),
		cmocka_unit_test(test_age_has_two_units),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
