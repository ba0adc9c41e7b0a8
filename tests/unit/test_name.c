// SPDX-License-Identifier: MIT
#include <string.h>

#include "proto/name.h"
#include "tests/lib/test.h"

static void test_name_takes_the_allowed_bytes_and_no_other(void **state)
{
	(void)state;
	for (int c = 0; c < 256; c++) {
		char name[2] = {'x', (char)c};
		bool allowed = c && strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", c);

		assert_int_equal(name_is_valid(name, 2), allowed);
	}
}

static void test_name_holds_its_length_exactly(void **state)
{
	char name[66];

	(void)state;
	memset(name, 'n', sizeof(name));
	assert_false(name_is_valid(name, 0));
	assert_true(name_is_valid(name, 1));
	assert_true(name_is_valid(name, 63));
	assert_true(name_is_valid(name, 64));
	assert_false(name_is_valid(name, 65));
}

static void test_name_refuses_dot_and_dotdot_only(void **state)
{
	(void)state;
	assert_false(name_is_valid(".", 1));
	assert_false(name_is_valid("..", 2));
	assert_true(name_is_valid("...", 3));
	assert_true(name_is_valid(".a", 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name_takes_the_allowed_bytes_and_no_other),
		cmocka_unit_test(test_name_holds_its_length_exactly),
		cmocka_unit_test(test_name_refuses_dot_and_dotdot_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
