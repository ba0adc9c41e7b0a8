// SPDX-License-Identifier: MIT
/*
 * Happy path: readable -> one read into the loop's buffer -> whole frames dispatched in place, replies gathered -> one
 *   write. Nothing is copied, allocated or re-armed as long as reads end with frames and the socket takes the replies.
 * Failures: half a frame is kept, with a deadline; replies that the socket does not take are kept, with limits; whoever
 *   breaks a rule is told why, logged, and closed.
 * A move: a Hello that resumes a session of another loop stays in the input, unexecuted; the handles are closed, and the last close
 *   callback posts the connection to that loop, which starts it as if it were new, with its input. The mailbox there is reserved
 *   meanwhile, so that a stop waits for it.
 * On close: connection_close() closes handles and socket at once; the memory goes in the last close callback, or with
 *   the job that still runs for it. The session does not end here: the watch decides.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/frame.h"
#include "server/connection.h"
#include "server/hook.h"
#include "server/job.h"
#include "server/loop.h"
#include "server/session.h"
#include "server/watch.h"

#define LINGER_MS    1000u	 /* for the last replies to be taken; simply picked */
#define GATHER_BYTES (64u << 10) /* replies of one turn are sent when there are more; simply picked */
#ifndef TURN_NS
#define TURN_NS 1000000u /* others on the loop wait for so long a turn, and its last request; simply picked */
#endif

static uint64_t now_ms(const struct connection *connection)
{
	return uv_now(&connection->loop->uv);
}

static bool may_dispatch(const struct connection *connection)
{
	return !connection->is_closing && !connection->is_finishing && !connection->is_throttled && !connection->job &&
	       !connection->parked_at && !connection->moves_to;
}

/* ---- what it waits for ---- */

static void poll_cb(uv_poll_t *poll, int status, int events);
static void timer_cb(uv_timer_t *timer);

static int wanted_events(const struct connection *connection)
{
	int events = 0;

	if (may_dispatch(connection) && !connection->is_ready)
		events |= UV_READABLE;
	if (connection->output.head)
		events |= UV_WRITABLE;
	return events;
}

/*
 * Reading is left on through a pause that is mostly too short for the client to send more; if it does send, @is_strict
 * turns it off. So a job costs no epoll_ctl.
 */
static void update_events(struct connection *connection, bool is_strict)
{
	int events = wanted_events(connection);

	if (!is_strict)
		events |= connection->events & UV_READABLE;
	if (connection->is_closing || events == connection->events)
		return;
	connection->events = events;
	if (events)
		uv_poll_start(&connection->poll, events, poll_cb);
	else
		uv_poll_stop(&connection->poll);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	if (!a || !b)
		return a ? a : b;
	return a < b ? a : b;
}

/* A timer that fires too early is asked again by its callback, so a deadline that went away costs nothing now. */
static void update_timer(struct connection *connection)
{
	uint64_t due = earlier(earlier(connection->hello_deadline, connection->frame_deadline),
			       earlier(connection->slow_deadline, connection->linger_deadline));
	uint64_t now;

	if (connection->is_closing || !due || (connection->armed && connection->armed <= due))
		return;
	now = now_ms(connection);
	connection->armed = due;
	uv_timer_start(&connection->timer, timer_cb, due > now ? due - now : 0, 0);
}

/* ---- the end ---- */

static void unlink_from_loop(struct connection *connection)
{
	if (connection->prev)
		connection->prev->next = connection->next;
	else
		connection->loop->connections = connection->next;
	if (connection->next)
		connection->next->prev = connection->prev;
	connection->prev = connection->next = NULL;
}

static void maybe_free(struct connection *connection)
{
	struct loop *loop = connection->loop;

	if (connection->n_handles || connection->job)
		return;
	unlink_from_loop(connection);
	peer_deinit(&connection->peer);
	free(connection);
	loop_check_stopped(loop);
}

static void go_on(struct connection *connection);

static void closed_cb(uv_handle_t *handle)
{
	struct connection *connection = handle->data;

	connection->n_handles--;
	if (!connection->moves_to)
		maybe_free(connection);
	else if (!connection->n_handles)
		go_on(connection);
}

static void close_handles(struct connection *connection)
{
	uv_close((uv_handle_t *)&connection->poll, closed_cb);
	uv_close((uv_handle_t *)&connection->timer, closed_cb);
}

static void log_close(struct connection *connection, const char *why)
{
	log_client(&connection->log, LOG_LEVEL_WARNING, "pid %d (%s), uid %u: connection closed: %s",
		   connection->peer.identity.pid, connection->peer.identity.command, connection->peer.identity.uid,
		   why);
}

