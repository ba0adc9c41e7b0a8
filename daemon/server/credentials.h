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
