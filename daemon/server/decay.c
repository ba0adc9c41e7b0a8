// SPDX-License-Identifier: MIT
#include <stdint.h>

#include "server/decay.h"
#include "server/workers.h"

static void timer_cb(uv_timer_t *timer);

/* The first job starts all of libuv's threads, so there is one only when something is due. */
static void plan(struct decay *decay, uint64_t in_ms)
{
	if (in_ms != UINT64_MAX && !decay->is_stopped)
		uv_timer_start(&decay->timer, timer_cb, in_ms, 0);
}

static void work_cb(uv_work_t *work)
{
	struct decay *decay = work->data;

	decay->next_ms = registry_decay_step(decay->registry);
}

static void after_work_cb(uv_work_t *work, int status)
{
	struct decay *decay = work->data;
	bool was_wanted = decay->is_wanted;

	(void)status; /* nobody cancels it */
	decay->is_running = decay->is_wanted = false;
	plan(decay, was_wanted ? registry_decay_in(decay->registry) : decay->next_ms);
}

static void timer_cb(uv_timer_t *timer)
{
	struct decay *decay = timer->data;
	sigset_t before;

	decay->is_running = true;
	decay->work.data = decay;
	workers_mask_signals(&before);
	uv_queue_work(decay->async.loop, &decay->work, work_cb, after_work_cb); /* fails for a missing callback only */
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void decay_start(struct decay *decay, struct registry *registry)
{
	decay->registry = registry;
	plan(decay, registry_decay_in(registry));
}

/* What became a gap now is due after all that is planned already. */
static void wanted_cb(uv_async_t *async)
{
	struct decay *decay = async->data;

	if (!decay->registry || decay->is_stopped || uv_is_active((uv_handle_t *)&decay->timer))
		return; /* once stopped, there may be no registry any more */
	if (decay->is_running)
		decay->is_wanted = true;
	else
		plan(decay, registry_decay_in(decay->registry));
}

void decay_wanted(void *arg)
{
	struct decay *decay = arg;

	uv_async_send(&decay->async);
}

int decay_open(struct decay *decay, uv_loop_t *uv)
{
	int r;

	*decay = (struct decay){0};
	r = uv_async_init(uv, &decay->async, wanted_cb);
	if (r)
		return r;
	uv_timer_init(uv, &decay->timer);
	decay->async.data = decay->timer.data = decay;
	uv_unref((uv_handle_t *)&decay->async); /* alone it keeps no loop running: see decay_stop() */
	return 0;
}

void decay_stop(struct decay *decay)
{
	decay->is_stopped = true;
	uv_timer_stop(&decay->timer);
}

void decay_close(struct decay *decay)
{
	uv_close((uv_handle_t *)&decay->async, NULL);
	uv_close((uv_handle_t *)&decay->timer, NULL);
}
