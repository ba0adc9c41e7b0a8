// SPDX-License-Identifier: MIT
/*
 * Happy path: readable -> accept4 -> credentials -> admission -> posted to the next loop.
 * Failures: over a limit: told why and closed. Out of descriptors: the spare one is given up for the moment that it takes
 *   to say so; if that does not help, the acceptor pauses until a connection was closed, or RETRY_MS: never a spin,
 *   and never the daemon's end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/acceptor.h"
#include "server/connection.h"
#include "server/credentials.h"

#define RETRY_MS       100u /* others may give descriptors or memory back without our notice; simply picked */
#define ACCEPTS_A_TURN 64u  /* then signals and timers have theirs; simply picked */

static void poll_cb(uv_poll_t *poll, int status, int events);

/* ---- refusals ---- */

/* The reply is lost if the client's buffer is full, which a new connection's never is. */
static void refuse(struct acceptor *acceptor, int fd, const struct pool_identity *who, int error, const char *sentence)
{
	struct reply_buffer notice = REPLY_BUFFER_NULL;

	log_client(&acceptor->log, LOG_LEVEL_WARNING, "pid %d (%s), uid %u: connection refused: %s", who->pid,
		   who->command, who->uid, sentence);
	if (!dispatch_notice(&notice, error, sentence) &&
	    send(fd, notice.data, notice.n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_client(&acceptor->log, LOG_LEVEL_DEBUG, "pid %d: did not take its refusal: %s", who->pid,
			   strerrordesc_np(errno));
	reply_buffer_deinit(&notice);
	close(fd);
}

/* ---- one connection ---- */

static void admit(struct acceptor *acceptor, int fd, struct pool_identity *who)
{
	struct quota_account *account = quota_account_of(acceptor->quota, who->uid);
	struct loop *loop = acceptor->loops + acceptor->next_loop;
	struct connection *connection;
	char sentence[256] = "the daemon is out of memory; try again later";
	int r = -ENOMEM;

	if (account)
		r = admission_enter(acceptor->admission, acceptor->limits, account, sentence, sizeof(sentence));
	if (r)
		goto err_refuse;
	r = connection_new(&connection, loop, fd, who, account);
	if (r) {
		admission_leave(acceptor->admission, account, false);
		goto err_refuse;
	}
	acceptor->next_loop = (acceptor->next_loop + 1) % acceptor->n_loops;
	connection_post(connection);
	return;

err_refuse:
	refuse(acceptor, fd, who, r, sentence);
	free((void *)(uintptr_t)who->groups);
}

static void welcome(struct acceptor *acceptor, int fd)
{
	struct pool_identity who = {0};
	int r = credentials_get(fd, &who);

	if (r)
		refuse(acceptor, fd, &who, r, "the daemon cannot tell who is calling; try again later");
	else
		admit(acceptor, fd, &who);
}

/* ---- out of descriptors ---- */

static void resume(struct acceptor *acceptor)
{
	if (!atomic_load(&acceptor->is_paused) || uv_is_closing((uv_handle_t *)&acceptor->poll))
		return;
	atomic_store(&acceptor->is_paused, false);
	uv_timer_stop(&acceptor->timer);
	if (acceptor->spare_fd < 0)
		acceptor->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uv_poll_start(&acceptor->poll, UV_READABLE, poll_cb);
}

static void timer_cb(uv_timer_t *timer)
{
	resume(timer->data);
}

static void room_cb(uv_async_t *async)
{
	resume(async->data);
}

static void pause_accepting(struct acceptor *acceptor, int error)
{
	log_client(&acceptor->log, LOG_LEVEL_ERROR, "no new connections for a moment: %s", strerrordesc_np(error));
	atomic_store(&acceptor->is_paused, true);
	uv_poll_stop(&acceptor->poll);
	uv_timer_start(&acceptor->timer, timer_cb, RETRY_MS, 0);
}

void acceptor_room(void *arg)
{
	struct acceptor *acceptor = arg;

	if (atomic_load(&acceptor->is_paused))
		uv_async_send(&acceptor->async);
}

static void accept_with_spare(struct acceptor *acceptor, int error)
{
	struct pool_identity who = {0};
	int fd = -1;

	if (acceptor->spare_fd >= 0) {
		close(acceptor->spare_fd);
		fd = accept4(acceptor->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			refuse(acceptor, fd, &who, -EAGAIN, "the daemon is out of file descriptors; try again later");
		acceptor->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	if (fd < 0 || acceptor->spare_fd < 0)
		pause_accepting(acceptor, error);
}

/* ---- events ---- */

/* Return: true = there may be more. */
static bool accept_one(struct acceptor *acceptor)
{
	int fd = accept4(acceptor->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0) {
		welcome(acceptor, fd);
		return true;
	}
	switch (errno) {
	case EAGAIN:
		return false;
	case EINTR:
	case ECONNABORTED:
		return true;
	case EMFILE:
	case ENFILE:
		accept_with_spare(acceptor, errno);
		return !atomic_load(&acceptor->is_paused);
	default: /* memory, or what the kernel thinks of next */
		pause_accepting(acceptor, errno);
		return false;
	}
}

static void poll_cb(uv_poll_t *poll, int status, int events)
{
	struct acceptor *acceptor = poll->data;

	(void)events;
	if (status < 0) {
		pause_accepting(acceptor, -status);
		return;
	}
	for (unsigned i = 0; i < ACCEPTS_A_TURN && accept_one(acceptor); i++)
		;
}

int acceptor_open(struct acceptor *acceptor, uv_loop_t *uv, int listen_fd)
{
	int r;

	r = uv_poll_init(uv, &acceptor->poll, listen_fd);
	if (r)
		return r;
	r = uv_async_init(uv, &acceptor->async, room_cb);
	if (r) {
		uv_close((uv_handle_t *)&acceptor->poll, NULL);
		return r;
	}
	uv_timer_init(uv, &acceptor->timer);
	acceptor->poll.data = acceptor->timer.data = acceptor->async.data = acceptor;
	acceptor->fd = listen_fd;
	acceptor->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC); /* without it, refusals are silent */
	uv_poll_start(&acceptor->poll, UV_READABLE, poll_cb);
	return 0;
}

void acceptor_close(struct acceptor *acceptor)
{
	uv_close((uv_handle_t *)&acceptor->poll, NULL);
	uv_close((uv_handle_t *)&acceptor->timer, NULL);
	uv_close((uv_handle_t *)&acceptor->async, NULL);
	atomic_store(&acceptor->is_paused, false); /* no room_cb any more */
	if (acceptor->spare_fd >= 0)
		close(acceptor->spare_fd);
	acceptor->spare_fd = -1;
}
