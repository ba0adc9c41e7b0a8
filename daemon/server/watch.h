#pragma once
// SPDX-License-Identifier: MIT
/*
 * watch - sees to it that a session ends: by goodbye or proof of death, and never otherwise
 *
 *              connection gone                    proof of death, stop
 *   connected -----------------> disconnected ---------------------------> ending -> gone
 *       |  goodbye, proof of death, stop                                     ^
 *       +--------------------------------------------------------------------+
 *
 * Proof is one of two: the process's pidfd is readable, or the liveness lock that was held is free. A broken connection
 * is a reason to look. Unknown is alive.
 *
 * Happy path: a session's last request is Goodbye, whose job ends it; the watch frees it.
 * Failures:   the process dies; its pidfd wakes the loop; the connection is closed, and a job ends the session once
 *             the job that may be running for it is done.
 * On close:   watch_end() may be called again; memory goes with the last of handles and jobs.
 *
 * Threads: the session's loop. The session is the watch's from watch_start() on.
 */
#include <uv.h>

#include "server/session.h"

struct connection;
struct loop;

struct watch {
	struct loop *loop;
	struct session *session;
	struct connection *connection; /* NULL: disconnected */
	int pidfd;		       /* owned; -1: none */
	uv_poll_t pidfd_poll;	       /* of pidfd, if there is one */
	uv_timer_t lock_timer;	       /* asks the lock of a disconnected client without pidfd */
	uv_work_t work;		       /* the end */
	unsigned n_handles;	       /* still to close */
	unsigned n_jobs;	       /* running for the session */
	bool is_ending;
	bool is_in_work;
	struct watch *prev, *next; /* of the loop */
};

#define WATCH_LOCK_MS 1000u /* between two looks at a lock; simply picked */

/** watch_start() - for the session of @connection, which has none yet. Return: 0, -ESRCH the process has ended, -errno */
int watch_start(struct watch **watchp, struct connection *connection, struct session *session) MUST_CHECK;
/** watch_disconnected() - the connection is closed: look for proof */
void watch_disconnected(struct watch *watch);
/** watch_end() - end the session now, or after its jobs, and close its connection; @why for the log */
void watch_end(struct watch *watch, const char *why);

/** watch_job_begun(), watch_job_done() - a job runs for the session: its end waits. @watch may be gone after the second */
void watch_job_begun(struct watch *watch);
void watch_job_done(struct watch *watch);
