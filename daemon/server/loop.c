// SPDX-License-Identifier: MIT
/*
 * Happy path: epoll wakes the thread; each readable connection gets one turn; one with requests left over is put on the
 *   ready list and gets its next turn when all others had theirs.
 * One user's connections, however many, have so much time of a round together: those that are left go on the ready list, before the
 *   others there, and have their turn in a later round.
 * On close: the stop message finishes every connection; when the last connection and the last watch are gone, and none is on its
 *   way here from another loop, the loop's own handles are closed, uv_run() returns, and nothing is left in the loop.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proto/frame.h"
#include "server/connection.h"
#include "server/loop.h"
#include "server/watch.h"

/* ---- turns ---- */

/* A round is what happens at one time of the loop, which goes on when it polls: by more than a round's time, if that was used up. */
static struct loop_user *user_of(struct loop *loop, const struct quota_account *account)
{
	struct loop_user *user = loop->users;
	uint64_t now_ms = uv_now(&loop->uv);

	for (unsigned i = 0; i < LOOP_USERS_N && user->account != account; i++)
		if (loop->users[i].account == account || loop->users[i].round_ms < user->round_ms)
			user = loop->users + i;
	if (user->account != account || user->round_ms != now_ms)
		*user = (struct loop_user){.account = account, .round_ms = now_ms};
	return user;
}

uint64_t loop_time_left(struct loop *loop, const struct quota_account *account)
{
	const struct loop_user *user = user_of(loop, account);

	return user->ns < LOOP_USER_NS ? LOOP_USER_NS - user->ns : 0;
}

void loop_spend(struct loop *loop, const struct quota_account *account, uint64_t ns)
{
	user_of(loop, account)->ns += ns;
}

/* Who became ready in this round has the next; whose user has no time left stays where it is. */
static struct connection *next_in_turn(struct loop *loop)
{
	struct connection *connection = loop->ready_head;

	while (connection && connection->ready_round != loop->ready_round &&
	       !loop_time_left(loop, connection->peer.account))
		connection = connection->ready_next;
	return connection && connection->ready_round != loop->ready_round ? connection : NULL;
}

static void idle_cb(uv_idle_t *idle)
{
	struct loop *loop = idle->data;
	struct connection *connection;

	loop->ready_round++;
	while ((connection = next_in_turn(loop))) {
		loop_unready(loop, connection);
		connection_turn(connection);
	}
}

void loop_make_ready(struct loop *loop, struct connection *connection)
{
	if (connection->is_ready)
		return;
	connection->is_ready = true;
	connection->ready_round = loop->ready_round;
	connection->ready_next = NULL;
	if (loop->ready_tail)
		loop->ready_tail->ready_next = connection;
	else
		loop->ready_head = connection;
	loop->ready_tail = connection;
	uv_idle_start(&loop->idle, idle_cb);
}

void loop_unready(struct loop *loop, struct connection *connection)
{
	struct connection **link = &loop->ready_head, *before = NULL;

	if (!connection->is_ready)
		return;
	for (; *link != connection; link = &before->ready_next)
		before = *link;
	*link = connection->ready_next;
	if (loop->ready_tail == connection)
		loop->ready_tail = before;
	connection->is_ready = false;
	if (!loop->ready_head)
		uv_idle_stop(&loop->idle);
}

/* ---- limits ---- */

static int take_limits(struct loop *loop, const struct limits *limits)
{
	size_t read_bytes = FRAME_HEADER_BYTES + limits->request_frame + LOOP_READ_BYTES;
	struct arena arena;
	uint8_t *buffer;
	int r;

	if (read_bytes > loop->read_bytes) { /* never smaller: a connection may have kept as much */
		buffer = realloc(loop->read_buffer, read_bytes);
		if (!buffer)
			return -ENOMEM;
		loop->read_buffer = buffer;
		loop->read_bytes = read_bytes;
	}
	r = arena_init(&arena, limits->decode_arena, limits->decode_objects);
	if (r)
		return r;
	arena_deinit(&arena); /* there is room: now for good, at its place */
	arena_deinit(&loop->arena);
	return arena_init(&loop->arena, limits->decode_arena, limits->decode_objects);
}

struct limits_message {
	struct mailbox_message message;
	struct limits limits;
};

