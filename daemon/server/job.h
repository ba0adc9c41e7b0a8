#pragma once
// SPDX-License-Identifier: MIT
/*
 * job - one slow request, executed by a worker
 *
 * Has a copy of the request's bytes, an arena and a buffer of its own, so that the loop goes on; its connection takes no
 * other request meanwhile, and its session does not end.
 *
 * Threads: made and freed on the loop; in between it alone has the peer and the session.
 */
#include "server/dispatch.h"
#include "server/workers.h"

struct connection;
struct watch;

struct job {
	struct work work;
	struct connection *connection; /* kept until the job is done */
	struct watch *watch;
	struct limits limits; /* as they were */
	struct arena arena;
	struct dispatch dispatch;
	struct reply_buffer replies;
	int result; /* of dispatch_request() */
	size_t n_bytes;
	uint8_t message[];
};

/** job_start() - run @message; connection_job_done() follows on the loop, unless job_cancel() was in time. Return: 0, -ENOMEM */
int job_start(struct job **jobp, struct connection *connection, const uint8_t *message, size_t n_bytes) MUST_CHECK;
/** job_cancel() - Return: true: it has not been executed, and will not be */
bool job_cancel(struct job *job);
struct job *job_free(struct job *job);
