// SPDX-License-Identifier: MIT
#include "tests/lib/test.h"

#include <errno.h>
#include <string.h>

#include "server/admission.h"

struct gate {
	struct quota quota;
	struct limits limits;
	struct admission admission;
	char why[256];
};

static int begin(void **state)
{
	static struct gate gate;
	uint64_t limit[QUOTA_KIND_N];

	memset(&gate, 0, sizeof(gate));
	for (int kind = 0; kind < QUOTA_KIND_N; kind++)
		limit[kind] = UINT64_MAX;
	limits_default(&gate.limits);
	*state = &gate;
	return quota_init(&gate.quota, 500, limit);
}

static int end(void **state)
{
	struct gate *gate = *state;

	quota_deinit(&gate->quota);
	return 0;
}

static int enter(struct gate *gate, uid_t uid)
{
	return admission_enter(&gate->admission, &gate->limits, quota_account_of(&gate->quota, uid), gate->why,
			       sizeof(gate->why));
}

static void leave(struct gate *gate, uid_t uid, bool was_greeted)
{
	admission_leave(&gate->admission, quota_account_of(&gate->quota, uid), was_greeted);
}

static void test_admission_silent_user_keeps_nobody_out(void **state)
{
	struct gate *gate = *state;

	gate->limits.connections_before_hello = 5;
	for (int i = 0; i < 3; i++)
		assert_int_equal(enter(gate, 7), 0);
	assert_int_equal(enter(gate, 7), -EAGAIN);
	assert_non_null(strstr(gate->why, "user 7 has 3 connections "));
	assert_non_null(strstr(gate->why, "connections_before_hello, 5"));
	assert_int_equal(enter(gate, 8), 0);
	assert_int_equal(enter(gate, 8), -EAGAIN);
	assert_non_null(strstr(gate->why, "user 8 has 1 connection "));
	assert_int_equal(enter(gate, 0), 0); /* for whom there is a place yet */
	assert_int_equal(enter(gate, 0), -EAGAIN);
	assert_null(strstr(gate->why, "user")); /* the limit of all */
	leave(gate, 0, false);
	for (int i = 0; i < 2; i++)
		admission_greet(&gate->admission, quota_account_of(&gate->quota, 7));
	assert_int_equal(enter(gate, 7), 0);
	for (int i = 0; i < 4; i++)
		leave(gate, 7, i < 2);
	leave(gate, 8, false);
	assert_int_equal(gate->admission.n_connections, 0);
	assert_int_equal(gate->admission.n_before_hello, 0);
	assert_int_equal(quota_account_of(&gate->quota, 7)->n_before_hello, 0);
	assert_int_equal(quota_account_of(&gate->quota, 8)->n_before_hello, 0);
}

/* However many users are silent: who comes next has a place, until there are as many users as places. */
static void test_admission_two_silent_users_keep_no_third_out(void **state)
{
	struct gate *gate = *state;
	unsigned n[4] = {0};

	for (uid_t uid = 1; uid < N_ELEMENTS(n); uid++) {
		while (!enter(gate, uid))
			n[uid]++;
		assert_true(n[uid] > 0);
	}
	assert_int_equal(n[1], gate->limits.connections_before_hello / 2);
	for (uid_t uid = 1; uid < N_ELEMENTS(n); uid++)
		while (n[uid]--)
			leave(gate, uid, false);
}

static void test_admission_root_and_the_daemons_user_have_all(void **state)
{
	static const uid_t uids[] = {0, 500};
	struct gate *gate = *state;

	gate->limits.connections_before_hello = 4;
	for (size_t k = 0; k < N_ELEMENTS(uids); k++) {
		for (int i = 0; i < 4; i++)
			assert_int_equal(enter(gate, uids[k]), 0);
		assert_int_equal(enter(gate, uids[k]), -EAGAIN);
		for (int i = 0; i < 4; i++)
			leave(gate, uids[k], false);
	}
}

static void test_admission_least_limit_lets_one_in(void **state)
{
	struct gate *gate = *state;

	gate->limits.connections_before_hello = 1;
	assert_int_equal(enter(gate, 7), 0);
	assert_int_equal(enter(gate, 7), -EAGAIN);
	leave(gate, 7, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_admission_silent_user_keeps_nobody_out, begin, end),
		cmocka_unit_test_setup_teardown(test_admission_two_silent_users_keep_no_third_out, begin, end),
		cmocka_unit_test_setup_teardown(test_admission_root_and_the_daemons_user_have_all, begin, end),
		cmocka_unit_test_setup_teardown(test_admission_least_limit_lets_one_in, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
