// SPDX-License-Identifier: MIT
#include <limits.h>
#include <string.h>

#include "ctl/suggest.h"
#include "tests/lib/test.h"

static void test_distance_counts_each_kind_of_slip_once(void **state)
{
	(void)state;
	assert_int_equal(edit_distance("", ""), 0);
	assert_int_equal(edit_distance("stats", "stats"), 0);
	assert_int_equal(edit_distance("stat", "stats"), 1);   /* insertion */
	assert_int_equal(edit_distance("statss", "stats"), 1); /* deletion */
	assert_int_equal(edit_distance("stots", "stats"), 1);  /* substitution */
	assert_int_equal(edit_distance("stast", "stats"), 1);  /* swap */
	assert_int_equal(edit_distance("", "stats"), 5);
	assert_int_equal(edit_distance("kitten", "sitting"), 3);
}

static void test_distance_is_symmetric(void **state)
{
	const char *const words[] = {"", "a", "ping", "pong", "resize", "destroy", "sessions", "frames-2"};

	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(words); i++) {
		for (size_t k = 0; k < N_ELEMENTS(words); k++)
			assert_int_equal(edit_distance(words[i], words[k]), edit_distance(words[k], words[i]));
	}
}

static void test_distance_of_words_longer_than_any_name_is_a_lot(void **state)
{
	char longest[65], longer[66];

	(void)state;
	memset(longest, 'n', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	memset(longer, 'n', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(edit_distance(longest, longest), 0);
	assert_int_equal(edit_distance(longer, longest), UINT_MAX);
}

static const char *suggest(const char *word, struct suggestion *suggestion)
{
	const char *const commands[] = {"ping", "create", "list",     "alloc", "find",
					"free", "stats",  "sessions", "viz",   "check"};

	*suggestion = (struct suggestion){.word = word};
	for (size_t i = 0; i < N_ELEMENTS(commands); i++)
		suggestion_offer(suggestion, commands[i]);
	return suggestion->best;
}

static void test_suggestion_is_the_closest_word_that_is_close(void **state)
{
	struct suggestion suggestion;

	(void)state;
	assert_string_equal(suggest("stast", &suggestion), "stats");
	assert_string_equal(suggest("STATS", &suggestion), "stats");
	assert_string_equal(suggest("crate", &suggestion), "create");
	assert_string_equal(suggest("lst", &suggestion), "list");
	assert_string_equal(suggest("session", &suggestion), "sessions");
	assert_string_equal(suggest("vis", &suggestion), "viz");
}

static void test_suggestion_is_none_for_what_is_far_from_all(void **state)
{
	struct suggestion suggestion;

	(void)state;
	assert_string_equal(suggest("x", &suggestion), "");
	assert_string_equal(suggest("frobnicate", &suggestion), "");
	assert_string_equal(suggest("", &suggestion), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_distance_counts_each_kind_of_slip_once),
		cmocka_unit_test(test_distance_is_symmetric),
		cmocka_unit_test(test_distance_of_words_longer_than_any_name_is_a_lot),
		cmocka_unit_test(test_suggestion_is_the_closest_word_that_is_close),
		cmocka_unit_test(test_suggestion_is_none_for_what_is_far_from_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