/* One that had no turn yet: nobody waits for its answer any more, and its session's end waits for it. */
static void cancel_job(struct connection *connection)
{
	struct job *job = connection->job;

	if (!job || !job_cancel(job))
		return;
	connection->job = NULL;
	watch_job_done(job->watch);
	job_free(job);
}

void connection_close(struct connection *connection, const char *why)
{
	struct loop *loop = connection->loop;
	struct watch *watch = connection->watch;

	if (connection->is_closing || connection->moves_to) /* it has left: the other loop looks after it */
		return;
	connection->is_closing = true;
	if (why)
		log_close(connection, why);
	loop_unready(loop, connection);
	if (connection->parked_at)
		watch_unpark(connection->parked_at);
	connection->parked_at = NULL;
	close_handles(connection);
	close(connection->fd);
	output_clear(&connection->output);
	free(connection->input);
	connection->input = NULL;
	atomic_fetch_sub_explicit(loop->n_connections, 1, memory_order_relaxed);
	admission_leave(loop->admission, connection->peer.account, connection->is_greeted);
	loop->room(loop->room_arg);
	connection->watch = NULL;
	if (watch)
		watch_disconnected(watch);
	cancel_job(connection);
}

void connection_finish(struct connection *connection)
{
	if (connection->is_closing || connection->moves_to) /* a stop is at work in the other loop too */
		return;
	connection->is_finishing = true;
	if (!connection->job && !connection->output.head) {
		connection_close(connection, NULL);
		return;
	}
	connection->frame_deadline = connection->hello_deadline = 0;
	connection->linger_deadline = connection->job ? 0 : now_ms(connection) + LINGER_MS;
	loop_unready(connection->loop, connection);
	update_events(connection, true);
	update_timer(connection);
}

void connection_part(struct connection *connection)
{
	connection->watch = NULL;
	connection->peer.session = NULL;
}

/* ---- replies ---- */

/* Return: false: the connection is closed. */
static bool judge_output(struct connection *connection)
{
	const struct limits *limits = &connection->loop->limits;
	size_t n_bytes = connection->output.n_bytes;

	if (n_bytes > limits->queued_reply_close) {
		connection_close(connection, "the client does not read its replies");
		return false;
	}
	if (n_bytes > limits->queued_reply_pause)
		connection->is_throttled = true;
	else if (n_bytes <= limits->queued_reply_pause / 2)
		connection->is_throttled = false;
	if (n_bytes <= limits->queued_reply_slow)
		connection->slow_deadline = 0;
	else if (!connection->slow_deadline)
		connection->slow_deadline = now_ms(connection) + limits->queued_reply_slow_ms;
	return true;
}

/* Return: false: the connection is closed. */
static bool send_replies(struct connection *connection, struct reply_buffer *replies)
{
	size_t n_plain = replies->fd >= 0 ? replies->fd_at : replies->n_bytes;
	int r = 0;

	if (connection->is_closing) {
		if (replies->fd >= 0)
			close(replies->fd);
		replies->fd = -1;
		reply_buffer_clear(replies);
		return false;
	}
	if (n_plain)
		r = output_send(&connection->output, connection->fd, replies->data, n_plain, -1);
	if (replies->fd >= 0 && r)
		close(replies->fd);
	else if (replies->fd >= 0)
		r = output_send(&connection->output, connection->fd, replies->data + n_plain,
				replies->n_bytes - n_plain, replies->fd);
	replies->fd = -1;
	reply_buffer_clear(replies);
	if (r) {
		connection_close(connection, r == -EPIPE || r == -ECONNRESET ? NULL : strerrordesc_np(-r));
		return false;
	}
	return !connection->output.head || judge_output(connection);
}

/* The client is told why, if it listens; then closed. */
static void dismiss(struct connection *connection, int status, const char *why)
{
	struct loop *loop = connection->loop;

	log_close(connection, why);
	if (dispatch_notice(&loop->replies, status, why)) {
		connection_close(connection, NULL);
		return;
	}
	if (send_replies(connection, &loop->replies))
		connection_finish(connection);
}

/* ---- requests ---- */

static void after_dispatch(struct connection *connection, int result)
{
	if (result < 0)
		connection_close(connection, "there is no memory for its reply");
	else if (result == DISPATCH_E_CLOSE)
		connection->is_finishing = true; /* after the gathered replies are sent: end_turn() */
}

