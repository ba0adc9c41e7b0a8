// SPDX-License-Identifier: MIT
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/connection.h"
#include "server/credentials.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/watch.h"

static void closed_cb(uv_handle_t *handle)
{
	struct watch *watch = handle->data;

	if (--watch->n_handles)
		return;
	if (watch->pidfd >= 0)
		close(watch->pidfd);
	free(watch);
}

static void close_handles(struct watch *watch)
{
	if (watch->pidfd >= 0)
		uv_close((uv_handle_t *)&watch->pidfd_poll, closed_cb);
	uv_close((uv_handle_t *)&watch->lock_timer, closed_cb);
}

/* ---- proof of death ---- */

static bool pidfd_is_readable(int pidfd)
{
	struct pollfd look = {.fd = pidfd, .events = POLLIN};

	return pidfd >= 0 && poll(&look, 1, 0) == 1;
}

static void pidfd_cb(uv_poll_t *poll, int status, int events)
{
	struct watch *watch = poll->data;

	(void)status;
	(void)events;
	if (pidfd_is_readable(watch->pidfd))
		watch_end(watch, "its process has ended");
}

static void lock_cb(uv_timer_t *timer)
{
	struct watch *watch = timer->data;

	if (liveness_proves_death(&watch->session->liveness))
		watch_end(watch, "its lock is free");
}

static bool is_proven_dead(const struct watch *watch, const char **whyp)
{
	if (pidfd_is_readable(watch->pidfd))
		*whyp = "its process has ended";
	else if (liveness_proves_death(&watch->session->liveness))
		*whyp = "its lock is free";
	else
		return false;
	return true;
}

/*
 * It asked for a lock, never said that it has it, and has no pool open: its client never read the answer to its Hello, or gave up
 * before the next request. Nobody comes back for such a session, and it holds nothing.
 */
static bool is_stillborn(const struct session *session)
{
	const struct liveness *liveness = &session->liveness;

	return liveness->segment.fd >= 0 && !liveness->is_confirmed && !session->n_memberships;
}

/* The lock too where there is a pidfd: a process that executes another program lives on, and has let go of everything. */
static void look_after(struct watch *watch)
{
	const struct pool_identity *who = &watch->session->identity;
	const char *why;

	if (is_proven_dead(watch, &why))
		watch_end(watch, why);
	else if (is_stillborn(watch->session))
		watch_end(watch, "it never came to hold its lock");
	else if (watch->session->liveness.is_confirmed)
		uv_timer_start(&watch->lock_timer, lock_cb, WATCH_LOCK_MS, WATCH_LOCK_MS);
	else if (watch->pidfd < 0)
		log_line(LOG_LEVEL_WARNING,
			 "pid %d (%s), session %llu: not connected, and no proof of its process's death can be had: "
			 "kept "
			 "until it comes back",
			 who->pid, who->command, (unsigned long long)who->session);
}

void watch_disconnected(struct watch *watch)
{
	watch->connection = NULL;
	if (watch->is_ending)
		return;
	atomic_store_explicit(&watch->session->state, SESSION_AWAY, memory_order_relaxed);
	if (watch->loop->is_stopping)
		watch_stop(watch);
	else
		look_after(watch);
}

/* ---- resume ---- */

int watch_resume(struct watch *watch, struct connection *connection)
{
	const struct pool_identity *who = &watch->session->identity;

	if (watch->connection) {
		log_line(LOG_LEVEL_DEBUG, "pid %d (%s), session %llu: another connection takes the place of its own",
			 who->pid, who->command, (unsigned long long)who->session);
		connection_close(watch->connection, NULL); /* and watch_disconnected() looks for proof */
	}
	if (watch->is_ending)
		return -ESTALE;
	if (watch->n_jobs) {
		if (watch->parked)
			connection_close(watch->parked,
					 NULL); /* the last one to come is the one that the client reads */
		watch->parked = connection;
		return WATCH_E_PARKED;
	}
	watch->connection = connection;
	uv_timer_stop(&watch->lock_timer);
	atomic_store_explicit(&watch->session->state, SESSION_ACTIVE, memory_order_relaxed);
	return 0;
}

void watch_unpark(struct watch *watch)
{
	watch->parked = NULL;
}

/* ---- the end ---- */

static struct watch *watch_of(struct work *work)
{
	return HOLDER_OF(work, struct watch, work);
}

static void run_end(struct work *work)
{
	struct watch *watch = watch_of(work);

	session_end(watch->session);
}

static void forget(struct watch *watch)
{
	struct loop *loop = watch->loop;

	if (watch->prev)
		watch->prev->next = watch->next;
	else
		loop->watches = watch->next;
	if (watch->next)
		watch->next->prev = watch->prev;
	watch->session = session_free(watch->session);
	close_handles(watch);
	loop_check_stopped(loop);
}

static void end_done(struct work *work);

