#pragma once
// SPDX-License-Identifier: MIT
/* kill_aim - a daemon under load dies inside an update of a ledger, where it spends little time and where it hurts most */
#include <sys/types.h>

#include "tests/lib/rnd.h"

/** kill_aim() - @pid is a child of the caller, @pidfd its pidfd. Return: 1 it has died, and is to be reaped; 0 not yet */
int kill_aim(pid_t pid, int pidfd, struct rnd *rnd);
