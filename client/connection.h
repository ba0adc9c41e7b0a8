#pragma once
// SPDX-License-Identifier: MIT
/*
 * connection - one session that many threads share: requests go out in the order of their ids, replies find their callers, and a
 * stream that breaks is replaced by another
 *
 * Knows frames, ids, streams and Hello; not what else a request means.
 *
 * Threads: any. The mutex guards everything but the stream's system calls. No thread of the library's own is needed: those
 * who wait do the work, in two roles that one thread at a time has.
 *
 * - The *driver* (is_driving) moves the connection on. While there is a stream it receives, without the mutex, and hands
 *   replies to whom they belong; while there is none it waits until it is time to try, and connects. Only the driver changes
 *   DOWN to GREETING and GREETING to UP. Who waits for a reply and finds no driver becomes it; who leaves wakes the next.
 * - The *sender* (is_sending) sends, without the mutex, what is queued and fits the daemon's window.
 *
 *	     Hello answered		 Hello sent
 *	UP <---------------- GREETING <------------- DOWN	any of them --> LOST, for good
 *	 \			  \		     ^
 *	  `------------------------`-----------------'  the stream broke: whoever notices shuts it, so that the other role comes back
 *
 * A descriptor is closed and another put in its place by the driver, when nobody sends: nobody else is in a system call then.
 *
 * What makes "exactly once":
 * - A request is in the queue from the call until its reply was read, and keeps its frame; a new stream begins again with the
 *   first of the queue. The daemon answers again what it has done.
 * - An id is given when a request is first sent, not before. So those unanswered are consecutive, and never more than the window:
 *   the daemon keeps the answers of exactly so many. Nothing is known to the daemon of a request without an id: if its
 *   caller leaves, it is forgotten.
 * - `acked` is the id before the first in the queue, whatever is sent.
 *
 * A *ghost* is a request whose caller has left, after its time was over. One that was sent stays in the queue, is sent again like the
 * others, and a late success is given back by a FreeBatch, which is itself a ghost. A free is never given up: it stays whether
 * it was sent or not, and its caller is told that it is done. So ghosts that are not frees are no more than the window.
 *
 * Memory: a request's record is had before it is queued, so that leaving it behind needs none; giving back needs none (pending.h);
 * the buffer that frames leave from is as large as the longest. A *free* for which there is no record uses its caller's stack,
 * and then waits for its reply as long as that takes or until there is a record to leave behind: without memory it may be
 * late, but it does not fail.
 *
 * Fork: a child may only let go of memory and descriptors. Mutex, conditions, queue and roles are as whatever thread of the
 * parent had them; the stream and what is said on it are the parent's.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "client/deadline.h"
#include "client/pending.h"
#include "client/stream.h"

enum connection_state {
	CONNECTION_UP,
	CONNECTION_DOWN,     /* the stream broke; there may be a descriptor to close */
	CONNECTION_GREETING, /* there is a stream, and Hello is on its way */
	CONNECTION_LOST,     /* the session will not come back */
};

#define TOKEN_BYTES 16u

struct call { /* what came of a request */
	Mempool__Wire__Reply *reply;
	int fd; /* that came with it, or -1 */
};

struct connection {
	pthread_mutex_t mutex;
	enum connection_state state;
	bool is_driving, is_sending;
	bool is_ending;		    /* only Goodbye is left to be said */
	pthread_cond_t sender_left; /* while DOWN */
	struct stream stream;
	int timeout_ms;

	struct pending_list queue;    /* not answered, in the order of ids */
	struct pending_list callers;  /* of them, those that somebody waits for */
	struct pending *first_unsent; /* on this stream; in the queue */
	uint32_t n_sent;	      /* before it */
	struct pending_spares spares;
	uint64_t last_id;
	uint8_t *out; /* frames on their way, [n_out], [n_out_done] of it gone; the sender's */
	size_t n_out, n_out_done;

