#pragma once
// SPDX-License-Identifier: MIT
/*
 * registry_internal - what the files of the registry share
 *
 *   registry.c          the instance lock, open and close, pools: create, find, remove, list
 *   registry_recover.c  what the last daemon left
 *   registry_session.c  sessions and answers in the directory
 *   registry_suggest.c  the name that was meant
 */
#include "pool/registry.h"

#define REGISTRY_BUCKETS_N 1024u /* simply picked: a quota's worth of pools for each of some users */

struct registry_entry {
	uint64_t id;
	uint64_t owner;	   /* of a private pool: the session it goes with; 0: none */
	struct pool *pool; /* one reference; NULL while it is being made, and of one that is lost */
	bool is_lost;	   /* it could not be recovered: its name stays taken, until it is mended or forgotten */
	struct quota_account *account;	  /* charged with one pool; NULL: it is lost */
	uint32_t index;			  /* of its record in the directory; with a pool */
	struct registry_entry *name_next; /* in its bucket; private pools are in none */
	uint32_t n_name_bytes;
	uint8_t name[NAME_BYTES_MAX];
};

struct registry {
	char instance[SEGMENT_INSTANCE_MAX + 1];
	char lock_name[SEGMENT_NAME_BYTES];
	struct directory_recovery recovery; /* what was brought back at the start */
	struct quota quota;
	struct budget budget;
	struct pool_env env;

	pthread_mutex_t mutex;	    /* all below */
	struct directory directory; /* its ledger's descriptor has the lock: while it is open, the instance is ours */
	struct registry_entry **entries; /* [n_entries], by rising id */
	uint32_t n_entries, n_alloced;
	struct registry_entry *buckets[REGISTRY_BUCKETS_N];
};

/* ---- registry.c; under the mutex, or before anybody else has the registry ---- */

struct registry_entry *registry_entry_by_name(struct registry *registry, const void *name, size_t n_name_bytes);
/** registry_entry_room() - for one more registry_entry_link(). Return: 0, -ENOMEM */
int registry_entry_room(struct registry *registry) MUST_CHECK;
void registry_entry_link(struct registry *registry, struct registry_entry *entry);

/* ---- registry_recover.c ---- */

/** registry_recover() - bring back what the directory names, remove what it does not. Return: 0; -errno: the start has failed */
int registry_recover(struct registry *registry, const struct registry_config *config, int *n_sweptp) MUST_CHECK;
