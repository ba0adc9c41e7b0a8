#pragma once
// SPDX-License-Identifier: MIT
/* signals - what would end the tool, as something to be waited for: there is a pool, or a terminal, to be put in order first */
#include "proto/util.h"

/**
 * signals_open() - SIGINT, SIGTERM, SIGHUP and @also (0: no other) are read from a descriptor from here on; a reader that went away is
 * an error like any other. In all threads and processes that begin later, too.
 *
 * Ownership: the descriptor is the caller's, CLOEXEC and not blocking.
 * Return: the descriptor; -errno
 */
int signals_open(int also) MUST_CHECK;
