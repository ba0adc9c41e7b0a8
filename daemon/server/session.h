#pragma once
// SPDX-License-Identifier: MIT
/*
 * session - one client's standing with the daemon, and the table of them all
 *
 * Knows identity, memberships of pools, how a session ends, and how it outlives the daemon; not connections or event loops:
 * watch.h sees to it that an end comes, on proof of death.
 *
 * Threads: a session belongs to its home, a loop, for life, or to the job that runs for it; both never at once. What others see of
 * it (the list of sessions, the look-up of a resume) is guarded by the table's mutex: the links, the home, and the array of
 * memberships, which its owner reads without and changes under it. Id and token never change. The state is atomic. The table's
 * mutex is the first in the lock order.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "pool/registry.h"
#include "server/liveness.h"

#define SESSION_NO_SLOT UINT32_MAX /* a member of some pool whom the directory does not know: it can only end */

struct watch;

enum session_state {
	SESSION_ACTIVE, /* has a connection */
	SESSION_AWAY,	/* its connection is gone; its process may live */
	SESSION_ENDING, /* executes nothing any more; what it has is being given back */
	SESSION_STATE_N,
};

struct session_membership {
	uint64_t id;	   /* of the pool */
	struct pool *pool; /* counted reference, for the list: it outlives the member */
	struct pool_member *member;
};

struct session {
	struct pool_identity identity; /* .groups owned */
	struct quota_account *account; /* charged with one session */
	uint64_t since_s;	       /* seconds since 1970 */
	uint8_t token[DIRECTORY_TOKEN_BYTES];
	uint64_t started, pid_space; /* of its process: credentials_find() */
	uint32_t slot;		     /* of its record in the directory; SESSION_NO_SLOT */
	_Atomic int state;	     /* enum session_state */
	bool is_ended;		     /* session_end() is through */
	struct liveness liveness;
	struct session_membership *memberships; /* [n_memberships], by rising pool id */
	uint32_t n_memberships;
	uint32_t n_alloced;
	uint32_t last;	     /* index of the last one found */
	void *home;	     /* the loop that has it; NULL: none yet */
	struct watch *watch; /* the home's */
	struct sessions *table;
	struct session *prev, *next; /* by rising id; table mutex */
};

struct sessions {
	pthread_mutex_t mutex;
	struct registry *registry; /* gives the ids, and keeps what outlives the daemon */
	struct session *head, *tail;
};

enum {
	SESSION_E_QUOTA = 1, /* sessions of the uid */
	SESSION_E_FULL,	     /* no room for one more membership: session_make_room(), off the loop */
};

int sessions_init(struct sessions *sessions, struct registry *registry) MUST_CHECK;
/** sessions_deinit() - those that no loop has got are kept for the next daemon; others may not be left */
void sessions_deinit(struct sessions *sessions);
/**
 * sessions_recover() - those of the last daemon, with their memberships of recovered pools; before anybody else looks
 * They are AWAY; ENDING if their end had begun, or if only a pool knows them. Each waits for a home.
 * Return: 0, -ENOMEM
 */
int sessions_recover(struct sessions *sessions, const char *instance) MUST_CHECK;
/** sessions_first(), sessions_next() - by rising id, while nobody ends those that follow. Return: NULL: no more */
struct session *sessions_first(struct sessions *sessions);
struct session *sessions_next(struct sessions *sessions, const struct session *session);
/** sessions_find() - the one with @id, unless it has ended, or @token is not its own; only its home may look at it. Return: false: none */
bool sessions_find(struct sessions *sessions, uint64_t id, const uint8_t token[static DIRECTORY_TOKEN_BYTES],
		   struct session **sessionp, void **homep);

/**
 * session_new() - begin a session; charges @account
 * @instance: not NULL: with a liveness lock
 * @identity: .groups moves to the session if 0 is returned
 * Return: 0, SESSION_E_QUOTA, -ENOMEM, -ENOSPC, -EMFILE, …
 */
int session_new(struct session **sessionp, struct sessions *sessions, struct pool_identity *identity,
		struct quota_account *account, const char *instance) MUST_CHECK;
void session_set_home(struct session *session, void *home, struct watch *watch);
/** session_is_of() - whether @peer, who has shown the token, is the process of the session */
bool session_is_of(const struct session *session, const struct pool_identity *peer);
/** session_take_groups() - those of @peer, which the session owns from now on; its own are out of date, or lost in a restart */
void session_take_groups(struct session *session, struct pool_identity *peer);
/** session_keep() - forget it here; everything it has stays for the next daemon. Then session_free() */
void session_keep(struct session *session);
/** session_confirm_lock() - the client holds its liveness lock from now on */
void session_confirm_lock(struct session *session);
/** session_free() - of an ended one. NULL: nothing. Return: NULL */
struct session *session_free(struct session *session);

/** session_member() - its membership of the pool with id @pool. Return: NULL = none */
struct pool_member *session_member(struct session *session, uint64_t pool);
/**
 * session_join() - open @pool; a second time is the same membership
 * Return: 0, SESSION_E_FULL, POOL_E_* shifted by REGISTRY_POOL_E, -errno
 */
int session_join(struct session *session, struct pool *pool, struct pool_member **memberp) MUST_CHECK;
/** session_make_room() - leave pools that were destroyed, else take more memory. Off the loop. Return: 0, -ENOMEM */
int session_make_room(struct session *session) MUST_CHECK;
/** session_leave() - end the membership of a destroyed pool. Off the loop */
void session_leave(struct session *session, uint64_t pool);

/**
 * session_end() - give back everything: private pools, holds, charges; logs what was left behind
 * Long: in steps, off the loop. Running it again does nothing.
 */
void session_end(struct session *session);

/* ---- the list, for people ---- */

struct session_row {
	uint64_t session;
	uint32_t uid;
	int32_t pid;
	char command[24];
	uint64_t since_s;
	enum session_state state;
	struct pool *pool; /* counted reference; NULL: on none */
};

/**
 * sessions_list() - one row for each membership, one for a session without any; by rising (session, pool)
 * @only:  memberships of this pool; NULL: all
 * @after_session, @after_pool: the last row seen; 0, 0: from the first
 * @morep: out: there are more rows
 * Return: how many rows were stored; each has a reference that the caller drops
 */
uint32_t sessions_list(struct sessions *sessions, const struct pool *only, uint64_t after_session, uint64_t after_pool,
		       struct session_row rows[], uint32_t n_max, bool *morep);