/* Return: false: it was not executed, and stays in the input */
static bool take_request(struct connection *connection, const uint8_t *message, uint32_t n_bytes)
{
	struct loop *loop = connection->loop;
	int r;

	hook_point(HOOK_DISPATCH, loop->index);
	r = dispatch_request(&loop->dispatch, &connection->peer, message, n_bytes, 0, &loop->replies);
	if (r == DISPATCH_E_LATER)
		return false;
	if (r == DISPATCH_E_SLOW)
		r = job_start(&connection->job, connection, message, n_bytes);
	after_dispatch(connection, r);
	if (!connection->job && hook_loses_reply(connection->peer.last_op))
		connection_close(connection, NULL);
	if (loop->replies.fd >= 0 || loop->replies.n_bytes > GATHER_BYTES)
		send_replies(connection, &loop->replies);
	return true;
}

static const char *sentence_of_frame(int r)
{
	return r == FRAME_E_EMPTY ? "a frame of length 0: every message carries an id"
				  : "a frame is longer than the limit of requests";
}

static uint32_t frame_limit(const struct connection *connection)
{
	const struct limits *limits = &connection->loop->limits;

	return (uint32_t)(connection->is_greeted ? limits->request_frame : limits->request_frame_before_hello);
}

/*
 * A turn ends after so many requests, or at @end_ns: some requests take a thousand times as long as others.
 * Return: bytes of @data [n_bytes] that are done with. What is left begins with a frame that may not be executed now
 * (then the connection is ready, paused or finishing) or with a part of one, whose length is *n_frame (0: unknown).
 */
static size_t take_frames(struct connection *connection, const uint8_t *data, size_t n_bytes, uint64_t end_ns,
			  uint32_t *n_framep)
{
	uint64_t n_left = connection->loop->limits.requests_in_flight;
	size_t n_done = 0;
	int r = 0;

	*n_framep = 0;
	while (may_dispatch(connection)) {
		r = frame_peek(data + n_done, n_bytes - n_done, frame_limit(connection), n_framep);
		if (r)
			break;
		if (!n_left-- || (n_done && uv_hrtime() >= end_ns)) {
			loop_make_ready(connection->loop, connection);
			break;
		}
		if (!take_request(connection, data + n_done + FRAME_HEADER_BYTES, *n_framep))
			break;
		n_done += FRAME_HEADER_BYTES + *n_framep;
		*n_framep = 0;
	}
	if (r && r != FRAME_E_PARTIAL)
		dismiss(connection, r == FRAME_E_EMPTY ? -EBADMSG : -EMSGSIZE, sentence_of_frame(r));
	return n_done;
}

/* Keep what is left of a turn; @n_frame is the length of a frame that has begun, checked already. Return: 0, -ENOMEM */
static int keep_input(struct connection *connection, const uint8_t *rest, size_t n_rest, uint32_t n_frame)
{
	size_t n_needed = n_frame && n_rest < FRAME_HEADER_BYTES + n_frame ? FRAME_HEADER_BYTES + n_frame : n_rest;
	uint8_t *input;

	if (!n_rest) {
		free(connection->input);
		connection->input = NULL;
		connection->n_input = connection->input_alloced = 0;
		return 0;
	}
	if (connection->n_input && rest >= connection->input && rest < connection->input + connection->n_input) {
		/* it is there already */
		memmove(connection->input, rest, n_rest);
		connection->n_input = n_rest;
		return 0;
	}
	if (n_needed > connection->input_alloced) {
		input = realloc(connection->input, n_needed);
		if (!input)
			return -ENOMEM;
		connection->input = input;
		connection->input_alloced = n_needed;
	}
	memcpy(connection->input, rest, n_rest);
	connection->n_input = n_rest;
	return 0;
}

/* With its input, in which the Hello is; nothing was greeted, sent or begun here yet but refusals. */
static void leave(struct connection *connection)
{
	loop_unready(connection->loop, connection);
	close_handles(connection);
}

/* Send, then wait for whatever comes next. */
static void end_turn(struct connection *connection)
{
	struct loop *loop = connection->loop;
	bool is_waiting;

	if (loop->replies.n_bytes)
		send_replies(connection, &loop->replies);
	if (connection->is_closing)
		return;
	if (connection->moves_to) {
		leave(connection);
		return;
	}
	if (connection->is_finishing) {
		connection_finish(connection);
		return;
	}
	is_waiting = connection->n_input && may_dispatch(connection) && !connection->is_ready;
	if (!is_waiting)
		connection->frame_deadline = 0;
	else if (!connection->frame_deadline)
		connection->frame_deadline = now_ms(connection) + loop->limits.time_to_finish_frame_ms;
	update_events(connection, false);
	update_timer(connection);
}

