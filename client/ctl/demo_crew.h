#pragma once
// SPDX-License-Identifier: MIT
/*
 * demo_crew - the demo's worker processes: one producer, three consumers, and the pipes between them
 *
 * They are forked before anybody connects to the daemon, so that no process inherits a session, and wait for
 * crew_start(). A crew that is interrupted by its parent's end ends with it (PR_SET_PDEATHSIG).
 */
#include <stdint.h>
#include <sys/types.h>

#include "ctl/demo_pipe.h"

#define CREW_CONSUMERS 3
#define CREW_SIZE      (1 + CREW_CONSUMERS) /* the producer is the first */

enum crew_way {
	CREW_POOL, /* blocks of a pool, handed over by mempool_take() */
	CREW_COPY, /* the bytes go through the pipes */
};

struct crew_job {
	enum crew_way way;
	int file_fd; /* read with pread() */
	uint64_t file_bytes;
	double seconds;		 /* begin rounds over the file so long; one at least */
	const char *socket_path; /* NULL: the library's default */
	const char *pool_name;
	int timeout_ms; /* -1: the library's default */
};

struct crew {
	struct crew_job job;
	pid_t pids[CREW_SIZE];
	int pidfds[CREW_SIZE]; /* -1: ended and reaped */
	int start_fd;	       /* a byte for each of them */
	int results_fd;
};

#define CREW_NULL ((struct crew){.pidfds = {-1, -1, -1, -1}, .start_fd = -1, .results_fd = -1})

/** crew_new() - fork them. Return: 0; -errno, and nothing is left */
int crew_new(struct crew *crew, const struct crew_job *job) MUST_CHECK;

/** crew_start() - let them work. Return: 0, -errno */
int crew_start(struct crew *crew) MUST_CHECK;

/** crew_reap() - take the exit code of one that ended (its pidfd is readable). Return: exit code; 128 + its signal */
int crew_reap(struct crew *crew, unsigned who);

/** crew_deinit() - end those that still run, and close everything; may run twice */
void crew_deinit(struct crew *crew);
