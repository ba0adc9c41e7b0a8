#pragma once
// SPDX-License-Identifier: MIT
/*
 * decay - gives pages of large gaps back to the kernel, some time after they became gaps
 *
 * A timer on the main loop, armed only while a pool has something to give back; the work itself runs as a job.
 *
 * Threads: the main thread's, but for decay_wanted(), which any may call.
 */
#include <uv.h>

#include "pool/registry.h"

struct decay {
	uv_async_t async;
	uv_timer_t timer;
	uv_work_t work;
	struct registry *registry; /* NULL until decay_start(); jobs read it */
	uint64_t next_ms;	   /* out of the job: until there is more to do */
	bool is_running;	   /* the job */
	bool is_wanted;		   /* asked for while it ran */
	bool is_stopped;
};

/** decay_open() - on the loop @uv; nothing runs yet. Return: 0, -errno */
int decay_open(struct decay *decay, uv_loop_t *uv) MUST_CHECK;
/** decay_start() - look whether there is something to do, now and whenever it is wanted */
void decay_start(struct decay *decay, struct registry *registry);
/** decay_wanted() - as pool_env.decay_wanted; @arg is a struct decay. Never blocks */
void decay_wanted(void *arg);
/** decay_stop() - nothing new begins; run the loop afterwards, and a running job comes in */
void decay_stop(struct decay *decay);
/** decay_close() - after that, when nobody can want it any more; run the loop afterwards */
void decay_close(struct decay *decay);
