// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/connection.h"
#include "server/job.h"
#include "server/loop.h"
#include "server/watch.h"

static struct job *job_of(struct work *work)
{
	return HOLDER_OF(work, struct job, work);
}

static void run(struct work *work)
{
	struct job *job = job_of(work);

	job->result = dispatch_request(&job->dispatch, &job->connection->peer, job->message, job->n_bytes,
				       DISPATCH_MAY_BLOCK, &job->replies);
}

static void done(struct work *work)
{
	struct job *job = job_of(work);

	connection_job_done(job->connection, job);
}

int job_start(struct job **jobp, struct connection *connection, const uint8_t *message, size_t n_bytes)
{
	struct loop *loop = connection->loop;
	struct job *job = malloc(sizeof(*job) + n_bytes);
	int r;

	if (!job)
		return -ENOMEM;
	*job = (struct job){
		.connection = connection,
		.watch = connection->watch,
		.limits = loop->limits,
		.replies = REPLY_BUFFER_NULL,
		.n_bytes = n_bytes,
	};
	memcpy(job->message, message, n_bytes);
	r = arena_init(&job->arena, job->limits.decode_arena, job->limits.decode_objects);
	if (r) {
		free(job);
		return r;
	}
	job->dispatch = (struct dispatch){.services = loop->services, .limits = &job->limits, .arena = &job->arena};
	job->work = (struct work){
		.uv = &loop->uv,
		.mailbox = &loop->mailbox,
		.lane = connection->peer.lane,
		.uid = connection->peer.identity.uid,
		.run = run,
		.done = done,
	};
	watch_job_begun(job->watch);
	workers_start(loop->workers, &job->work);
	*jobp = job;
	return 0;
}

bool job_cancel(struct job *job)
{
	return workers_cancel(&job->work);
}

struct job *job_free(struct job *job)
{
	if (!job)
		return NULL;
	arena_deinit(&job->arena);
	reply_buffer_deinit(&job->replies);
	free(job);
	return NULL;
}
