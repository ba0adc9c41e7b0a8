// SPDX-License-Identifier: MIT
/*
 * Happy path: there is room for the work's lane and user: it is libuv's at once. Else it waits.
 * A turn: the thread that has run one work looks, in the order of their coming, for those that may run in its place; each is told
 *   through its loop's mailbox, for libuv takes work from the loop's thread only.
 * On close: nothing waits or runs, for each work keeps its loop.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "server/workers.h"

#define SIZE_VARIABLE "UV_THREADPOOL_SIZE" /* libuv's name */

/* ---- turns; all under the mutex ---- */

/* Few run at a time, so they are simply counted. */
static bool may_run(const struct workers *workers, const struct work *work)
{
	unsigned n_in_lane = 0, n_of_uid = 0, n_free = workers->n;

	for (const struct work *other = workers->running; other; other = other->next) {
		n_in_lane += work->lane && other->lane == work->lane;
		n_of_uid += other->uid == work->uid;
		n_free -= n_free > 0;
	}
	return n_in_lane < WORKERS_PER_LANE && n_of_uid < WORKERS_PER_FREE * n_free;
}

/*
 * The room that a work in @lane and @uid has left: a worker, which the first that may run takes; and a place in the lane and one of
 * the user's, for which nobody waited but others of the one or the other. Whoever begins takes of each what was left.
 */
static void give_turns(struct workers *workers, uint64_t lane, uid_t uid)
{
	bool has_worker = true, has_lane = lane != 0, has_uid = true;
	struct work *next;

	for (struct work *work = workers->waiting; work && (has_worker || has_lane || has_uid); work = next) {
		bool is_in_lane = lane && work->lane == lane, is_of_uid = work->uid == uid;

		next = work->next;
		if (!has_worker && !(has_lane && is_in_lane) && !(has_uid && is_of_uid))
			continue;
		if (!may_run(workers, work))
			continue;
		has_worker = false;
		has_lane &= !is_in_lane;
		has_uid &= !is_of_uid;
		DL_DELETE(workers->waiting, work);
		DL_APPEND(workers->running, work);
		work->is_waiting = false;
		mailbox_post(work->mailbox, &work->turn); /* @work may be done at once */
	}
}

/* ---- one work ---- */

static void work_cb(uv_work_t *uv_work)
{
	struct work *work = uv_work->data;
	struct workers *workers = work->workers;

	work->run(work);
	pthread_mutex_lock(&workers->mutex);
	DL_DELETE(workers->running, work);
	give_turns(workers, work->lane, work->uid);
	pthread_mutex_unlock(&workers->mutex);
}

static void after_work_cb(uv_work_t *uv_work, int status)
{
	struct work *work = uv_work->data;

	(void)status; /* nobody cancels it there */
	work->done(work);
}

static void queue(struct work *work)
{
	work->uv_work.data = work;
	uv_queue_work(work->uv, &work->uv_work, work_cb, after_work_cb); /* fails for a missing callback only */
}

static void turn_came(void *owner, struct mailbox_message *message)
{
	(void)owner;
	queue((struct work *)message);
}

void workers_start(struct workers *workers, struct work *work)
{
	bool waits;

	work->workers = workers;
	work->turn.run = turn_came;
	pthread_mutex_lock(&workers->mutex);
	waits = work->is_waiting = !may_run(workers, work);
	if (waits)
		DL_APPEND(workers->waiting, work);
	else
		DL_APPEND(workers->running, work);
	pthread_mutex_unlock(&workers->mutex);
	if (!waits)
		queue(work);
}

bool workers_cancel(struct work *work)
{
	struct workers *workers = work->workers;
	bool was_waiting;

	pthread_mutex_lock(&workers->mutex);
	was_waiting = work->is_waiting;
	if (was_waiting)
		DL_DELETE(workers->waiting, work);
	work->is_waiting = false;
	pthread_mutex_unlock(&workers->mutex);
	return was_waiting;
}

/* ---- start and end ---- */

void workers_set_up(void)
{
	char size[16];

	snprintf(size, sizeof(size), "%u", WORKERS_N);
	(void)setenv(SIZE_VARIABLE, size, 0); /* without memory for it there are libuv's 4 */
}

int workers_init(struct workers *workers)
{
	const char *size = getenv(SIZE_VARIABLE);
	unsigned n = size ? (unsigned)strtoul(size, NULL, 10) : 4u; /* as libuv reads it; its default */

	*workers = (struct workers){.n = n ? n : 1};
	return -pthread_mutex_init(&workers->mutex, NULL);
}

void workers_deinit(struct workers *workers)
{
	assert(!workers->waiting && !workers->running);
	pthread_mutex_destroy(&workers->mutex);
}
