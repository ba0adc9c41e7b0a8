// SPDX-License-Identifier: MIT
#include <string.h>

#include "proto/frame.h"
#include "tests/lib/test.h"

static void test_frame_peek_wants_four_bytes_first(void **state)
{
	const uint8_t data[4] = {1, 0, 0, 0};
	uint32_t n_bytes = 99;

	(void)state;
	for (size_t n = 0; n < 4; n++) {
		assert_int_equal(frame_peek(data, n, 10, &n_bytes), FRAME_E_PARTIAL);
		assert_int_equal(n_bytes, 0);
	}
	assert_int_equal(frame_peek(data, 4, 10, &n_bytes), FRAME_E_PARTIAL);
	assert_int_equal(n_bytes, 1);
}

static void test_frame_peek_holds_the_limit_exactly(void **state)
{
	static uint8_t data[FRAME_HEADER_BYTES + 70000];
	const uint32_t limit = FRAME_REQUEST_BYTES;
	uint32_t n_bytes;

	(void)state;
	for (uint32_t length = limit - 1; length <= limit + 1; length++) {
		frame_put_header(data, length);
		assert_int_equal(frame_peek(data, sizeof(data), limit, &n_bytes),
				 length > limit ? FRAME_E_TOO_LONG : 0);
		if (length <= limit)
			assert_int_equal(n_bytes, length);
	}
}

static void test_frame_peek_refuses_every_odd_length(void **state)
{
	static const uint32_t lengths[] = {0,	       65537,	   0x00ffffff, 0x01000000,
					   0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff};
	uint8_t data[FRAME_HEADER_BYTES];
	uint32_t n_bytes;

	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(lengths); i++) {
		frame_put_header(data, lengths[i]);
		assert_int_equal(frame_peek(data, sizeof(data), FRAME_REQUEST_BYTES, &n_bytes),
				 lengths[i] ? FRAME_E_TOO_LONG : FRAME_E_EMPTY);
		assert_int_equal(n_bytes, 0);
	}
}

static void test_frame_peek_takes_only_the_first_of_two(void **state)
{
	const uint8_t data[] = {2, 0, 0, 0, 'a', 'b', 1, 0, 0, 0, 'c'};
	uint32_t n_bytes;

	(void)state;
	assert_int_equal(frame_peek(data, sizeof(data), 10, &n_bytes), 0);
	assert_int_equal(n_bytes, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frame_peek_wants_four_bytes_first),
		cmocka_unit_test(test_frame_peek_holds_the_limit_exactly),
		cmocka_unit_test(test_frame_peek_refuses_every_odd_length),
		cmocka_unit_test(test_frame_peek_takes_only_the_first_of_two),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
