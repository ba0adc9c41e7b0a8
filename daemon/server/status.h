#pragma once
// SPDX-License-Identifier: MIT
/*
 * status - what an outcome is called on the wire: a negative errno, and the rest of a sentence for people
 *
 * A reply's sentence is "<what was asked>: <what went wrong>; <what to do>". Each outcome has its two last parts here;
 * the first is the request's.
 */
#include <stddef.h>
#include <stdint.h>

#include "pool/registry.h"

struct status {
	int error; /* negative errno */
	const char *wrong;
	const char *advice; /* "": nothing to be done */
};

struct status status_of_pool(enum pool_outcome outcome);
struct status status_of_registry(enum registry_outcome outcome);
/** status_of_errno() - of the daemon's own trouble, @error negative */
struct status status_of_errno(int error);
/** status_of() - of what registry_create(), session_join() and their like return: -errno, REGISTRY_E_*, or a shifted POOL_E_* */
struct status status_of(int result);

/** status_sentence() - put the three parts together, cut to fit; @out [n_bytes] */
void status_sentence(struct status status, const char *asked, char *out, size_t n_bytes);
