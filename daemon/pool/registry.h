#pragma once
// SPDX-License-Identifier: MIT
/*
 * registry - the pools of one daemon instance, by name and by id, and what of its sessions outlives the daemon
 *
 * The registry's own shared memory object, "/mempool.<instance>", is the directory of the instance, and carries its lock: in the
 * segments' own directory, because a lock beside the socket would not see a second daemon in another container.
 *
 * Threads: any; one mutex, the first in the lock order. Pools are handed out with a reference that the caller drops.
 */
#include "pool/directory.h"
#include "pool/pool.h"

struct registry;

enum registry_outcome {
	REGISTRY_E_IN_USE = 1, /* another daemon runs this instance */
	REGISTRY_E_NAME_TAKEN,
	REGISTRY_E_NO_POOL,
	REGISTRY_E_QUOTA, /* pools of the uid */
	REGISTRY_E_NOT_ALLOWED,
	REGISTRY_E_VERSION,	/* the directory is of another format */
	REGISTRY_E_DAMAGED,	/* it is no directory, or cannot be right */
	REGISTRY_E_SQUATTED,	/* something else has its name */
	REGISTRY_E_UNRECOVERED, /* the pool is there, but could not be recovered */
	REGISTRY_E_NAME_KEPT,	/* by such a pool */
	REGISTRY_OUTCOME_N,
};

struct registry_config {
	const char *instance;
	uint64_t quota_limit[QUOTA_KIND_N];
	uint64_t budget_bytes;
	uint64_t decay_ms;
	void (*decay_wanted)(void *arg);
	void *decay_arg;
	void (*tell)(void *arg, const char *sentence); /* as pool_env.tell, and of what could not be recovered */
	void *tell_arg;
};

struct registry_call {	  /* a request, so that it is executed once */
	uint32_t slot;	  /* of its session */
	uint64_t session; /* its id */
	uint64_t request; /* id; 0: none that will ever be asked for again */
};

/**
 * registry_open() - take the instance lock, recover the pools that the last daemon left, remove objects that nothing names
 * A pool that cannot be recovered is told of and left alone; it keeps its place in the directory, and its name.
 * @n_sweptp: objects removed
 * Return: 0; REGISTRY_E_IN_USE, _VERSION, _DAMAGED, _SQUATTED; -errno
 */
int registry_open(struct registry **registryp, const struct registry_config *config, int *n_sweptp) MUST_CHECK;
/** registry_close() - destroy all pools, remove every object, free. No member may be left. Return: NULL */
struct registry *registry_close(struct registry *registry);
/** registry_keep() - free, and let go of the instance; pools and sessions stay for the next daemon, and if there never were any, nothing. No reference may be left. Return: NULL */
struct registry *registry_keep(struct registry *registry);

struct quota *registry_quota(struct registry *registry);
/** registry_recovery() - what registry_open() brought back; all zero: nothing was there */
const struct directory_recovery *registry_recovery(const struct registry *registry);
/** registry_figures() - what a stop keeps: pools, blocks, bytes, sessions; the rest is zero */
void registry_figures(struct registry *registry, struct directory_recovery *out);
/** registry_recoveries() - the last ones of the instance, newest first. @totalp: how many there ever were. Return: how many were stored */
uint32_t registry_recoveries(struct registry *registry, struct directory_recovery out[], uint32_t n_max,
			     uint64_t *totalp);

/* ---- sessions, as far as they outlive the daemon; the caller gives and keeps the slot ---- */

/** registry_add_session() - gives session->id, never used before; from 1. Return: 0; -ENOSPC */
int registry_add_session(struct registry *registry, struct directory_session *session, uint32_t *slotp) MUST_CHECK;
/** registry_set_session() - DIRECTORY_* on */
void registry_set_session(struct registry *registry, uint32_t slot, unsigned state);
/** registry_remove_session() - after everything it had was given back */
void registry_remove_session(struct registry *registry, uint32_t slot);
/** registry_session() - of the last daemon, by slot from 0 on. Return: false: there are no more from @slotp on; else *slotp is its own */
bool registry_session(struct registry *registry, uint32_t *slotp, struct directory_session *out, unsigned *statep);
/** registry_answer() - @call changed nothing, or its effect was undone: remember its answer */
void registry_answer(struct registry *registry, const struct registry_call *call, int outcome);
/** registry_answered() - whether a request about pools was executed before, and what it was answered */
bool registry_answered(struct registry *registry, const struct registry_call *call, struct directory_answer *answer);

/**
 * registry_create() - create a pool; charges the uid. May take long (reserve): off the loop then
 * @poolp: out: with a reference
 * Return: 0; REGISTRY_E_NAME_TAKEN, _NAME_KEPT, _QUOTA; POOL_E_* shifted by REGISTRY_POOL_E; -errno
 */
#define REGISTRY_POOL_E 100
int registry_create(struct registry *registry, const struct pool_options *options, const struct registry_call *call,
		    struct pool **poolp) MUST_CHECK;
/** registry_find() - by name, with a reference. Return: 0; REGISTRY_E_NO_POOL, _UNRECOVERED */
int registry_find(struct registry *registry, const void *name, size_t n_name_bytes, struct pool **poolp) MUST_CHECK;
int registry_find_id(struct registry *registry, uint64_t id, struct pool **poolp) MUST_CHECK;
/** registry_remove() - take @pool out of the lists and pool_destroy() it. @call: or NULL. Return: as pool_destroy() */
int registry_remove(struct registry *registry, struct pool *pool, bool if_empty, const struct registry_call *call,
		    struct pool_warning *warning) MUST_CHECK;
/** registry_forget() - remove a pool that could not be recovered, objects and all. Return: 0; REGISTRY_E_NO_POOL: there is none of that name */
int registry_forget(struct registry *registry, const void *name, size_t n_name_bytes, const struct registry_call *call)
	MUST_CHECK;
/** registry_owner() - the session that a private pool goes with; 0: none */
uint64_t registry_owner(struct registry *registry, uint64_t pool);
/** registry_remove_owned() - destroy the private pools of @session, opened or not */
void registry_remove_owned(struct registry *registry, uint64_t session);
/** registry_list() - named pools with an id above @after, by rising id, with references. Return: how many */
uint32_t registry_list(struct registry *registry, uint64_t after, struct pool *pools[], uint32_t n_max);
/** registry_list_all() - private ones too */
uint32_t registry_list_all(struct registry *registry, uint64_t after, struct pool *pools[], uint32_t n_max);
/** registry_suggest() - the existing name nearest to a mistyped one (edit distance up to 2), or "" */
void registry_suggest(struct registry *registry, const void *name, size_t n_name_bytes,
		      char out[static NAME_BYTES_MAX + 1]);
/** registry_decay_step() - one step of every pool that wants it; off the loop. Return: as pool_decay_step(), the earliest */
uint64_t registry_decay_step(struct registry *registry);
/** registry_decay_in() - Return: as pool_decay_in(), the earliest */
uint64_t registry_decay_in(struct registry *registry);
