#pragma once
// SPDX-License-Identifier: MIT
/*
 * kill_step - a client that goes step by step (stepper.h) through one call, and is killed where what others can see of it has
 * differed for the n-th time
 *
 * Knows a client of the library and its call; not what is compared, or what must be true then.
 */
#include <mempool/mempool.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/util.h"

struct daemon;

struct kill_step_call {
	const char *name;
	bool (*prepare)(struct mempool_pool *own); /* in the client, before it is stepped */
	bool (*call)(struct mempool_pool *own);
};

struct kill_step_driver {
	const char *socket;	   /* the daemon's; the client opens "pool" there */
	bool (*has_changed)(void); /* since it was asked last */
	/* While the client stands still, before the first step and after the last. NULL: nothing; else 0, or -1: told */
	int (*look_before)(const struct kill_step_call *call, unsigned n);
	int (*look_after)(const struct kill_step_call *call, unsigned n, bool is_over);
};

/** kill_step_begin() - a daemon, and the driver's client and "pool" there. Return: 0, -errno; daemon_deinit() is due in any case */
int kill_step_begin(struct daemon *daemon, uint64_t pool_bytes, const struct mempool_pool_options *options,
		    struct mempool_client **clientp, struct mempool_pool **poolp) MUST_CHECK;

/** kill_step_failed() - say what went wrong at state @n of @call. Return: -1 */
int kill_step_failed(const struct kill_step_call *call, unsigned n, const char *what, long r);

/** kill_step_at() - a client of its own, killed at the @n-th difference. Return: 1 it was there; 0 the call was over before; -1: told */
int kill_step_at(const struct kill_step_driver *driver, const struct kill_step_call *call, unsigned n) MUST_CHECK;

/** kill_step_await_end() - until @client has the only session: the dead one's is over. A bound decides if that takes for ever */
void kill_step_await_end(struct mempool_client *client);
