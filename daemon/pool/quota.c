// SPDX-License-Identifier: MIT
/*
 * A charge is one compare-and-swap on one number: relaxed, because nothing else is published by it. Two charges of one
 * account may each be judged by a number that the other is about to change; the swap fails then and the judgement is
 * made again, so that a limit is never passed.
 */
#include "pool/quota.h"

#include <assert.h>
#include <stdlib.h>

int quota_init(struct quota *quota, uid_t own_uid, const uint64_t limit[QUOTA_KIND_N])
{
	int r = pthread_mutex_init(&quota->mutex, NULL);

	if (r)
		return -r;
	quota->own_uid = own_uid;
	for (size_t i = 0; i < N_ELEMENTS(quota->buckets); i++)
		quota->buckets[i] = NULL;
	for (int kind = 0; kind < QUOTA_KIND_N; kind++)
		atomic_init(&quota->limit[kind], limit[kind]);
	return 0;
}

void quota_deinit(struct quota *quota)
{
	struct quota_account *account, *next;

	for (size_t i = 0; i < N_ELEMENTS(quota->buckets); i++) {
		for (account = quota->buckets[i]; account; account = next) {
			next = account->next;
			free(account);
		}
	}
	pthread_mutex_destroy(&quota->mutex);
}

static struct quota_account *account_new(struct quota *quota, uid_t uid)
{
	struct quota_account *account = calloc(1, sizeof(*account));

	if (!account)
		return NULL;
	account->uid = uid;
	account->is_exempt = quota_is_exempt(quota, uid);
	account->quota = quota;
	return account;
}

struct quota_account *quota_account_of(struct quota *quota, uid_t uid)
{
	struct quota_account **bucket = &quota->buckets[uid % N_ELEMENTS(quota->buckets)], *account;

	pthread_mutex_lock(&quota->mutex);
	for (account = *bucket; account && account->uid != uid; account = account->next)
		;
	if (!account) {
		account = account_new(quota, uid);
		if (account) {
			account->next = *bucket;
			*bucket = account;
		}
	}
	pthread_mutex_unlock(&quota->mutex);
	return account;
}

int quota_charge(struct quota_account *account, enum quota_kind kind, uint64_t amount)
{
	_Atomic uint64_t *used = &account->used[kind];
	uint64_t limit = atomic_load_explicit(&account->quota->limit[kind], memory_order_relaxed);
	uint64_t now = atomic_load_explicit(used, memory_order_relaxed);

	do {
		/* what fell to the account by quota_charge_always(), or a limit that was lowered: already above */
		if (!account->is_exempt && (now > limit || amount > limit - now))
			return QUOTA_E_EXCEEDED;
	} while (!atomic_compare_exchange_weak_explicit(used, &now, now + amount, memory_order_relaxed,
							memory_order_relaxed));
	return 0;
}

void quota_charge_always(struct quota_account *account, enum quota_kind kind, uint64_t amount)
{
	atomic_fetch_add_explicit(&account->used[kind], amount, memory_order_relaxed);
}

void quota_give_back(struct quota_account *account, enum quota_kind kind, uint64_t amount)
{
	uint64_t before = atomic_fetch_sub_explicit(&account->used[kind], amount, memory_order_relaxed);

	assert(before >= amount);
	(void)before;
}
