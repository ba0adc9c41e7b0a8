#pragma once
// SPDX-License-Identifier: MIT
/*
 * loop - one thread that serves its connections
 *
 * Owns what its connections share, because it serves one at a time: the buffer to read into, the arena to decode in, the
 * buffer that gathers replies. Knows connections and watches as members of its lists; not what they do.
 *
 * Threads: everything belongs to the loop's thread, but for start, post, stop and join, which are the main thread's.
 */
#include <uv.h>

#include "server/admission.h"
#include "server/dispatch.h"
#include "server/mailbox.h"

struct connection;
struct watch;
struct workers;

#define LOOP_USERS_N 16u /* whose time is counted; of more at once, some have more of it. Simply picked */

struct loop_user {
	const struct quota_account *account; /* NULL: nobody's */
	uint64_t round_ms;		     /* uv_now() of the loop when it had its last turn, */
	uint64_t ns;			     /* and how long all its turns at that time were */
};

struct loop {
	uv_loop_t uv;
	uv_thread_t thread;
	unsigned index;
	struct mailbox mailbox;
	uv_idle_t idle;	       /* active while a connection is ready: gives each its turn */
	uv_timer_t stop_timer; /* bounds how long a stop waits for clients to take their replies */

	const struct services *services;
	struct admission *admission;
	struct workers *workers;
	_Atomic uint32_t *n_connections; /* this loop's entry of services.loop_connections */
	void (*room)(void *arg);	 /* told when a connection was closed; any thread */
	void *room_arg;

	struct limits limits; /* this thread's copy */
	struct arena arena;
	struct dispatch dispatch;
	struct reply_buffer replies; /* of the connection that has its turn; empty between turns */
	uint8_t *read_buffer;	     /* [read_bytes]: a partial frame and what is read behind it */
	size_t read_bytes;

	struct connection *connections; /* all */
	struct connection *ready_head,
		*ready_tail;  /* those with requests left over from their last turn, or not read yet */
	uint64_t ready_round; /* times that these had their turns */
	struct loop_user users[LOOP_USERS_N];
	struct watch *watches; /* one for each session */
	bool is_stopping;
	struct mailbox_message stop_message;
};

#define LOOP_READ_BYTES (64u << 10) /* most that one read takes; simply picked */
#define LOOP_USER_NS	4000000u    /* others wait for so long for all connections of one user; simply picked */
#define LOOP_STOP_MS	1000u	    /* clients have so long to take their replies at a stop; simply picked */

/**
 * loop_start() - start the thread; @loop has been zeroed, and index, services, admission, workers, n_connections, room,
 * room_arg and limits are set
 * Return: 0, -errno: nothing is left
 */
int loop_start(struct loop *loop) MUST_CHECK;
/** loop_set_limits() - for what comes after. Return: 0, -ENOMEM. Main thread */
int loop_set_limits(struct loop *loop, const struct limits *limits) MUST_CHECK;
/** loop_stop() - finish running jobs, flush replies for a bounded time, close connections, end sessions. Main thread */
void loop_stop(struct loop *loop);
/** loop_join() - wait for that, and free. Main thread */
void loop_join(struct loop *loop);

/** loop_check_stopped() - after a connection or watch left its list: the last one out ends the thread */
void loop_check_stopped(struct loop *loop);
/** loop_make_ready() - give @connection another turn after the others had theirs */
void loop_make_ready(struct loop *loop, struct connection *connection);
/** loop_time_left() - ns that connections of @account may still be served now; 0: it is others' turn */
uint64_t loop_time_left(struct loop *loop, const struct quota_account *account);
/** loop_spend() - one of them was served for so long */
void loop_spend(struct loop *loop, const struct quota_account *account, uint64_t ns);
/** loop_unready() - it has gone */
void loop_unready(struct loop *loop, struct connection *connection);
