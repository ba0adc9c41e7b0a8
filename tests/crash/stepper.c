// SPDX-License-Identifier: MIT
#include "stepper.h"

#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "must.h"

#define NOT_ALLOWED 77

static void stay_on_one_processor(void)
{
	cpu_set_t set;
	int cpu = sched_getcpu();

	CPU_ZERO(&set);
	CPU_SET((size_t)(cpu < 0 ? 0 : cpu), &set);
	(void)sched_setaffinity(0, sizeof(set), &set); /* or it takes longer */
}

pid_t stepper_begin(void (*body)(void *arg), void *arg)
{
	pid_t child;
	int status;

	stay_on_one_processor();
	fflush(NULL);
	child = fork();
	must(child >= 0, "fork");
	if (!child) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
			_exit(NOT_ALLOWED);
		body(arg);
		_exit(0);
	}
	must(waitpid(child, &status, 0) == child, "waitpid");
	if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_ALLOWED) {
		printf("skipped: no process can be traced here (ptrace is not allowed)\n");
		exit(NOT_ALLOWED);
	}
	must(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "the scene is made");
	must(!ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(uintptr_t)PTRACE_O_EXITKILL), "ptrace");
	return child;
}

void stepper_stop(void)
{
	must(!raise(SIGSTOP), "raise");
}

static enum stepper_news wait_for(pid_t child)
{
	int status;

	must(waitpid(child, &status, 0) == child, "waitpid");
	if (!WIFSTOPPED(status) || (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP))
		return STEPPER_ENDED;
	return WSTOPSIG(status) == SIGTRAP ? STEPPER_ONE : STEPPER_STOPPED;
}

enum stepper_news stepper_instruction(pid_t child)
{
	must(!ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), "ptrace");
	return wait_for(child);
}

enum stepper_news stepper_go_on(pid_t child)
{
	must(!ptrace(PTRACE_CONT, child, NULL, NULL), "ptrace");
	return wait_for(child);
}

void stepper_end(pid_t child)
{
	if (child <= 0)
		return;
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}
