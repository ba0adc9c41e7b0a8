// SPDX-License-Identifier: MIT
#include <errno.h>

#include "server/limits.h"
#include "tests/lib/test.h"
#include "value.h"

static void test_value_count_takes_digits_only(void **state)
{
	uint64_t n = 7;

	(void)state;
	assert_int_equal(value_parse_count("0", &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(value_parse_count("18446744073709551615", &n), 0);
	assert_true(n == UINT64_MAX);
	n = 7;
	assert_int_equal(value_parse_count("18446744073709551616", &n), -ERANGE);
	assert_int_equal(value_parse_count("99999999999999999999999", &n), -ERANGE);
	for (const char *const *bad =
		     (const char *const[]){"", " 1", "1 ", "-1", "+1", "1.5", "0x10", "one", "1K", NULL};
	     *bad; bad++)
		assert_int_equal(value_parse_count(*bad, &n), -EINVAL);
	assert_int_equal(n, 7);
}

static void test_value_bytes_takes_units_of_1024(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"0", 0},
		{"17", 17},
		{"1K", 1024},
		{"64M", 64ull << 20},
		{"3G", 3ull << 30},
		{"2T", 2ull << 40},
		{"16777215T", 16777215ull << 40},
	};
	uint64_t n;

	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(good); i++) {
		assert_int_equal(value_parse_bytes(good[i].text, &n), 0);
		assert_true(n == good[i].bytes);
	}
	n = 7;
	assert_int_equal(value_parse_bytes("16777216T", &n), -ERANGE);
	assert_int_equal(value_parse_bytes("101%", &n), -ERANGE);
	for (const char *const *bad =
		     (const char *const[]){"", "K", "1k", "1KB", "1 K", "1P", "1.5G", "%", "-1%", "50%%", NULL};
	     *bad; bad++)
		assert_int_equal(value_parse_bytes(*bad, &n), -EINVAL);
	assert_int_equal(n, 7);
}

static void test_value_bytes_takes_a_share_of_shm(void **state)
{
	uint64_t half, whole, none = 7;

	(void)state;
	assert_int_equal(value_parse_bytes("100%", &whole), 0);
	assert_int_equal(value_parse_bytes("50%", &half), 0);
	assert_int_equal(value_parse_bytes("0%", &none), 0);
	assert_true(whole > 0 && none == 0);
	assert_true(half == limits_share_of_shm(50));
	assert_true(half * 2 <= whole && whole - half * 2 <= 2 * 4096);
}

static void test_value_ms_needs_a_unit(void **state)
{
	uint64_t n;

	(void)state;
	assert_int_equal(value_parse_ms("250ms", &n), 0);
	assert_int_equal(n, 250);
	assert_int_equal(value_parse_ms("30s", &n), 0);
	assert_int_equal(n, 30000);
	assert_int_equal(value_parse_ms("5m", &n), 0);
	assert_int_equal(n, 300000);
	assert_int_equal(value_parse_ms("30", &n), -EINVAL);
	assert_int_equal(value_parse_ms("1h", &n), -EINVAL);
	assert_int_equal(value_parse_ms("18446744073709551615s", &n), -ERANGE);
	assert_int_equal(n, 300000);
}

static void test_value_mode_is_octal(void **state)
{
	uint32_t mode;

	(void)state;
	assert_int_equal(value_parse_mode("0660", &mode), 0);
	assert_int_equal(mode, 0660);
	assert_int_equal(value_parse_mode("777", &mode), 0);
	assert_int_equal(mode, 0777);
	assert_int_equal(value_parse_mode("1000", &mode), -ERANGE);
	assert_int_equal(value_parse_mode("0680", &mode), -EINVAL);
	assert_int_equal(value_parse_mode("", &mode), -EINVAL);
	assert_int_equal(value_parse_mode("rw", &mode), -EINVAL);
	assert_int_equal(mode, 0777);
}

static void test_value_yes_has_four_words_each(void **state)
{
	bool yes = false;

	(void)state;
	for (const char *const *good = (const char *const[]){"yes", "true", "on", "1", NULL}; *good; good++) {
		yes = false;
		assert_int_equal(value_parse_yes(*good, &yes), 0);
		assert_true(yes);
	}
	for (const char *const *good = (const char *const[]){"no", "false", "off", "0", NULL}; *good; good++) {
		yes = true;
		assert_int_equal(value_parse_yes(*good, &yes), 0);
		assert_false(yes);
	}
	assert_int_equal(value_parse_yes("Yes", &yes), -EINVAL);
	assert_int_equal(value_parse_yes("", &yes), -EINVAL);
}

static void test_value_nearest_forgives_two_slips(void **state)
{
	static const char *const words[] = {"size", "max_size", "lifetime", "fill", NULL};

	(void)state;
	assert_string_equal(value_nearest("sise", words), "size");
	assert_string_equal(value_nearest("szie", words), "size"); /* neighbours swapped: one slip */
	assert_string_equal(value_nearest("siz", words), "size");
	assert_string_equal(value_nearest("sizes", words), "size");
	assert_string_equal(value_nearest("lifteimes", words), "lifetime");
	assert_string_equal(value_nearest("max-size", words), "max_size");
	assert_null(value_nearest("ab", words)); /* both letters wrong is no slip */
	assert_null(value_nearest("", words));
	assert_null(value_nearest("flltme", words));
	assert_null(
		value_nearest("0123456789012345678901234567890123456789012345678", words)); /* longer than any word */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_value_count_takes_digits_only),
		cmocka_unit_test(test_value_bytes_takes_units_of_1024),
		cmocka_unit_test(test_value_bytes_takes_a_share_of_shm),
		cmocka_unit_test(test_value_ms_needs_a_unit),
		cmocka_unit_test(test_value_mode_is_octal),
		cmocka_unit_test(test_value_yes_has_four_words_each),
		cmocka_unit_test(test_value_nearest_forgives_two_slips),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
