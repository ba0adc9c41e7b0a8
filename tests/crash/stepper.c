// SPDX-License-Identifier: MIT
#include "stepper.h"

#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "must.h"
#include "stores.h"

#define NOT_ALLOWED 77

static struct {
	bool is_traced;		/* this child; else it stops itself */
	bool is_watched;	/* it is to stop after an instruction, too; by the parent */
	enum stepper_news news; /* what it has stopped for; by the child */
} * shared;

static bool trace;
static cpu_set_t processors; /* the parent's before */

void stepper_trace(bool on)
{
	trace = on;
}

/* ---- the child ---- */

static void stop(enum stepper_news news)
{
	shared->news = news;
	must(!raise(SIGSTOP), "raise");
}

static void stop_after_one(void)
{
	stop(STEPPER_ONE);
}

void stepper_stop(void)
{
	if (!shared->is_traced)
		stores_watch(false);
	stop(STEPPER_STOPPED);
	if (!shared->is_traced && shared->is_watched)
		stores_watch(true);
}

/* ---- the parent ---- */

/* Or each step waits for another processor to wake up. */
static void stay_on_one_processor(pid_t child)
{
	cpu_set_t one;
	int cpu = sched_getcpu();

	CPU_ZERO(&one);
	CPU_SET((size_t)(cpu < 0 ? 0 : cpu), &one);
	(void)sched_getaffinity(0, sizeof(processors), &processors);
	(void)sched_setaffinity(0, sizeof(one), &one);
	(void)sched_setaffinity(child, sizeof(one), &one);
}

pid_t stepper_begin(void (*body)(void *arg), void *arg)
{
	pid_t child;
	int status;

	if (!shared)
		shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(shared != MAP_FAILED, "mmap");
	fflush(NULL);
	child = fork();
	must(child >= 0, "fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		shared->is_traced = trace || stores_init(stop_after_one);
		if (shared->is_traced && ptrace(PTRACE_TRACEME, 0, NULL, NULL))
			_exit(NOT_ALLOWED);
		body(arg);
		_exit(0);
	}
	must(waitpid(child, &status, WUNTRACED) == child, "waitpid");
	if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_ALLOWED) {
		printf("skipped: no process can be traced here (ptrace is not allowed)\n");
		exit(NOT_ALLOWED);
	}
	must(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "the scene is made");
	if (shared->is_traced)
		stay_on_one_processor(child);
	return child;
}

static enum stepper_news wait_for(pid_t child)
{
	int status;

	must(waitpid(child, &status, WUNTRACED) == child, "waitpid");
	if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP)
		return shared->news;
	return shared->is_traced && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP ? STEPPER_ONE : STEPPER_ENDED;
}

static enum stepper_news let_go(pid_t child, bool is_watched)
{
	shared->is_watched = is_watched;
	if (shared->is_traced)
		must(!ptrace(is_watched ? PTRACE_SINGLESTEP : PTRACE_CONT, child, NULL, NULL), "ptrace");
	else
		must(!kill(child, SIGCONT), "kill");
	return wait_for(child);
}

enum stepper_news stepper_next(pid_t child)
{
	return let_go(child, true);
}

enum stepper_news stepper_go_on(pid_t child)
{
	return let_go(child, false);
}

void stepper_end(pid_t child)
{
	if (child <= 0)
		return;
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	if (shared->is_traced)
		(void)sched_setaffinity(0, sizeof(processors), &processors);
}
