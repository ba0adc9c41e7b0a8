#pragma once
// SPDX-License-Identifier: MIT
/*
 * quota - what each uid has, and may have
 *
 * Knows uids and counts; not pools or sessions. root and the daemon's own uid have no limits (but are counted).
 * Accounts are found under the quota's mutex (a leaf: nothing is locked under it) and live until quota_deinit();
 * charges are atomics, so that an alloc takes no lock here.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/util.h"

enum quota_kind {
	QUOTA_BYTES,
	QUOTA_POOLS,
	QUOTA_SESSIONS,
	QUOTA_BLOCKS,
	QUOTA_CONNECTIONS,
	QUOTA_KIND_N
};

enum {
	QUOTA_E_EXCEEDED = 1
};

struct quota_account {
	uid_t uid;
	bool is_exempt;
	struct quota *quota;
	_Atomic uint64_t used[QUOTA_KIND_N];
	_Atomic uint64_t n_before_hello; /* connections of it; server/admission.c */
	struct quota_account *next;	 /* in its bucket */
};

struct quota {
	pthread_mutex_t mutex;		      /* buckets */
	_Atomic uint64_t limit[QUOTA_KIND_N]; /* UINT64_MAX: none; SIGHUP may change it */
	uid_t own_uid;
	struct quota_account *buckets[256];
};

int quota_init(struct quota *quota, uid_t own_uid, const uint64_t limit[QUOTA_KIND_N]) MUST_CHECK;
void quota_deinit(struct quota *quota);
/** quota_is_exempt() - root and the daemon's own */
static inline bool quota_is_exempt(const struct quota *quota, uid_t uid)
{
	return uid == 0 || uid == quota->own_uid;
}

/** quota_account_of() - the account of @uid, made if there is none. Return: NULL = out of memory. */
struct quota_account *quota_account_of(struct quota *quota, uid_t uid);
/** quota_charge() - Return: 0; QUOTA_E_EXCEEDED: nothing was charged. Any thread, no lock. */
int quota_charge(struct quota_account *account, enum quota_kind kind, uint64_t amount) MUST_CHECK;
/** quota_charge_always() - for what may not fail: a block that falls to the pool when its owner ends */
void quota_charge_always(struct quota_account *account, enum quota_kind kind, uint64_t amount);
void quota_give_back(struct quota_account *account, enum quota_kind kind, uint64_t amount);