	uint32_t window; /* requests that may be unanswered */
	uint32_t max_request_bytes;
	_Atomic uint32_t max_batch;

	/* resume.c */
	uint64_t session;
	bool has_token; /* false: the session ends with its stream */
	uint8_t token[TOKEN_BYTES];
	char path[108]; /* of the socket that answered; there is no other for this session */
	uint64_t next_try_ms;
	uint32_t pause_ms; /* before the next try; 0: the last stream was of use */
	uint64_t n_resumes;
	int lost; /* LOST: a negative errno, and why */
	char lost_text[512];
	void (*on_lost)(void *arg); /* once, with the mutex, before anybody is told; NULL: nobody cares */
	void *on_lost_arg;
};

/** connection_init() - @fd is taken over on success. Return: 0, -ENOMEM */
int connection_init(struct connection *connection, int fd, const char *path) MUST_CHECK;
/** connection_deinit() - @is_ours: false in a forked child, see above */
void connection_deinit(struct connection *connection, bool is_ours);
void connection_set_timeout(struct connection *connection, int timeout_ms);

/** connection_begin() - take over what Hello was answered */
void connection_begin(struct connection *connection, const Mempool__Wire__HelloReply *hello);

/**
 * connection_call() - send @request and wait for its reply, over as many streams as it takes
 * @waits: false: as if the time were over at once
 * @call:  out; call_deinit() it after a 0
 *
 * Return: 0 a reply is there (whatever its status); -ETIMEDOUT the daemon is silent, -EHOSTDOWN absent: given up, but for a free,
 * which is queued; -ENOMEM, -EMSGSIZE nothing was sent; the session is lost: see connection_lost()
 */
int connection_call(struct connection *connection, Mempool__Wire__Request *request, uint64_t pool, bool waits,
		    struct call *call) MUST_CHECK;
void call_deinit(struct call *call);
/**
 * connection_call_each() - the same for [n] requests at once, which do not wait for each other's replies
 * @n: at most CONNECTION_EACH_MAX
 * @calls: out; call_deinit() those with a result of 0
 * @results: out: what connection_call() would return
 */
void connection_call_each(struct connection *connection, unsigned n, Mempool__Wire__Request requests[], uint64_t pool,
			  struct call calls[], int results[]);
#define CONNECTION_EACH_MAX 64u /* simply picked: half of the daemon's window, and small enough for a stack */

/** connection_lost() - Return: 0; why the session is lost, and a sentence in @text */
int connection_lost(struct connection *connection, char *text, size_t n_text);

/**
 * connection_end() - do what is queued, say Goodbye, and shut the stream
 *
 * Waits as long as a call for an absent daemon only if there is a free to be done: all else ends with the session anyway.
 */
void connection_end(struct connection *connection);

/* ---- between connection.c and resume.c; with the mutex ---- */

/** connection_wait() - Return: false when the time is over */
bool connection_wait(struct connection *connection, pthread_cond_t *cond, const struct deadline *deadline);
/** connection_broke() - the stream is of no use any more; may be said more than once */
void connection_broke(struct connection *connection);
/** connection_lose() - for good: everybody is told */
void connection_lose(struct connection *connection, int error, const char *text);
/** connection_acked() - every reply up to this id has been read */
uint64_t connection_acked(const struct connection *connection);
/** connection_rewind() - there is a new stream: nothing is sent */
void connection_rewind(struct connection *connection);
/** resume_drive() - the driver's work while DOWN: wait on @cond until it is time to try, or try */
void resume_drive(struct connection *connection, pthread_cond_t *cond, const struct deadline *deadline);
/** resume_answered() - while GREETING: @reply is Hello's, or about the stream itself. The caller frees it. */
void resume_answered(struct connection *connection, const Mempool__Wire__Reply *reply);
/** resume_fell() - the stream broke: when to try again */
void resume_fell(struct connection *connection);
