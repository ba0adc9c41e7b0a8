#pragma once
// SPDX-License-Identifier: MIT
/*
 * admission - how many connections there are, and whether there may be one more
 *
 * Threads: any; atomics, each a count of its own.
 */
#include <stdatomic.h>
#include <stdint.h>

#include "pool/quota.h"
#include "server/limits.h"

struct admission {
	_Atomic uint64_t n_connections;
	_Atomic uint64_t n_before_hello;
};

/**
 * admission_enter() - one more connection, before its Hello; charges @account
 * @why: out, [n_bytes]: why not, a sentence
 * Return: 0, -EAGAIN, -EDQUOT: nothing was counted
 */
int admission_enter(struct admission *admission, const struct limits *limits, struct quota_account *account, char *why,
		    size_t n_bytes) MUST_CHECK;
/** admission_greet() - one of @account said Hello */
void admission_greet(struct admission *admission, struct quota_account *account);
/** admission_leave() - it is closed; @was_greeted: admission_greet() was called for it */
void admission_leave(struct admission *admission, struct quota_account *account, bool was_greeted);
