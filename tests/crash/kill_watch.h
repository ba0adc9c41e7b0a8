#pragma once
// SPDX-License-Identifier: MIT
/* kill_watch - sees from outside whether a daemon is inside an update of one of its ledgers; only reads them */
#include <stdbool.h>

#include "alloc/ledger.h"

#define KILL_WATCHED 8 /* the registry's, and the first pools' */

struct kill_watch {
	const struct ledger_header *headers[KILL_WATCHED];
	char names[KILL_WATCHED][160];
	unsigned n;
};

/** kill_watch_open() - map the headers of the instance's ledgers that are not yet. Return: 0, -errno */
int kill_watch_open(struct kill_watch *watch, const char *instance);

/** kill_watch_sees_update() - whether an operation is under way, or, the daemon dead, was */
bool kill_watch_sees_update(const struct kill_watch *watch);

void kill_watch_deinit(struct kill_watch *watch);