/* One step towards the end; called again whenever what it waited for is done. */
static void advance(struct watch *watch)
{
	if (watch->n_jobs || watch->is_in_work)
		return;
	if (watch->session->is_ended) {
		forget(watch);
		return;
	}
	watch->is_in_work = true;
	watch->work = (struct work){
		.uv = &watch->loop->uv,
		.mailbox = &watch->loop->mailbox,
		.uid = watch->session->identity.uid,
		.run = run_end,
		.done = end_done,
	};
	workers_start(watch->loop->workers, &watch->work);
}

static void end_done(struct work *work)
{
	struct watch *watch = watch_of(work);

	watch->is_in_work = false;
	advance(watch);
}

void watch_end(struct watch *watch, const char *why)
{
	const struct pool_identity *who = &watch->session->identity;

	if (watch->is_ending)
		return;
	watch->is_ending = true;
	atomic_store_explicit(&watch->session->state, SESSION_ENDING, memory_order_relaxed);
	log_line(LOG_LEVEL_DEBUG, "pid %d (%s), session %llu ends: %s", who->pid, who->command,
		 (unsigned long long)who->session, why);
	if (watch->pidfd >= 0)
		uv_poll_stop(&watch->pidfd_poll); /* it stays readable for ever */
	uv_timer_stop(&watch->lock_timer);
	if (watch->connection)
		connection_close(watch->connection, NULL);
	advance(watch);
}

void watch_job_begun(struct watch *watch)
{
	watch->n_jobs++;
}

void watch_job_done(struct watch *watch)
{
	struct connection *parked = watch->parked;

	watch->n_jobs--;
	if (parked && !watch->n_jobs) {
		watch->parked = NULL;
		connection_unpark(
			parked); /* in a turn of its own, when it is clear whether the session is still there */
	}
	if (watch->is_ending) {
		advance(watch);
	} else if (watch->session->is_ended) { /* it was Goodbye: the connection still has its answer to send */
		if (watch->connection)
			connection_part(watch->connection);
		watch->connection = NULL;
		watch_end(watch, "goodbye");
	} else if (watch->loop->is_stopping) {
		watch_stop(watch);
	}
}

void watch_stop(struct watch *watch)
{
	if (watch->is_ending || watch->connection || watch->n_jobs) /* called again when that is over */
		return;
	if (watch->loop->services->is_ephemeral) {
		watch_end(watch, "the daemon stops");
		return;
	}
	session_keep(watch->session);
	forget(watch);
}

/* ---- the start ---- */

static void link_watch(struct watch *watch)
{
	struct loop *loop = watch->loop;

	watch->next = loop->watches;
	if (watch->next)
		watch->next->prev = watch;
	loop->watches = watch;
}

/* With pidfd or -1. Return: 0; -errno: nothing was started */
static int start_handles(struct watch *watch)
{
	struct loop *loop = watch->loop;
	int r;

	if (watch->pidfd >= 0) {
		r = uv_poll_init(&loop->uv, &watch->pidfd_poll, watch->pidfd);
		if (r)
			return r;
		watch->pidfd_poll.data = watch;
		uv_poll_start(&watch->pidfd_poll, UV_READABLE, pidfd_cb);
		watch->n_handles++;
	}
	uv_timer_init(&loop->uv, &watch->lock_timer);
	watch->lock_timer.data = watch;
	watch->n_handles++;
	return 0;
}

int watch_start(struct watch **watchp, struct connection *connection, struct session *session)
{
	struct loop *loop = connection->loop;
	struct watch *watch = calloc(1, sizeof(*watch));
	int r;

	if (!watch)
		return -ENOMEM;
	watch->loop = loop;
	watch->connection = connection;
	watch->session = session;
	r = credentials_pidfd(connection->fd, &session->identity, &watch->pidfd);
	if (r)
		goto err_after_new;
	r = start_handles(watch);
	if (r)
		goto err_after_pidfd;
	link_watch(watch);
	session_set_home(session, loop, watch);
	*watchp = watch;
	return 0;

err_after_pidfd:
	if (watch->pidfd >= 0)
		close(watch->pidfd);
err_after_new:
	free(watch);
	return r;
}

/* Whatever cannot be had is not known; and unknown is alive. */
static void adopt(void *owner, struct mailbox_message *message)
{
	struct watch *watch = (struct watch *)message;
	struct session *session = watch->session;
	bool is_there = credentials_find(session->identity.pid, session->started, session->pid_space, &watch->pidfd);

	(void)owner;
	if (start_handles(watch)) {
		close(watch->pidfd);
		watch->pidfd = -1;
		(void)!start_handles(watch); /* a timer cannot fail */
	}
	link_watch(watch);
	if (atomic_load_explicit(&session->state, memory_order_relaxed) == SESSION_ENDING)
		watch_end(watch, session->slot == SESSION_NO_SLOT ? "only a pool knows it" : "its end had begun");
	else if (!is_there)
		watch_end(watch, "its process has ended");
	else
		look_after(watch);
}

int watch_adopt(struct loop *loop, struct session *session)
{
	struct watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return -ENOMEM;
	watch->loop = loop;
	watch->session = session;
	watch->pidfd = -1;
	watch->message.run = adopt;
	session_set_home(session, loop, watch);
	mailbox_post(&loop->mailbox, &watch->message);
	return 0;
}
