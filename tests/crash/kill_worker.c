// SPDX-License-Identifier: MIT
#include "kill_worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PATIENCE_MS 120000 /* for the driver to come back; it dies or fails before */
#define ROOM_MS	    20	   /* between two questions whether there is room; simply picked */

/* ---- phases ---- */

static bool is_in_doubt(const struct kill_me *me)
{
	uint64_t ours = kill_mail_word(me->worker_index, me->thread_index, me->incarnation, KILL_MAIL_EMPTY);

	for (unsigned i = 0; i < me->model->n_workers * me->model->n_threads * KILL_MAIL; i++) {
		unsigned thread = i / KILL_MAIL % me->model->n_threads;
		const struct kill_mail *mail =
			&me->model->workers[i / KILL_MAIL / me->model->n_threads].threads[thread].mail[i % KILL_MAIL];
		uint64_t word = atomic_load(&mail->word);

		if (word == (ours | KILL_MAIL_BACK) || (word == (ours | KILL_MAIL_DOUBT) && !mail->is_gift))
			return true;
	}
	return false;
}

/* Nothing that we sent is in doubt any more, but for gifts, which an audit looks for. */
static void settle_all(struct kill_me *me)
{
	while (is_in_doubt(me))
		(void)kill_settle(me);
}

/* Everything that was sent to us is ours. */
static void take_all_mail(struct kill_me *me)
{
	do {
		while (kill_free_place(me) < 0) /* a retained one goes only after its retains */
			kill_give_up(me, kill_pick(me, KILL_FREEABLE, -1, false));
	} while (kill_receive(me));
}

static void await_next_phase(struct kill_me *me, uint32_t phase)
{
	atomic_store(&me->thread->phase_done, phase);
	atomic_fetch_add(&me->model->n_done, 1);
	kill_wake(&me->model->n_done);
	while (atomic_load(&me->model->phase) == phase)
		(void)kill_wait(&me->model->phase, phase, PATIENCE_MS);
}

static void *thread_main(void *arg)
{
	struct kill_me *me = arg;

	kill_resolve(me);
	for (;;) {
		uint32_t phase = atomic_load(&me->model->phase);

		switch ((enum kill_phase)(phase & 0xff)) {
		case KILL_RUN:
			kill_step(me);
			continue;
		case KILL_PAUSE:
			settle_all(me);
			break;
		case KILL_MAIL_OUT:
			settle_all(me);
			take_all_mail(me);
			break;
		case KILL_FREE_ALL:
			kill_free_all(me);
			break;
		case KILL_END:
			return NULL;
		}
		await_next_phase(me, phase);
	}
}

/* ---- life ---- */

static bool is_absence(int r)
{
	return r == -ECONNREFUSED || r == -EHOSTDOWN || r == -ECONNRESET || r == -EPIPE || r == -ENOENT;
}

/*
 * Whether to ask again: while the daemon is down, until it is up; where memory may be full, when the others have had time to
 * free some: the daemon keeps room for who comes, but not for all who were killed and are not gone yet.
 */
static bool is_for_later(struct kill_me *me, int r, uint32_t up)
{
	if (kill_is_full(me, r))
		(void)kill_wait(&me->model->up, up, ROOM_MS);
	else if (is_absence(r))
		(void)kill_wait(&me->model->up, up, PATIENCE_MS);
	else
		return false;
	return true;
}

static void connect(struct kill_me *me)
{
	uint32_t up;
	int r;

	do {
		up = atomic_load(&me->model->up);
		r = mempool_connect(&me->client, me->model->socket);
	} while (r && is_for_later(me, r, up));
	if (r)
		kill_fault(me, "connect: %s (%s)", strerror(-r), mempool_last_error());
	r = mempool_set_timeout(me->client, -1);
	if (r)
		kill_fault(me, "set_timeout: %s", strerror(-r));
	atomic_store(&me->worker->session, mempool_session(me->client));
	for (unsigned i = 0; i < KILL_POOLS; i++) {
		do {
			up = atomic_load(&me->model->up);
			r = mempool_pool_open(me->client, kill_pool_name(i), &me->pools[i]);
		} while (r == -ENOSPC && is_for_later(me, r, up));
		if (r)
			kill_fault(me, "open of pool %s: %s (%s)", kill_pool_name(i), strerror(-r),
				   mempool_last_error());
	}
}

/* It keeps the socket open and the mappings, tries what it must not be able to do, and ends with the driver. */
static void fork_child(struct kill_me *me)
{
	pid_t pid = fork();
	char byte;

	if (pid) {
		atomic_store(&me->worker->child, pid > 0 ? pid : 0);
		return;
	}
	if (mempool_alloc(me->pools[0], 64) || errno != ECHILD)
		kill_fault(me, "a forked child got a block of its parent's session");
	mempool_pool_close(me->pools[1]);
	while (read(me->model->life_fd, &byte, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

static struct kill_me us[KILL_WORKERS][KILL_THREADS]; /* of this process */

static void start_threads(struct kill_me *first, pthread_t ids[])
{
	for (unsigned i = 0; i < first->model->n_threads; i++) {
		struct kill_me *me = &us[first->worker_index][i];

		*me = *first;
		me->thread_index = i;
		me->thread = &me->worker->threads[i];
		rnd_init(&me->rnd,
			 me->model->seed ^ (uint64_t)me->worker_index << 40 ^ (uint64_t)i << 32 ^ me->incarnation);
		if (pthread_create(&ids[i], NULL, thread_main, me))
			kill_fault(me, "no thread");
	}
}

static void *live(void *arg)
{
	struct kill_me *me = arg;
	pthread_t ids[KILL_THREADS];

	me->incarnation = atomic_load(&me->worker->incarnation);
	connect(me);
	if (me->model->with_children &&
	    me->incarnation % me->model->with_children == me->worker_index % me->model->with_children)
		fork_child(me);
	kill_await_session_end(me, me->worker->old_session);
	me->worker->old_session = 0;
	start_threads(me, ids);
	for (unsigned i = 0; i < me->model->n_threads; i++)
		pthread_join(ids[i], NULL);
	for (unsigned i = 0; i < KILL_POOLS; i++)
		mempool_pool_close(me->pools[i]);
	mempool_disconnect(me->client);
	return NULL;
}

static struct kill_me first_of(struct kill_model *model, unsigned worker)
{
	return (struct kill_me){.model = model,
				.worker = &model->workers[worker],
				.thread = &model->workers[worker].threads[0],
				.worker_index = worker};
}

void kill_worker_run(struct kill_model *model, unsigned worker)
{
	struct kill_me me = first_of(model, worker);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	live(&me);
	_exit(0);
}

void kill_worker_run_all(struct kill_model *model)
{
	struct kill_me firsts[KILL_WORKERS];
	pthread_t ids[KILL_WORKERS];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < model->n_workers; i++) {
		firsts[i] = first_of(model, i);
		if (pthread_create(&ids[i], NULL, live, &firsts[i]))
			kill_fault(&firsts[i], "no thread");
	}
	for (unsigned i = 0; i < model->n_workers; i++)
		pthread_join(ids[i], NULL);
	exit(0); /* so that a sanitizer says what it has found */
}
