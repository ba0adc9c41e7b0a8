// SPDX-License-Identifier: MIT
#include "kill_step.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "stepper.h"
#include "tests/lib/daemon.h"

#define STEPS_MAX 2000000

struct client { /* what one is to do */
	const char *socket;
	const struct kill_step_call *call;
};

int kill_step_begin(struct daemon *daemon, uint64_t pool_bytes, const struct mempool_pool_options *options,
		    struct mempool_client **clientp, struct mempool_pool **poolp)
{
	int r = daemon_init(daemon);

	if (!r)
		r = daemon_start(daemon, NULL);
	if (!r)
		r = mempool_connect(clientp, daemon->socket);
	return r ? r : mempool_pool_create(*clientp, "pool", pool_bytes, options, poolp);
}

int kill_step_failed(const struct kill_step_call *call, unsigned n, const char *what, long r)
{
	fprintf(stderr, "%s, state %u: %s: %ld (%s)\n", call->name, n, what, r, mempool_last_error());
	return -1;
}

static void run_client(void *arg)
{
	const struct client *client = arg;
	struct mempool_client *own;
	struct mempool_pool *mine;

	if (mempool_connect(&own, client->socket) || mempool_pool_open(own, "pool", &mine) ||
	    !client->call->prepare(mine))
		_exit(1);
	stepper_stop();
	if (!client->call->call(mine))
		_exit(2);
	stepper_stop();
	_exit(3); /* it is killed before */
}

/* Return: as kill_step_at() */
static int step_to(const struct kill_step_driver *driver, const struct kill_step_call *call, pid_t pid, unsigned n)
{
	unsigned n_seen = 0;

	(void)driver->has_changed();
	for (unsigned i = 0; i < STEPS_MAX; i++) {
		enum stepper_news news = stepper_next(pid);

		if (news == STEPPER_ENDED)
			return kill_step_failed(call, n, "the client ended by itself", 0);
		if (news == STEPPER_STOPPED)
			return 0;
		if (driver->has_changed() && ++n_seen == n)
			return 1;
	}
	return kill_step_failed(call, n, "the call does not end", STEPS_MAX);
}

int kill_step_at(const struct kill_step_driver *driver, const struct kill_step_call *call, unsigned n)
{
	struct client client = {.socket = driver->socket, .call = call};
	pid_t pid = stepper_begin(run_client, &client);
	int r = driver->look_before ? driver->look_before(call, n) : 0;

	if (!r)
		r = step_to(driver, call, pid, n);
	if (r >= 0 && driver->look_after && driver->look_after(call, n, r == 0))
		r = -1;
	stepper_end(pid);
	return r;
}

static int is_other(void *arg, const struct mempool_session_info *info)
{
	return info->session != *(const uint64_t *)arg;
}

void kill_step_await_end(struct mempool_client *client)
{
	const struct timespec pause = {.tv_nsec = 500000};
	uint64_t own = mempool_session(client);

	for (int i = 0; i < 20000 && mempool_session_list(client, NULL, is_other, &own); i++)
		nanosleep(&pause, NULL); /* the bound decides */
}
