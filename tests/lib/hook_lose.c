// SPDX-License-Identifier: MIT
/*
 * hook_lose - a mempoold that loses a reply: $MEMPOOL_LOSE is "drop OP N" or "kill OP N"
 *
 * After the Nth request of kind OP (field number of the operation) is executed, and before its reply is sent, the connection
 * is closed, or the daemon kills itself. Once.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/hook.h"

static atomic_uint n_seen;

void hook_point(enum hook_place place, unsigned loop_index)
{
	(void)place;
	(void)loop_index;
}

bool hook_loses_reply(unsigned op)
{
	const char *wish = getenv("MEMPOOL_LOSE");
	unsigned wanted, nth;
	char how[8];

	if (!wish || sscanf(wish, "%7s %u %u", how, &wanted, &nth) != 3 || op != wanted ||
	    atomic_fetch_add(&n_seen, 1) + 1 != nth)
		return false;
	if (how[0] == 'k')
		kill(getpid(), SIGKILL);
	return true;
}
