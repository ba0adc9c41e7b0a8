#pragma once
// SPDX-License-Identifier: MIT
/*
 * kill_trace - stops a process before and after each of its system calls, to kill it at the one that is asked for
 *
 * After a call that changes nothing but the process itself, the world is what it was before it: that stop does not count.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/util.h"

#define TRACE_THREADS 64

struct trace {
	pid_t pid;
	pid_t tids[TRACE_THREADS];
	bool is_in_private[TRACE_THREADS]; /* the thread is in such a call */
	unsigned n;
	pid_t stopped; /* the thread that the last run ended with; 0: none */
};

/** trace_begin() - of all threads of a child, or of a process that may be traced. Return: 0, -errno */
int trace_begin(struct trace *trace, pid_t pid) MUST_CHECK;

/**
 * trace_run() - let it run until its threads together were stopped @n_stops times more
 * @donep: or until this is not 0
 * Return: 1 stopped, at least the thread that was last; 0 done before that; -ESRCH it has ended; -ETIMEDOUT
 */
int trace_run(struct trace *trace, unsigned n_stops, const _Atomic uint32_t *donep) MUST_CHECK;

/** trace_kill() - SIGKILL; reap all threads but the first, which is its parent's to reap */
void trace_kill(struct trace *trace);

/** trace_end() - let it go on untraced */
void trace_end(struct trace *trace);
