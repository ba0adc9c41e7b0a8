// SPDX-License-Identifier: MIT
/* Only the main thread enters, so a look before the increment is enough. Counts order nothing: relaxed. */
#include <errno.h>

#include "server/admission.h"

static uint64_t count_of(const _Atomic uint64_t *count)
{
	return atomic_load_explicit(count, memory_order_relaxed);
}

int admission_enter(struct admission *admission, const struct limits *limits, struct quota_account *account,
		    const char **sentencep)
{
	if (count_of(&admission->n_connections) >= limits->connections_total) {
		*sentencep = "the daemon has as many connections as it may have; try again later";
		return -EAGAIN;
	}
	if (count_of(&admission->n_before_hello) >= limits->connections_before_hello) {
		*sentencep = "too many connections have not said Hello yet; try again later";
		return -EAGAIN;
	}
	if (quota_charge(account, QUOTA_CONNECTIONS, 1)) {
		*sentencep = "the user has as many connections as it may have; close one, or have connections_per_uid "
			     "raised";
		return -EDQUOT;
	}
	atomic_fetch_add_explicit(&admission->n_connections, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&admission->n_before_hello, 1, memory_order_relaxed);
	return 0;
}

void admission_greet(struct admission *admission)
{
	atomic_fetch_sub_explicit(&admission->n_before_hello, 1, memory_order_relaxed);
}

void admission_leave(struct admission *admission, struct quota_account *account, bool was_greeted)
{
	if (!was_greeted)
		atomic_fetch_sub_explicit(&admission->n_before_hello, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&admission->n_connections, 1, memory_order_relaxed);
	quota_give_back(account, QUOTA_CONNECTIONS, 1);
}
