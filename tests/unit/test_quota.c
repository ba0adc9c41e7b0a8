// SPDX-License-Identifier: MIT
#include <pthread.h>
#include <string.h>

#include "pool/quota.h"
#include "tests/lib/test.h"

static const uint64_t limits[QUOTA_KIND_N] = {
	[QUOTA_BYTES] = 1000, [QUOTA_POOLS] = 2, [QUOTA_SESSIONS] = 3, [QUOTA_BLOCKS] = 4, [QUOTA_CONNECTIONS] = 5};

static void init(struct quota *quota)
{
	memset(quota, 0xff, sizeof(*quota));
	assert_int_equal(quota_init(quota, 77, limits), 0);
}

static void test_quota_limit_holds_at_minus_one_zero_and_plus_one(void **state)
{
	struct quota_account *account;
	struct quota quota;

	(void)state;
	init(&quota);
	account = quota_account_of(&quota, 1000);
	for (enum quota_kind kind = 0; kind < QUOTA_KIND_N; kind++) {
		assert_int_equal(quota_charge(account, kind, limits[kind] - 1), 0);
		assert_int_equal(quota_charge(account, kind, 2), QUOTA_E_EXCEEDED);
		assert_int_equal(atomic_load(&account->used[kind]), limits[kind] - 1);
		assert_int_equal(quota_charge(account, kind, 1), 0);
		assert_int_equal(quota_charge(account, kind, 1), QUOTA_E_EXCEEDED);
		assert_int_equal(quota_charge(account, kind, UINT64_MAX), QUOTA_E_EXCEEDED);
		quota_give_back(account, kind, 1);
		assert_int_equal(quota_charge(account, kind, 1), 0);
		quota_give_back(account, kind, limits[kind]);
		assert_int_equal(atomic_load(&account->used[kind]), 0);
	}
	quota_deinit(&quota);
}

static void test_quota_root_and_own_uid_are_counted_without_limit(void **state)
{
	static const uid_t uids[] = {0, 77};
	struct quota quota;

	(void)state;
	init(&quota);
	for (size_t i = 0; i < N_ELEMENTS(uids); i++) {
		struct quota_account *account = quota_account_of(&quota, uids[i]);

		assert_int_equal(quota_charge(account, QUOTA_BYTES, 1 << 30), 0);
		assert_int_equal(atomic_load(&account->used[QUOTA_BYTES]), 1 << 30);
	}
	quota_deinit(&quota);
}

static void test_quota_account_is_one_for_each_uid(void **state)
{
	struct quota_account *accounts[600];
	struct quota quota;

	(void)state;
	init(&quota);
	for (uid_t uid = 0; uid < N_ELEMENTS(accounts); uid++)
		accounts[uid] = quota_account_of(&quota, uid);
	for (uid_t uid = 0; uid < N_ELEMENTS(accounts); uid++) {
		assert_int_equal(accounts[uid]->uid, uid);
		assert_ptr_equal(quota_account_of(&quota, uid), accounts[uid]);
	}
	quota_deinit(&quota);
}

static void test_quota_charge_above_a_lowered_limit_is_refused(void **state)
{
	struct quota_account *account;
	struct quota quota;

	(void)state;
	init(&quota);
	account = quota_account_of(&quota, 1000);
	quota_charge_always(account, QUOTA_BYTES, 5000);
	assert_int_equal(quota_charge(account, QUOTA_BYTES, 1), QUOTA_E_EXCEEDED);
	quota_give_back(account, QUOTA_BYTES, 4500);
	assert_int_equal(quota_charge(account, QUOTA_BYTES, 500), 0);
	atomic_store(&quota.limit[QUOTA_BYTES], 10);
	assert_int_equal(quota_charge(account, QUOTA_BYTES, 0), QUOTA_E_EXCEEDED);
	atomic_store(&quota.limit[QUOTA_BYTES], UINT64_MAX);
	assert_int_equal(quota_charge(account, QUOTA_BYTES, 1 << 20), 0);
	quota_deinit(&quota);
}

/* ---- threads ---- */

enum {
	N_THREADS = 4,
	N_ROUNDS = 100000
};

static void *charge_and_give_back(void *arg)
{
	struct quota_account *account = quota_account_of(arg, 1000);
	uint64_t n_above = 0;

	for (int i = 0; i < N_ROUNDS; i++) {
		if (quota_charge(account, QUOTA_SESSIONS, 1))
			continue;
		n_above += atomic_load(&account->used[QUOTA_SESSIONS]) > limits[QUOTA_SESSIONS];
		quota_give_back(account, QUOTA_SESSIONS, 1);
	}
	return (void *)n_above;
}

static void test_quota_limit_is_never_passed_by_threads(void **state)
{
	pthread_t threads[N_THREADS];
	struct quota quota;
	void *n_above;

	(void)state;
	init(&quota);
	for (int i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(threads + i, NULL, charge_and_give_back, &quota), 0);
	for (int i = 0; i < N_THREADS; i++) {
		pthread_join(threads[i], &n_above);
		assert_null(n_above);
	}
	assert_int_equal(atomic_load(&quota_account_of(&quota, 1000)->used[QUOTA_SESSIONS]), 0);
	quota_deinit(&quota);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quota_limit_holds_at_minus_one_zero_and_plus_one),
		cmocka_unit_test(test_quota_root_and_own_uid_are_counted_without_limit),
		cmocka_unit_test(test_quota_account_is_one_for_each_uid),
		cmocka_unit_test(test_quota_charge_above_a_lowered_limit_is_refused),
		cmocka_unit_test(test_quota_limit_is_never_passed_by_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
