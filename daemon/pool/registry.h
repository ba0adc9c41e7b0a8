#pragma once
// SPDX-License-Identifier: MIT
/*
 * registry - the pools of one daemon instance, by name and by id, and the counter of session ids
 *
 * The registry's own shared memory object, "/mempool.<instance>", carries the instance lock: in the segments' own
 * directory, because a lock beside the socket would not see a second daemon in another container.
 *
 * Threads: any; one mutex, the first in the lock order. Pools are handed out with a reference that the caller drops.
 */
#include "pool/pool.h"

struct registry;

enum registry_outcome {
	REGISTRY_E_IN_USE = 1, /* another daemon runs this instance */
	REGISTRY_E_NAME_TAKEN,
	REGISTRY_E_NO_POOL,
	REGISTRY_E_QUOTA, /* pools of the uid */
	REGISTRY_E_NOT_ALLOWED,
};

struct registry_config {
	const char *instance;
	uint64_t quota_limit[QUOTA_KIND_N];
	uint64_t budget_bytes;
	uint64_t decay_ms;
	void (*decay_wanted)(void *arg);
	void *decay_arg;
};

/** registry_open() - take the instance lock, sweep what a crash left. @n_sweptp: objects removed. Return: 0; REGISTRY_E_IN_USE; -errno */
int registry_open(struct registry **registryp, const struct registry_config *config, int *n_sweptp) MUST_CHECK;
/** registry_close() - destroy all pools, remove every object, free. No member may be left. Return: NULL */
struct registry *registry_close(struct registry *registry);

struct quota *registry_quota(struct registry *registry);
uint64_t registry_next_session(struct registry *registry); /* an id never used before; from 1 */

/**
 * registry_create() - create a pool; charges the uid. May take long (reserve): off the loop then
 * @poolp: out: with a reference
 * Return: 0; REGISTRY_E_NAME_TAKEN, _QUOTA; POOL_E_* shifted by REGISTRY_POOL_E; -errno
 */
#define REGISTRY_POOL_E 100
int registry_create(struct registry *registry, const struct pool_options *options, struct pool **poolp) MUST_CHECK;
/** registry_find() - by name, with a reference. Return: 0; REGISTRY_E_NO_POOL */
int registry_find(struct registry *registry, const void *name, size_t n_name_bytes, struct pool **poolp) MUST_CHECK;
int registry_find_id(struct registry *registry, uint64_t id, struct pool **poolp) MUST_CHECK;
/** registry_remove() - take @pool out of the lists and pool_destroy() it. Return: as pool_destroy() */
int registry_remove(struct registry *registry, struct pool *pool, bool if_empty, struct pool_warning *warning)
	MUST_CHECK;
/** registry_list() - named pools with an id above @after, by rising id, with references. Return: how many */
uint32_t registry_list(struct registry *registry, uint64_t after, struct pool *pools[], uint32_t n_max);
/** registry_suggest() - the existing name nearest to a mistyped one (edit distance up to 2), or "" */
void registry_suggest(struct registry *registry, const void *name, size_t n_name_bytes,
		      char out[static NAME_BYTES_MAX + 1]);
/** registry_decay_step() - one step of every pool that wants it; off the loop. Return: as pool_decay_step(), the earliest */
uint64_t registry_decay_step(struct registry *registry);
