#pragma once
// SPDX-License-Identifier: MIT
/*
 * warm - a second thread that touches a large ledger's pages ahead of the one that recovers it
 *
 * The first touch of a page by a process costs 0.1 us on a machine of its own, but 7 to 15 us in a virtual one, whose host has to
 * be asked; a million blocks have 15,000 pages. Nothing depends on it: without a thread, or a processor for it, all is as it was.
 */
#include <pthread.h>

#include "alloc/ledger.h"

struct warm {
	pthread_t thread;
	bool is_running;
	_Atomic bool is_enough;
	const struct ledger *ledger;
};

/** warm_begin() - @ledger stays mapped until warm_end(), by the same thread */
void warm_begin(struct warm *warm, const struct ledger *ledger);
/** warm_end() - may run twice, or on a struct that is zero */
void warm_end(struct warm *warm);
