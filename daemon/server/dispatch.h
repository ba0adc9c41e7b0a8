#pragma once
// SPDX-License-Identifier: MIT
/*
 * dispatch - from the bytes of one request to the bytes of its reply
 *
 * Knows messages, sessions and pools; not sockets, event loops or threads: a test or a fuzzer drives it with an array of
 * bytes. What a request *means* stands in dispatch_session.c, dispatch_pool.c, dispatch_block.c, dispatch_lease.c and dispatch_show.c.
 *
 * Threads: one request of a peer at a time, on whichever thread. A struct dispatch belongs to one thread; services may
 * be shared by all.
 */
#include <stdatomic.h>
#include <stdint.h>

#include "pool/registry.h"
#include "server/arena.h"
#include "server/limits.h"
#include "server/log.h"
#include "server/reply_buffer.h"

struct session;
struct sessions;

struct services { /* what requests work on; outlives every session */
	struct registry *registry;
	struct sessions *sessions; /* the table that ListSessions shows */
	const char *instance;
	uint64_t started_ns;			  /* CLOCK_MONOTONIC */
	const _Atomic uint32_t *loop_connections; /* [n_loops] */
	uint32_t n_loops;
	bool is_ephemeral;	  /* a stop ends every session, and keeps nothing */
	_Atomic bool is_stopping; /* a session that is not in the table may be one that was put by for the next daemon */
};

struct dispatch { /* one a thread */
	const struct services *services;
	const struct limits *limits;
	struct arena *arena; /* reset by each request; sized by limits.decode_arena and .decode_objects */
};

struct peer {			       /* who sends the requests */
	struct pool_identity identity; /* .session 0, .groups owned; Hello moves the groups to the session */
	struct quota_account *account; /* of identity.uid */
	struct log_source log;
	struct session *session; /* NULL: no Hello yet. Whoever owns the peer ends and frees it: session.h */
	uint64_t last_id;	 /* of the last request; 0 after a Hello that resumed */
	unsigned last_op;	 /* field number of its operation */
	uint64_t lane;		 /* with DISPATCH_E_SLOW: whom it stands in line with; 0: nobody. See request.h */
	int (*begun)(struct peer *peer); /* NULL, or: a session begins; an error (-errno) refuses the Hello */
	/*
	 * NULL, or what resumes @session, which only @home may look at. Return: 0: it is this peer's from now on; DISPATCH_E_LATER;
	 * -EACCES: another process's; -ESTALE: it ends
	 */
	int (*resume)(struct peer *peer, struct session *session, void *home);
};

enum dispatch_outcome {
	DISPATCH_E_SLOW = 1, /* nothing happened: call again with DISPATCH_MAY_BLOCK, off the loop */
	DISPATCH_E_CLOSE,    /* answered, and this was the last: close once the replies are sent */
	DISPATCH_E_LATER,    /* nothing happened, and peer->resume() knows why: call again when it says so */
};

enum {
	DISPATCH_MAY_BLOCK = POOL_MAY_BLOCK
};

#define DISPATCH_ID_MAX INT64_MAX
/*
 * Sizes or offsets in one request. So many blocks of 64 bytes hold a pool's mutex, and the loop, for 0.4 ms (alloc) to 1 ms (free)
 * where the pool and its books have their pages, and for about 4 ms where the kernel has yet to give them: measured in round trips, on two
 * cores. Longer than a turn, but one request's.
 */
#define DISPATCH_BATCH_MAX   4096u
#define DISPATCH_UNKNOWN_MAX 16u /* unknown fields of a newer client that are ignored; simply picked */

/**
 * dispatch_request() - execute one request
 * @message: [n_bytes], without the frame's header; not needed after the call
 * @flags:   DISPATCH_MAY_BLOCK or 0
 * @out:     one frame is added, perhaps with a descriptor, unless the result is DISPATCH_E_SLOW, _LATER or negative; out->fd
 *           must be -1 before
 *
 * Return: 0 answered (a refusal is an answer); DISPATCH_E_*; -ENOMEM there is no memory for an answer: close.
 */
int dispatch_request(struct dispatch *dispatch, struct peer *peer, const uint8_t *message, size_t n_bytes,
		     unsigned flags, struct reply_buffer *out) MUST_CHECK;

/**
 * dispatch_notice() - a reply that no request asked for: id 0, about the connection itself, which is then closed
 * Return: 0, -ENOMEM
 */
int dispatch_notice(struct reply_buffer *out, int status, const char *sentence) MUST_CHECK;

/** peer_deinit() - frees what the peer owns; not its session */
void peer_deinit(struct peer *peer);
