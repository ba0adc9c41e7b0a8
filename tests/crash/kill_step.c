// SPDX-License-Identifier: MIT
#include "kill_step.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kill_model.h"

#define STEPS_MAX   2000000
#define PATIENCE_MS 60000

struct shared {
	_Atomic uint32_t is_ready, is_called; /* futex words */
};

static struct shared *shared;

int kill_step_init(void)
{
	void *memory = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return -ENOMEM;
	shared = memory;
	return 0;
}

int kill_step_failed(const struct kill_step_call *call, unsigned n, const char *what, long r)
{
	fprintf(stderr, "%s, state %u: %s: %ld (%s)\n", call->name, n, what, r, mempool_last_error());
	return -1;
}

static _Noreturn void run_client(const struct kill_step_driver *driver, const struct kill_step_call *call)
{
	struct mempool_client *own;
	struct mempool_pool *mine;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mempool_connect(&own, driver->socket) || mempool_pool_open(own, "pool", &mine) || !call->prepare(mine))
		_exit(1);
	atomic_store(&shared->is_ready, 1);
	kill_wake(&shared->is_ready);
	while (atomic_load(&shared->is_ready) == 1)
		(void)kill_wait(&shared->is_ready, 1, 1000);
	if (!call->call(mine))
		_exit(2);
	atomic_store(&shared->is_called, 1);
	for (;;)
		pause();
}

/* Return: as kill_step_at() */
static int step_to(const struct kill_step_driver *driver, const struct kill_step_call *call, pid_t pid, unsigned n)
{
	unsigned n_seen = 0;
	int status, signal = 0;

	(void)driver->has_changed();
	for (unsigned i = 0; i < STEPS_MAX; i++) {
		if (ptrace(PTRACE_SINGLESTEP, pid, 0, signal) || waitpid(pid, &status, __WALL) != pid ||
		    !WIFSTOPPED(status))
			return kill_step_failed(call, n, "the client ended by itself", errno);
		signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
		if (atomic_load(&shared->is_called))
			return 0;
		if (driver->has_changed() && ++n_seen == n)
			return 1;
	}
	return kill_step_failed(call, n, "the call does not end", STEPS_MAX);
}

static int step_and_look(const struct kill_step_driver *driver, const struct kill_step_call *call, pid_t pid,
			 unsigned n)
{
	int r, status;

	if (ptrace(PTRACE_SEIZE, pid, 0, 0) || ptrace(PTRACE_INTERRUPT, pid, 0, 0) ||
	    waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status))
		return kill_step_failed(call, n, "trace", errno);
	if (driver->look_before && driver->look_before(call, n))
		return -1;
	atomic_store(&shared->is_ready, 2);
	r = step_to(driver, call, pid, n);
	return r >= 0 && driver->look_after && driver->look_after(call, n, r == 0) ? -1 : r;
}

int kill_step_at(const struct kill_step_driver *driver, const struct kill_step_call *call, unsigned n)
{
	int r, status;
	pid_t pid;

	atomic_store(&shared->is_ready, 0);
	atomic_store(&shared->is_called, 0);
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return kill_step_failed(call, n, "fork", errno);
	if (!pid)
		run_client(driver, call);
	if (!atomic_load(&shared->is_ready) && !kill_wait(&shared->is_ready, 0, PATIENCE_MS))
		r = kill_step_failed(call, n, "the client does not start", 0);
	else
		r = step_and_look(driver, call, pid, n);
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status))
		;
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
