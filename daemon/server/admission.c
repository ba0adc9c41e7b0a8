// SPDX-License-Identifier: MIT
/* Only the main thread enters, so a look before the increment is enough. Counts order nothing: relaxed. */
#include <errno.h>
#include <stdio.h>

#include "server/admission.h"

static unsigned long long count_of(const _Atomic uint64_t *count)
{
	return atomic_load_explicit(count, memory_order_relaxed);
}

static void change(_Atomic uint64_t *count, uint64_t by)
{
	atomic_fetch_add_explicit(count, by, memory_order_relaxed);
}

/*
 * No more than are left: a user alone has half of the limit, and the silent connections of many users together keep out none who has
 * fewer, nor root.
 */
static bool may_enter(const struct admission *admission, const struct limits *limits,
		      const struct quota_account *account)
{
	uint64_t n_left = limits->connections_before_hello - count_of(&admission->n_before_hello);

	return account->is_exempt || count_of(&account->n_before_hello) < n_left;
}

int admission_enter(struct admission *admission, const struct limits *limits, struct quota_account *account, char *why,
		    size_t n_bytes)
{
	if (count_of(&admission->n_connections) >= limits->connections_total) {
		snprintf(why, n_bytes, "the daemon has as many connections as it may have, %llu; try again later",
			 (unsigned long long)limits->connections_total);
		return -EAGAIN;
	}
	if (count_of(&admission->n_before_hello) >= limits->connections_before_hello) {
		snprintf(why, n_bytes,
			 "%llu connections have not said Hello yet, as many as may be (connections_before_hello); try "
			 "again later",
			 count_of(&admission->n_before_hello));
		return -EAGAIN;
	}
	if (!may_enter(admission, limits, account)) {
		snprintf(why, n_bytes,
			 "user %u has %llu connection%s without a Hello yet, as many as are left for others "
			 "(connections_before_hello, %llu); have them say Hello, or close them",
			 account->uid, count_of(&account->n_before_hello), plural(count_of(&account->n_before_hello)),
			 (unsigned long long)limits->connections_before_hello);
		return -EAGAIN;
	}
	if (quota_charge(account, QUOTA_CONNECTIONS, 1)) {
		snprintf(why, n_bytes,
			 "user %u has as many connections as it may have, %llu; close one, or have connections_per_uid "
			 "raised",
			 account->uid, (unsigned long long)limits->connections_per_uid);
		return -EDQUOT;
	}
	change(&admission->n_connections, 1);
	change(&admission->n_before_hello, 1);
	change(&account->n_before_hello, 1);
	return 0;
}

void admission_greet(struct admission *admission, struct quota_account *account)
{
	change(&admission->n_before_hello, (uint64_t)-1);
	change(&account->n_before_hello, (uint64_t)-1);
}

void admission_leave(struct admission *admission, struct quota_account *account, bool was_greeted)
{
	if (!was_greeted)
		admission_greet(admission, account);
	change(&admission->n_connections, (uint64_t)-1);
	quota_give_back(account, QUOTA_CONNECTIONS, 1);
}
