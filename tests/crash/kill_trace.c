// SPDX-License-Identifier: MIT
#include "kill_trace.h"

#include <dirent.h>
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define PATIENCE_MS  30000
#define OPTIONS	     (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE)
#define SYSCALL_STOP (SIGTRAP | 0x80)

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int trace_begin(struct trace *trace, pid_t pid)
{
	const struct dirent *entry;
	char path[64];
	DIR *dir;

	*trace = (struct trace){.pid = pid};
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)) && trace->n < TRACE_THREADS) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (tid <= 0)
			continue;
		if (ptrace(PTRACE_SEIZE, tid, 0, OPTIONS) || ptrace(PTRACE_INTERRUPT, tid, 0, 0)) {
			int r = -errno;

			closedir(dir);
			trace_end(trace);
			return r;
		}
		trace->is_in_private[trace->n] = true; /* it sleeps in one, goes in again, and has done nothing */
		trace->tids[trace->n++] = tid;
	}
	closedir(dir);
	return 0;
}

/* Nobody else can tell whether one of these was made, when the process that may have made it is dead. */
static bool is_private(uint64_t call, const uint64_t args[])
{
	static const long calls[] = {
		SYS_clock_gettime,  SYS_clock_nanosleep, SYS_clone3,	      SYS_epoll_pwait, SYS_fstat,
		SYS_getdents64,	    SYS_geteuid,	 SYS_getpid,	      SYS_getrandom,   SYS_getsockopt,
		SYS_gettid,	    SYS_lseek,		 SYS_mprotect,	      SYS_munmap,      SYS_newfstatat,
		SYS_ppoll,	    SYS_pread64,	 SYS_prlimit64,	      SYS_rseq,	       SYS_rt_sigaction,
		SYS_rt_sigprocmask, SYS_sched_yield,	 SYS_set_robust_list, SYS_sigaltstack, SYS_sched_getaffinity,
#ifdef SYS_epoll_wait /* newer architectures have the other only */
		SYS_epoll_wait,
#endif
	};

	if (call == SYS_futex)
		return args[1] & FUTEX_PRIVATE_FLAG;
	for (size_t i = 0; i < N_ELEMENTS(calls); i++)
		if (call == (uint64_t)calls[i])
			return true;
	return false;
}

/* Of thread @i, stopped before or after a call: is it a state of the world that was not there at its last stop? */
static bool counts(struct trace *trace, unsigned i)
{
	struct __ptrace_syscall_info info = {0};
	bool was_in_private = trace->is_in_private[i], is_in_private;

	is_in_private = ptrace(PTRACE_GET_SYSCALL_INFO, trace->tids[i], sizeof(info), &info) > 0 &&
			info.op == PTRACE_SYSCALL_INFO_ENTRY &&
			is_private(info.entry.nr, (const uint64_t *)info.entry.args);
	trace->is_in_private[i] = is_in_private;
	return !was_in_private || (info.op != PTRACE_SYSCALL_INFO_EXIT && !is_in_private);
}

/* Return: 1 a stop that counts, and the thread is stopped; 0 none; -ESRCH the whole process has ended */
static int look_at(struct trace *trace, unsigned i)
{
	pid_t tid = trace->tids[i];
	unsigned long message;
	int status, signal = 0;
	pid_t r = waitpid(tid, &status, __WALL | WNOHANG);

	if (r != tid)
		return r < 0 && tid == trace->pid ? -ESRCH : 0;
	if (!WIFSTOPPED(status))
		return tid == trace->pid ? -ESRCH : 0;
	if (WSTOPSIG(status) == SYSCALL_STOP && counts(trace, i))
		return 1;
	if (status >> 8 == (SIGTRAP | PTRACE_EVENT_CLONE << 8) && trace->n < TRACE_THREADS &&
	    !ptrace(PTRACE_GETEVENTMSG, tid, 0, &message))
		trace->tids[trace->n++] = (pid_t)message;
	else if (status >> 16 == 0 && WSTOPSIG(status) != SYSCALL_STOP)
		signal = WSTOPSIG(status); /* its own business */
	ptrace(PTRACE_SYSCALL, tid, 0, signal);
	return 0;
}

int trace_run(struct trace *trace, unsigned n_stops, const _Atomic uint32_t *donep)
{
	uint64_t until_ms = now_ms() + PATIENCE_MS;

	if (trace->stopped)
		ptrace(PTRACE_SYSCALL, trace->stopped, 0, 0);
	trace->stopped = 0;
	for (unsigned n = 0;;) {
		bool is_done = donep && atomic_load(donep); /* before a last look: a stop may have come before that */

		for (unsigned i = 0; i < trace->n; i++) {
			int r = look_at(trace, i);

			if (r < 0)
				return r;
			if (r && ++n == n_stops) {
				trace->stopped = trace->tids[i];
				return 1;
			}
			if (r)
				ptrace(PTRACE_SYSCALL, trace->tids[i], 0, 0);
		}
		if (is_done)
			return 0;
		if (now_ms() > until_ms)
			return -ETIMEDOUT;
		sched_yield();
	}
}

static void reap(pid_t tid)
{
	int status;

	while (waitpid(tid, &status, __WALL) == tid && WIFSTOPPED(status))
		;
}

void trace_kill(struct trace *trace)
{
	kill(trace->pid, SIGKILL);
	for (unsigned i = 0; i < trace->n; i++)
		if (trace->tids[i] != trace->pid)
			reap(trace->tids[i]);
	trace->n = 0;
	trace->stopped = 0;
}

void trace_end(struct trace *trace)
{
	int status;

	for (unsigned i = 0; i < trace->n; i++) {
		pid_t tid = trace->tids[i];

		if (!ptrace(PTRACE_DETACH, tid, 0, 0) || ptrace(PTRACE_INTERRUPT, tid, 0, 0))
			continue;
		if (waitpid(tid, &status, __WALL) == tid && WIFSTOPPED(status))
			ptrace(PTRACE_DETACH, tid, 0,
			       status >> 16 || WSTOPSIG(status) == SYSCALL_STOP ? 0 : WSTOPSIG(status));
	}
	trace->n = 0;
}
