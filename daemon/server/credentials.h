#pragma once
// SPDX-License-Identifier: MIT
/*
 * credentials - who is at the other end of a socket, by the kernel's word
 *
 * Fixed when the client connected: a process that inherits the socket is not asked again.
 */
#include "pool/pool.h"

/** credentials_get() - uid, gid, supplementary groups (malloc'ed, the caller frees), pid, command. Return: 0, -errno */
int credentials_get(int socket, struct pool_identity *identity) MUST_CHECK;

/**
 * credentials_pidfd() - a descriptor that becomes readable when the peer's process ends
 * @pidfdp: out: -1 if the kernel has none, or the process is not visible from here
 * Return: 0; -ESRCH: the process has ended; -EMFILE, …
 */
int credentials_pidfd(int socket, const struct pool_identity *identity, int *pidfdp) MUST_CHECK;

/*
 * What proves, to a daemon that starts later, that a process is the one that was meant. A pid means something in the pid
 * namespace it was seen from only, and a start time in a time namespace.
 */

/** credentials_started() - when process @pid started, in clock ticks since boot. Return: 0: unknown */
uint64_t credentials_started(int32_t pid);
/** credentials_pid_space() - a number of what this daemon's pids mean; equal only if they mean the same. Return: 0: unknown */
uint64_t credentials_pid_space(void);
/**
 * credentials_find() - the process that had @pid and started at @started, seen from @pid_space
 * @pidfdp: out: as credentials_pidfd(); -1 also if what is known does not suffice to tell
 * Return: true; false: it has surely ended
 */
bool credentials_find(int32_t pid, uint64_t started, uint64_t pid_space, int *pidfdp);
