#pragma once
// SPDX-License-Identifier: MIT
/*
 * pending - one request until its reply was read: its frame, to be sent again on the next stream; who waits for it; and what is
 * given back if nobody does any more
 *
 * Knows frames and what undoes a request; not streams. The caller holds the connection's mutex throughout.
 */
#include <pthread.h>
#include <sys/queue.h>

#include "proto/frame.h"
#include "proto/mempool.pb-c.h"
#include "proto/util.h"

#define PENDING_SMALL_BYTES    64u /* room for any request without a name or a list: 36 at most */
#define PENDING_OVERHEAD_BYTES 22u /* id and acked: a tag and 10 bytes each */

enum pending_undo { /* what a late success of a request that was given up has got */
	UNDO_NOTHING,
	UNDO_BLOCK,  /* the block in the reply: an alloc, an acquired hold */
	UNDO_MOVED,  /* the same, if it is a new one: a realloc */
	UNDO_BLOCKS, /* those in the reply */
	UNDO_HOLD,   /* on the block that the request names */
	UNDO_SLABS,  /* those in the reply: returned, not freed */
};

struct pending {
	TAILQ_ENTRY(pending) queued;  /* connection.queue: not answered yet, in the order of ids */
	TAILQ_ENTRY(pending) waiting; /* connection.callers: not answered, and somebody waits */
	struct pending *spare;	      /* pending_spares */
	uint64_t id;		      /* 0: was never sent */
	uint64_t pool;
	uint64_t block; /* for UNDO_HOLD */
	enum pending_undo undo;
	bool is_free;	  /* a free: done for certain, whoever waits */
	bool is_on_stack; /* of the caller: nobody may leave it behind */
	bool is_sent;	  /* on this stream */
	bool is_ghost;	  /* its caller has left */
	bool is_done;
	int error;		     /* is_done without a reply: why */
	Mempool__Wire__Reply *reply; /* is_done; of a ghost: what is being given back */
	size_t n_undone;
	int fd; /* that came with the reply, or -1 */
	pthread_cond_t wake;
	size_t n_body, body_capacity;
	uint8_t *body; /* the packed request, without id and acked; small, or malloc'ed */
	uint8_t small[PENDING_SMALL_BYTES];
};

TAILQ_HEAD(pending_list, pending);

struct pending_spares { /* records kept for the next call */
	struct pending *first;
	unsigned n;
};

/** pending_cond_init() - a condition variable on the monotonic clock. Return: 0, -errno */
int pending_cond_init(pthread_cond_t *cond) MUST_CHECK;

/** pending_init() - in the caller's storage. Return: 0, -ENOMEM */
int pending_init(struct pending *pending) MUST_CHECK;
void pending_deinit(struct pending *pending);
/** pending_take() - a record, perhaps a used one; NULL: no memory */
struct pending *pending_take(struct pending_spares *spares);
/** pending_give() - back; one on the stack is ended */
void pending_give(struct pending_spares *spares, struct pending *pending);
void pending_spares_deinit(struct pending_spares *spares);

/** pending_pack() - keep @request. @limit_bytes: longest message. Return: 0, -ENOMEM, -EMSGSIZE */
int pending_pack(struct pending *pending, const Mempool__Wire__Request *request, uint64_t pool, size_t limit_bytes)
	MUST_CHECK;
bool pending_is_free(const Mempool__Wire__Request *request);

/** pending_frame_bytes() - pending_put_frame() writes no more than that */
static inline size_t pending_frame_bytes(const struct pending *pending)
{
	return FRAME_HEADER_BYTES + PENDING_OVERHEAD_BYTES + pending->n_body;
}
/** pending_put_frame() - with its id, and what has been read by now. Return: bytes written */
size_t pending_put_frame(const struct pending *pending, uint64_t acked, uint8_t *out);

/**
 * pending_undo() - a ghost is answered
 * @reply: taken over
 * Return: true: @pending is another request now, which gives something back, to be queued again; false: nothing is left to do
 */
bool pending_undo(struct pending *ghost, Mempool__Wire__Reply *reply) MUST_CHECK;
