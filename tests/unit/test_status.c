// SPDX-License-Identifier: MIT
#include "tests/lib/test.h"

#include <errno.h>
#include <string.h>

#include "server/status.h"

static void assert_status(struct status status, int error)
{
	assert_int_equal(status.error, error);
	assert_true(strlen(status.wrong) > 0);
	assert_true(strlen(status.advice) > 0);
}

static void test_status_of_pool_outcomes(void **state)
{
	static const int errors[POOL_OUTCOME_N] = {
		[POOL_E_FULL] = -ENOSPC,	[POOL_E_UNBACKED] = -ENOSPC, [POOL_E_QUOTA] = -EDQUOT,
		[POOL_E_NO_BLOCK] = -EFAULT,	[POOL_E_FREED] = -EALREADY,  [POOL_E_NOT_OWNER] = -EPERM,
		[POOL_E_NOT_ALLOWED] = -EACCES, [POOL_E_STALE] = -ESTALE,    [POOL_E_NAME_TAKEN] = -EEXIST,
		[POOL_E_NO_NAME] = -ENOENT,	[POOL_E_PINNED] = -EBUSY,    [POOL_E_NOT_EMPTY] = -ENOTEMPTY,
		[POOL_E_DESTROYED] = -ESTALE,	[POOL_E_SHRINK] = -EINVAL,   [POOL_E_ABOVE_MAX] = -ENOSPC,
		[POOL_E_INVALID] = -EINVAL,	[POOL_E_DAMAGED] = -EIO,     [POOL_E_NAMED] = -EEXIST,
		[POOL_E_SLOW] = -EAGAIN,	[POOL_E_NO_HEAP] = -EAGAIN,  [POOL_E_NO_LEASES] = -EOPNOTSUPP,
	};

	(void)state;
	for (int outcome = POOL_E_FULL; outcome < POOL_OUTCOME_N; outcome++) {
		assert_status(status_of_pool(outcome), errors[outcome]);
		assert_status(status_of(REGISTRY_POOL_E + outcome), errors[outcome]);
	}
}

static void test_status_of_registry_outcomes(void **state)
{
	(void)state;
	assert_status(status_of(REGISTRY_E_IN_USE), -EADDRINUSE);
	assert_status(status_of(REGISTRY_E_NAME_TAKEN), -EEXIST);
	assert_status(status_of(REGISTRY_E_NO_POOL), -ENOENT);
	assert_status(status_of(REGISTRY_E_QUOTA), -EDQUOT);
	assert_status(status_of(REGISTRY_E_NOT_ALLOWED), -EACCES);
}

static void test_status_of_errnos_keeps_them(void **state)
{
	(void)state;
	assert_status(status_of(-ENOMEM), -ENOMEM);
	assert_status(status_of(-EMFILE), -EMFILE);
	assert_status(status_of(-ENOSPC), -ENOSPC);
	assert_int_equal(status_of(-EXDEV).error, -EXDEV);
	assert_true(strlen(status_of(-EXDEV).wrong) > 0);
	assert_true(strlen(status_of(-99999).wrong) > 0);
}

static void test_status_sentence_is_cut_to_fit(void **state)
{
	struct status status = {-EIO, "it broke", "mend it"};
	char out[64], small[8];

	(void)state;
	status_sentence(status, "asking", out, sizeof(out));
	assert_string_equal(out, "asking: it broke; mend it");
	status.advice = "";
	status_sentence(status, "asking", out, sizeof(out));
	assert_string_equal(out, "asking: it broke");
	status_sentence(status, "asking", small, sizeof(small));
	assert_string_equal(small, "asking:");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status_of_pool_outcomes),
		cmocka_unit_test(test_status_of_registry_outcomes),
		cmocka_unit_test(test_status_of_errnos_keeps_them),
		cmocka_unit_test(test_status_sentence_is_cut_to_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
