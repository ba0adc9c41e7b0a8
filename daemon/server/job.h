#pragma once
// SPDX-License-Identifier: MIT
/*
 * job - one slow request, executed in libuv's thread pool
 *
 * Has a copy of the request's bytes, an arena and a buffer of its own, so that the loop goes on; its connection takes no
 * other request meanwhile, and its session does not end.
 *
 * Threads: made and freed on the loop; in between it alone has the peer and the session.
 */
#include <uv.h>

#include "server/dispatch.h"

struct connection;
struct watch;

struct job {
	uv_work_t work;
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

/** job_start() - run @message; connection_job_done() follows on the loop, always. Return: 0, -ENOMEM */
int job_start(struct job **jobp, struct connection *connection, const uint8_t *message, size_t n_bytes) MUST_CHECK;
struct job *job_free(struct job *job);
