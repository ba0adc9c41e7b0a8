#pragma once
// SPDX-License-Identifier: MIT
/*
 * workers - whose slow work runs when, in libuv's thread pool
 *
 * That pool is one for everybody, and work in it may sleep or walk for long. So one lane may have so much of it under way at a time,
 * and one user so much for each worker that is free: the more users work, the fewer has each, and some are left for the next one.
 * What is more waits here, first come first served, and is passed by those who may. What runs and what it means is the caller's.
 *
 * Threads: everything on the loop's thread of the work but for run(), which is a worker's. Its mutex is above the mailboxes'.
 */
#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "server/mailbox.h"

#define WORKERS_N	 24u /* threads, unless the environment says otherwise: asleep most of the time; simply picked */
#define WORKERS_PER_LANE 4u  /* who waits for another's recall has its result: more wait less; simply picked */
#define WORKERS_PER_FREE 3u  /* a user may have so many for each that is free: 18 if nobody else works; simply picked */

struct work {			     /* embedded in what it is about, which lives until done() */
	struct mailbox_message turn; /* first: its turn has come */
	uv_work_t uv_work;
	uv_loop_t *uv;
	struct mailbox *mailbox; /* of that loop, which stays open until done() */
	uint64_t lane;		 /* whatever it shares with others, one of a pool's; 0: none */
	uid_t uid;		 /* for whom */
	void (*run)(struct work *work);
	void (*done)(struct work *work); /* on the loop; may free it */
	struct workers *workers;
	bool is_waiting;	  /* workers->mutex, as are: */
	struct work *prev, *next; /* of those that wait, or run */
};

struct workers {
	pthread_mutex_t mutex;
	struct work *waiting,
		*running; /* mutex; lists of utlist.h, in the order of their coming. Invariant: none that waits may run */
	unsigned n;	  /* threads */
};

/** workers_set_up() - have libuv start WORKERS_N threads, unless the environment says otherwise. Before its first work */
void workers_set_up(void);
/** workers_init() - Return: 0, -errno */
int workers_init(struct workers *workers) MUST_CHECK;
/** workers_deinit() - when no work is there */
void workers_deinit(struct workers *workers);
/** workers_start() - run @work, now or when its turn comes; uv, mailbox, lane, uid, run and done are set */
void workers_start(struct workers *workers, struct work *work);
/** workers_cancel() - Return: true: it had no turn yet, and will have none: no done(); false: it runs, and will be done */
bool workers_cancel(struct work *work);
