#pragma once
// SPDX-License-Identifier: MIT
/*
 * watch - sees to it that a session ends: by goodbye or proof of death, and never otherwise; and that it has one connection
 *
 *                 connection gone                    proof of death
 *      connected -----------------> disconnected ---------------------> ending -> gone
 *       |     ^  a Hello resumes it   |    ^                              ^
 *       |     +-----------------------+    | a start finds it             |
 *       |  goodbye, proof of death                                        |
 *       +-----------------------------------------------------------------+
 *
 * Proof is one of two: the process's pidfd is readable, or the liveness lock that was held is free. A broken connection
 * is a reason to look. Unknown is alive. A stop of the daemon is no end: the session is kept for the next one (an ephemeral
 * daemon ends it).
 *
 * The fence. A session is resumed on its home loop, where its old connection is too: a connection that resumes moves there before
 * its Hello is answered. There the old connection is closed first; what it had in its socket and its buffers is never
 * looked at again. A request of it that runs as a job is waited for: until then the new connection is parked, its Hello
 * unexecuted. All requests of a session run on its home, or as such a job; so when the Hello is answered, no request of the
 * old connection runs, and none ever will.
 *
 * Happy path: a session's last request is Goodbye, whose job ends it; the watch frees it.
 * Failures:   the process dies; its pidfd wakes the loop; the connection is closed, and a job ends the session once
 *             the job that may be running for it is done.
 * On close:   watch_end() may be called again; memory goes with the last of handles and jobs.
 *
 * Threads: the session's home loop. The session is the watch's from watch_start() or watch_adopt() on.
 */
#include <uv.h>

#include "server/mailbox.h"
#include "server/session.h"
#include "server/workers.h"

struct connection;
struct loop;

struct watch {
	struct mailbox_message message; /* of watch_adopt() */
	struct loop *loop;
	struct session *session;
	struct connection *connection; /* NULL: disconnected */
	struct connection *parked;     /* wants to resume, when the jobs are done; NULL: none */
	int pidfd;		       /* owned; -1: none */
	uv_poll_t pidfd_poll;	       /* of pidfd, if there is one */
	uv_timer_t lock_timer;	       /* asks the lock of a disconnected client */
	struct work work;	       /* the end */
	unsigned n_handles;	       /* still to close */
	unsigned n_jobs;	       /* that run for the session, or wait for their turn */
	bool is_ending;
	bool is_in_work;
	struct watch *prev, *next; /* of the loop */
};

#define WATCH_LOCK_MS 1000u /* between two looks at a lock; simply picked */

/** watch_start() - for the session of @connection, which has none yet. Return: 0, -ESRCH the process has ended, -errno */
int watch_start(struct watch **watchp, struct connection *connection, struct session *session) MUST_CHECK;
/** watch_adopt() - give @session, which a start has found, to @loop. Before there are connections. Return: 0, -ENOMEM */
int watch_adopt(struct loop *loop, struct session *session) MUST_CHECK;
/**
 * watch_resume() - @connection, of the session's process, is its connection from now on; the old one is closed
 * Return: 0; WATCH_E_PARKED: not yet: it gets a turn when it may ask again; -ESTALE: the session ends
 */
int watch_resume(struct watch *watch, struct connection *connection) MUST_CHECK;
enum {
	WATCH_E_PARKED = 1
};
/** watch_unpark() - the connection that waits is closed */
void watch_unpark(struct watch *watch);
/** watch_stop() - the daemon stops: once nothing runs for it, the session is kept, or (ephemeral) ended */
void watch_stop(struct watch *watch);
/** watch_disconnected() - the connection is closed: look for proof */
void watch_disconnected(struct watch *watch);
/** watch_end() - end the session now, or after its jobs, and close its connection; @why for the log */
void watch_end(struct watch *watch, const char *why);

/** watch_job_begun(), watch_job_done() - a job runs for the session, or will: its end waits. @watch may be gone after the second */
void watch_job_begun(struct watch *watch);
void watch_job_done(struct watch *watch);