static void serve(struct connection *connection, const uint8_t *data, size_t n_bytes)
{
	const struct quota_account *account = connection->peer.account;
	struct loop *loop = connection->loop;
	uint64_t begin_ns = uv_hrtime(), left_ns = loop_time_left(loop, account);
	uint32_t n_frame;
	size_t n_done;

	n_done = take_frames(connection, data, n_bytes, begin_ns + (left_ns > TURN_NS ? TURN_NS : left_ns), &n_frame);
	if (n_done) /* a new frame has a new deadline */
		connection->frame_deadline = 0;
	if (!connection->is_closing && !connection->is_finishing &&
	    keep_input(connection, data + n_done, n_bytes - n_done, n_frame))
		connection_close(connection, "there is no memory for its request");
	end_turn(connection);
	loop_spend(loop, account, uv_hrtime() - begin_ns);
}

static void read_some(struct connection *connection)
{
	struct loop *loop = connection->loop;
	ssize_t n;

	/* Behind the part of a frame that is there, so that frames are always whole in one place. */
	assert(connection->n_input + LOOP_READ_BYTES <= loop->read_bytes);
	if (connection->n_input)
		memcpy(loop->read_buffer, connection->input, connection->n_input);
	do
		n = recv(connection->fd, loop->read_buffer + connection->n_input, LOOP_READ_BYTES, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		serve(connection, loop->read_buffer, connection->n_input + (size_t)n);
	else if (!n || (errno != EAGAIN && errno != EWOULDBLOCK))
		connection_finish(connection);
	else
		end_turn(connection);
}

void connection_turn(struct connection *connection)
{
	bool is_unread = connection->is_unread && may_dispatch(connection);

	connection->is_unread = false;
	if (is_unread)
		read_some(connection);
	else if (connection->n_input)
		serve(connection, connection->input, connection->n_input);
	else
		end_turn(connection);
}

/* Its user has had its time: it reads in a later round. Meanwhile it is not the client that is late. */
static void put_off(struct connection *connection)
{
	connection->is_unread = true;
	connection->frame_deadline = 0;
	loop_make_ready(connection->loop, connection);
	update_events(connection, true);
}

/* ---- events ---- */

static void writable(struct connection *connection)
{
	bool was_throttled = connection->is_throttled;
	int r = output_flush(&connection->output, connection->fd);

	if (r) {
		connection_close(connection, r == -EPIPE || r == -ECONNRESET ? NULL : strerrordesc_np(-r));
		return;
	}
	if (!judge_output(connection))
		return;
	if (connection->is_finishing && !connection->output.head && !connection->job)
		connection_close(connection, NULL);
	else if (was_throttled && !connection->is_throttled && connection->n_input)
		loop_make_ready(connection->loop, connection);
}

static void poll_cb(uv_poll_t *poll, int status, int events)
{
	struct connection *connection = poll->data;

	if (status < 0) { /* libuv stops at POLLERR: a reset, after which there still may be requests to read */
		connection->events = 0;
		events = UV_READABLE | UV_WRITABLE;
	}
	if ((events & UV_WRITABLE) && connection->output.head)
		writable(connection);
	if (!(events & UV_READABLE) || connection->is_ready) /* a ready one reads after its turn */
		update_events(connection, false);
	else if (!may_dispatch(connection))
		update_events(connection, true);
	else if (!loop_time_left(connection->loop, connection->peer.account))
		put_off(connection);
	else
		read_some(connection);
}

static bool is_due(const struct connection *connection, uint64_t deadline)
{
	return deadline && deadline <= now_ms(connection);
}

static void timer_cb(uv_timer_t *timer)
{
	struct connection *connection = timer->data;

	connection->armed = 0;
	if (is_due(connection, connection->linger_deadline))
		connection_close(connection, NULL);
	else if (is_due(connection, connection->slow_deadline))
		connection_close(connection, "the client reads its replies too slowly");
	else if (is_due(connection, connection->hello_deadline))
		dismiss(connection, -ETIMEDOUT, "no Hello came in time");
	else if (is_due(connection, connection->frame_deadline))
		dismiss(connection, -ETIMEDOUT, "a frame was begun and not finished in time");
	update_timer(connection);
}

void connection_job_done(struct connection *connection, struct job *job)
{
	struct watch *watch = job->watch;
	int result = job->result;

	if (hook_loses_reply(connection->peer.last_op))
		connection_close(connection, NULL);
	connection->job = NULL;
	watch_job_done(watch); /* may close the connection, or part it from its session */
	after_dispatch(connection, result);
	send_replies(connection, &job->replies);
	job_free(job);
	if (connection->is_closing)
		maybe_free(connection);
	else if (connection->is_finishing)
		connection_finish(connection);
	else
		connection_turn(connection);
}

/* ---- the start ---- */

static int begun(struct peer *peer)
{
	struct connection *connection = (void *)((char *)peer - offsetof(struct connection, peer));
	int r;

	r = watch_start(&connection->watch, connection, peer->session);
	if (r)
		return r;
	connection->is_greeted = true;
	connection->hello_deadline = 0;
	admission_greet(connection->loop->admission, connection->peer.account);
	return 0;
}

/* The Hello of a session: whether it may be carried on, here and now. */
static int resume(struct peer *peer, struct session *session, void *home)
{
	struct connection *connection = (void *)((char *)peer - offsetof(struct connection, peer));
	struct loop *loop = home;
	int r;

	if (loop != connection->loop) {
		if (mailbox_reserve(&loop->mailbox))
			connection->moves_to = loop;
		else
			connection->is_finishing = true; /* the daemon stops: its next one answers */
		return DISPATCH_E_LATER;
	}
	if (!session_is_of(session, &peer->identity))
		return -EACCES;
	r = watch_resume(session->watch, connection);
	if (r == WATCH_E_PARKED)
		connection->parked_at = session->watch;
	if (r)
		return r == WATCH_E_PARKED ? DISPATCH_E_LATER : r;
	connection->watch = session->watch;
	connection->is_greeted = true;
	connection->hello_deadline = 0;
	admission_greet(connection->loop->admission, connection->peer.account);
	return 0;
}

void connection_unpark(struct connection *connection)
{
	connection->parked_at = NULL;
	loop_make_ready(connection->loop, connection);
}

int connection_new(struct connection **connectionp, struct loop *loop, int fd, const struct pool_identity *identity,
		   struct quota_account *account)
{
	struct connection *connection = calloc(1, sizeof(*connection));

	if (!connection)
		return -ENOMEM;
	connection->loop = loop;
	connection->fd = fd;
	connection->peer = (struct peer){.identity = *identity, .account = account, .begun = begun, .resume = resume};
	*connectionp = connection;
	return 0;
}

/* Nobody has heard of it here yet. */
static void turn_away(struct connection *connection, const char *why)
{
	struct loop *loop = connection->loop;

	if (why)
		log_close(connection, why);
	close(connection->fd);
	output_clear(&connection->output);
	free(connection->input);
	admission_leave(loop->admission, connection->peer.account, false);
	loop->room(loop->room_arg);
	peer_deinit(&connection->peer);
	free(connection);
	loop_check_stopped(loop);
}

static void start(void *owner, struct mailbox_message *message)
{
	struct connection *connection = (struct connection *)message;
	struct loop *loop = owner;
	int r;

	if (loop->is_stopping || (connection->has_moved && !connection->n_input)) {
		turn_away(connection, NULL); /* there was no memory to keep its Hello */
		return;
	}
	r = uv_poll_init(&loop->uv, &connection->poll, connection->fd);
	if (r) {
		turn_away(connection, uv_strerror(r));
		return;
	}
	uv_timer_init(&loop->uv, &connection->timer);
	connection->poll.data = connection->timer.data = connection;
	connection->n_handles = 2;
	connection->next = loop->connections;
	if (connection->next)
		connection->next->prev = connection;
	loop->connections = connection;
	atomic_fetch_add_explicit(loop->n_connections, 1, memory_order_relaxed);
	connection->hello_deadline = now_ms(connection) + loop->limits.time_to_hello_ms;
	if (connection->has_moved)
		loop_make_ready(loop, connection);
	update_events(connection, true);
	update_timer(connection);
}

/* Its handles here are closed: it is the other loop's. */
static void go_on(struct connection *connection)
{
	struct loop *from = connection->loop, *to = connection->moves_to;

	unlink_from_loop(connection);
	atomic_fetch_sub_explicit(from->n_connections, 1, memory_order_relaxed);
	connection->loop = to;
	connection->moves_to = NULL;
	connection->has_moved = true;
	connection->events = 0;
	connection->armed = 0;
	connection->start_message.run = start;
	mailbox_post_reserved(&to->mailbox, &connection->start_message);
	loop_check_stopped(from);
}

void connection_post(struct connection *connection)
{
	connection->start_message.run = start;
	mailbox_post(&connection->loop->mailbox, &connection->start_message);
}
