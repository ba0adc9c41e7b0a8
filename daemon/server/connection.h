#pragma once
// SPDX-License-Identifier: MIT
/*
 * connection - one client's stream: frames in, replies out, and the limits of both
 *
 * Knows sockets, buffers and deadlines; not what requests mean. Requests are executed strictly in order; while one is a
 * job, or the client does not take its replies, nothing more is read.
 *
 * Threads: made by the acceptor, and then its loop's. A Hello that resumes a session takes it to that session's home loop, where it
 * stays: from its Hello's answer on, a connection belongs to one loop.
 */
#include <uv.h>

#include "server/dispatch.h"
#include "server/mailbox.h"
#include "server/output.h"

struct job;
struct loop;
struct watch;

struct connection {
	struct mailbox_message start_message;
	struct loop *loop;
	int fd;
	struct peer peer;      /* the job's while there is one */
	struct log_source log; /* of the loop's own lines; peer.log is for those of requests */
	struct watch *watch;   /* of its session; NULL before Hello and after Goodbye */
	struct job *job;       /* for it, running or waiting for its turn; NULL: none */

	uv_poll_t poll;
	uv_timer_t timer;
	unsigned n_handles; /* still to close; the memory goes with the last of them and the job */
	int events;	    /* that poll waits for now */

	uint8_t *input; /* [input_alloced]: requests that had no turn yet, and perhaps a part of one */
	size_t n_input, input_alloced;
	struct output output;

	uint64_t hello_deadline, frame_deadline, slow_deadline, linger_deadline; /* loop's ms; 0: none */
	uint64_t armed; /* when the timer fires; 0: not at all */

	bool is_greeted;	 /* said Hello */
	bool is_throttled;	 /* does not take its replies: nothing is read */
	bool is_finishing;	 /* closes when its replies are sent */
	bool is_closing;	 /* is closed; waits for handles and job */
	bool is_ready;		 /* on the loop's ready list */
	bool is_unread;		 /* with it: what there is to read had no turn yet */
	bool has_moved;		 /* from another loop, with its Hello in the input */
	struct watch *parked_at; /* its Hello waits for the jobs of the session that it resumes; NULL: it does not */
	struct loop *moves_to;	 /* home of the session that it resumes: it goes there; NULL: it does not */
	struct connection *prev, *next; /* all of the loop */
	struct connection *ready_next;
	uint64_t ready_round; /* of the loop, when it became ready */
};

/**
 * connection_new() - for the socket @fd of @identity, who was admitted (admission.h)
 * Ownership: @fd, identity->groups and the admission are the connection's if 0 is returned
 * Return: 0, -ENOMEM
 */
int connection_new(struct connection **connectionp, struct loop *loop, int fd, const struct pool_identity *identity,
		   struct quota_account *account) MUST_CHECK;
/** connection_post() - hand it to its loop. Main thread, which has it no more */
void connection_post(struct connection *connection);

/** connection_turn() - execute what is in the input, or to be read, up to the limit of one turn */
void connection_turn(struct connection *connection);
/** connection_job_done() - the answer of its job; frees @job */
void connection_job_done(struct connection *connection, struct job *job);
/** connection_unpark() - it may ask again whether it may resume: in a turn of its own */
void connection_unpark(struct connection *connection);
/** connection_part() - its session is gone, the connection stays for the last reply */
void connection_part(struct connection *connection);
/** connection_finish() - take no more requests; close when the replies are sent, or after a while */
void connection_finish(struct connection *connection);
/** connection_close() - now; @why for the log, NULL: needs no words. May be called again */
void connection_close(struct connection *connection, const char *why);