static void limits_arrived(void *owner, struct mailbox_message *message)
{
	struct loop *loop = owner;
	struct limits_message *change = (struct limits_message *)message;

	if (take_limits(loop, &change->limits))
		log_line(LOG_LEVEL_ERROR, "loop %u: no memory for the new limits: it keeps the old ones", loop->index);
	else
		loop->limits = change->limits;
	free(change);
}

int loop_set_limits(struct loop *loop, const struct limits *limits)
{
	struct limits_message *change = malloc(sizeof(*change));

	if (!change)
		return -ENOMEM;
	*change = (struct limits_message){.message.run = limits_arrived, .limits = *limits};
	mailbox_post(&loop->mailbox, &change->message);
	return 0;
}

/* ---- start and stop ---- */

static void run_thread(void *arg)
{
	struct loop *loop = arg;

	uv_run(&loop->uv, UV_RUN_DEFAULT);
}

int loop_start(struct loop *loop)
{
	int r;

	loop->replies = (struct reply_buffer)REPLY_BUFFER_NULL;
	loop->dispatch = (struct dispatch){
		.services = loop->services,
		.limits = &loop->limits,
		.arena = &loop->arena,
	};
	r = take_limits(loop, &loop->limits);
	if (r)
		goto err_buffers;
	r = uv_loop_init(&loop->uv);
	if (r)
		goto err_buffers;
	r = mailbox_open(&loop->mailbox, &loop->uv, loop);
	if (r)
		goto err_after_uv;
	uv_idle_init(&loop->uv, &loop->idle);
	uv_timer_init(&loop->uv, &loop->stop_timer);
	loop->idle.data = loop->stop_timer.data = loop;
	r = uv_thread_create(&loop->thread, run_thread, loop);
	if (r)
		goto err_after_handles;
	return 0;

err_after_handles:
	uv_close((uv_handle_t *)&loop->idle, NULL);
	uv_close((uv_handle_t *)&loop->stop_timer, NULL);
	(void)mailbox_close(&loop->mailbox); /* nobody has posted yet */
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	mailbox_deinit(&loop->mailbox);
err_after_uv:
	uv_loop_close(&loop->uv);
err_buffers:
	arena_deinit(&loop->arena);
	free(loop->read_buffer);
	loop->read_buffer = NULL;
	return r;
}

static void stop_timer_cb(uv_timer_t *timer)
{
	struct loop *loop = timer->data;
	struct connection *next;

	for (struct connection *c = loop->connections; c; c = next) {
		next = c->next;
		connection_close(c, "the daemon stops, and the client did not take its replies");
	}
}

static void stop_arrived(void *owner, struct mailbox_message *message)
{
	struct loop *loop = owner;
	struct connection *next_connection;
	struct watch *next_watch;

	(void)message;
	loop->is_stopping = true;
	uv_timer_start(&loop->stop_timer, stop_timer_cb, LOOP_STOP_MS, 0);
	for (struct connection *c = loop->connections; c; c = next_connection) {
		next_connection = c->next;
		connection_finish(c);
	}
	for (struct watch *w = loop->watches; w; w = next_watch) {
		next_watch = w->next;
		watch_stop(w); /* those with a connection when it is closed */
	}
	loop_check_stopped(loop);
}

void loop_check_stopped(struct loop *loop)
{
	if (!loop->is_stopping || loop->connections || loop->watches ||
	    uv_is_closing((uv_handle_t *)&loop->mailbox.async) || !mailbox_close(&loop->mailbox))
		return;
	uv_close((uv_handle_t *)&loop->idle, NULL);
	uv_close((uv_handle_t *)&loop->stop_timer, NULL);
}

void loop_stop(struct loop *loop)
{
	loop->stop_message.run = stop_arrived;
	mailbox_post(&loop->mailbox, &loop->stop_message);
}

void loop_join(struct loop *loop)
{
	int r;

	uv_thread_join(&loop->thread);
	r = uv_loop_close(&loop->uv);
	assert(!r); /* EBUSY would be a handle that nobody closed */
	(void)r;
	mailbox_deinit(&loop->mailbox);
	reply_buffer_deinit(&loop->replies);
	arena_deinit(&loop->arena);
	free(loop->read_buffer);
	loop->read_buffer = NULL;
}
