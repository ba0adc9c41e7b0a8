// SPDX-License-Identifier: MIT
#include <string.h>
#include <time.h>
#include <zlib.h>

#include "ctl/demo_work.h"
#include "tests/lib/test.h"

#define N_BYTES_MAX 300 /* some machine words, and every length of a rest */

static bool is_space(uint8_t c)
{
	return c == ' ' || (c >= 9 && c <= 13);
}

/* what tally_of() is about, one byte after the other */
static struct tally naive(const uint8_t *data, size_t n_bytes)
{
	struct tally tally = {.n_bytes = n_bytes, .crc = (uint32_t)crc32(0, data, (uInt)n_bytes)};

	for (size_t i = 0; i < n_bytes; i++) {
		tally.n_lines += data[i] == '\n';
		tally.n_words += !is_space(data[i]) && (!i || is_space(data[i - 1]));
	}
	tally.begins_in_word = n_bytes && !is_space(data[0]);
	tally.ends_in_word = n_bytes && !is_space(data[n_bytes - 1]);
	return tally;
}

static void assert_same(const struct tally *a, const struct tally *b)
{
	assert_true(tally_is_equal(a, b));
	assert_int_equal(a->begins_in_word, b->begins_in_word);
	assert_int_equal(a->ends_in_word, b->ends_in_word);
}

static void fill(uint8_t *data, size_t n_bytes, bool text)
{
	for (size_t i = 0; i < n_bytes; i++)
		data[i] = (uint8_t)(text ? " \n\tab\v\f\r\x08\x0e\x80\x89\xa0"[rand() % 13] : rand());
}

static void test_tally_knows_each_byte_value(void **state)
{
	(void)state;
	for (unsigned c = 0; c < 256; c++) {
		for (size_t at = 0; at < 9; at++) { /* at each place of a machine word, and in the rest */
			uint8_t data[9];
			struct tally want, got;

			memset(data, ' ', sizeof(data));
			data[at] = (uint8_t)c;
			want = naive(data, sizeof(data));
			got = tally_of(data, sizeof(data));
			assert_same(&got, &want);
		}
	}
}

static void test_tally_equals_the_naive_one_at_any_length(void **state)
{
	uint8_t data[N_BYTES_MAX];

	(void)state;
	for (size_t n = 0; n <= N_BYTES_MAX; n++) {
		for (int text = 0; text < 2; text++) {
			struct tally want, got;

			fill(data, n, text);
			want = naive(data, n);
			got = tally_of(data, n);
			assert_same(&got, &want);
		}
	}
}

static void test_tally_of_parts_appended_is_the_tally_of_the_whole(void **state)
{
	uint8_t data[N_BYTES_MAX];

	(void)state;
	for (unsigned round = 0; round < 2000; round++) {
		struct tally sum = {0}, want;

		fill(data, N_BYTES_MAX, round % 4);
		for (size_t at = 0; at < N_BYTES_MAX;) {
			size_t left = N_BYTES_MAX - at, n = (size_t)rand() % (round % 2 ? 4 : 100); /* 0 as well */
			struct tally part = tally_of(data + at, n < left ? n : left);

			tally_append(&sum, &part);
			at += part.n_bytes;
		}
		want = naive(data, N_BYTES_MAX);
		assert_same(&sum, &want);
	}
}

static void test_tally_differs_when_two_parts_change_places(void **state)
{
	const char *text = "one two\nthree";
	struct tally a = tally_of(text, 5), b = tally_of(text + 5, 8), ab = a, ba = b, whole = tally_of(text, 13);

	(void)state;
	tally_append(&ab, &b);
	tally_append(&ba, &a);
	assert_true(tally_is_equal(&ab, &whole));
	assert_false(tally_is_equal(&ba, &whole));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tally_knows_each_byte_value),
		cmocka_unit_test(test_tally_equals_the_naive_one_at_any_length),
		cmocka_unit_test(test_tally_of_parts_appended_is_the_tally_of_the_whole),
		cmocka_unit_test(test_tally_differs_when_two_parts_change_places),
	};
	unsigned seed = (unsigned)time(NULL);

	print_message("seed %u\n", seed);
	srand(seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
