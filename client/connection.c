// SPDX-License-Identifier: MIT
/*
 * Happy path: a request is queued, whoever finds nobody sending sends all that is there and fits; then the caller waits, as the
 * driver or woken by it. Failures: a broken stream is noted once, and those who wait go on waiting for another; a caller whose
 * time is over leaves a ghost. The invariants are in connection.h.
 */
#include "client/connection.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW_BEFORE_HELLO  1u
#define WINDOW_MAX	     128u /* answers that the daemon keeps for a session, whatever it lets in */
#define OUT_BYTES	     (FRAME_HEADER_BYTES + FRAME_REQUEST_BYTES)
#define VARINT_BYTES	     10u
#define BATCH_OVERHEAD_BYTES (PENDING_OVERHEAD_BYTES + 24u) /* of a batch: operation 2 + 5, pool 1 + 10, list 1 + 5 */
#define NO_MEMORY_PAUSE_MS   100u			    /* a free looks so often whether it may leave */

/* ---- life ---- */

int connection_init(struct connection *connection, int fd, const char *path)
{
	int r;

	*connection = (struct connection){
		.window = WINDOW_BEFORE_HELLO, .max_request_bytes = FRAME_REQUEST_BYTES, .state = CONNECTION_UP};
	TAILQ_INIT(&connection->queue);
	TAILQ_INIT(&connection->callers);
	atomic_init(&connection->max_batch, 1);
	snprintf(connection->path, sizeof(connection->path), "%s", path);
	r = stream_init(&connection->stream);
	if (r)
		return r;
	connection->out = malloc(OUT_BYTES);
	if (!connection->out) {
		r = -ENOMEM;
		goto err_after_stream;
	}
	r = -pthread_mutex_init(&connection->mutex, NULL);
	if (r)
		goto err_after_out;
	r = pending_cond_init(&connection->sender_left);
	if (r)
		goto err_after_mutex;
	stream_attach(&connection->stream, fd);
	return 0;

err_after_mutex:
	pthread_mutex_destroy(&connection->mutex);
err_after_out:
	free(connection->out);
err_after_stream:
	stream_deinit(&connection->stream);
	return r;
}

void connection_deinit(struct connection *connection, bool is_ours)
{
	struct pending *ghost;

	stream_deinit(&connection->stream);
	free(connection->out);
	if (!is_ours)
		return; /* the rest may be half changed, and threads that are not here may wait on it: some bytes are left */
	while ((ghost = TAILQ_FIRST(&connection->queue))) { /* callers have left */
		TAILQ_REMOVE(&connection->queue, ghost, queued);
		pending_give(&connection->spares, ghost);
	}
	pending_spares_deinit(&connection->spares);
	pthread_cond_destroy(&connection->sender_left);
	pthread_mutex_destroy(&connection->mutex);
}

void connection_set_timeout(struct connection *connection, int timeout_ms)
{
	pthread_mutex_lock(&connection->mutex);
	connection->timeout_ms = timeout_ms;
	stream_set_timeout(&connection->stream, timeout_ms);
	pthread_mutex_unlock(&connection->mutex);
}

/* As many sizes or offsets as the daemon takes at once, and as fit whatever they are. */
static uint32_t batch_of(const Mempool__Wire__HelloReply *hello, uint32_t request_bytes)
{
	uint32_t fit = request_bytes > BATCH_OVERHEAD_BYTES ? (request_bytes - BATCH_OVERHEAD_BYTES) / VARINT_BYTES : 0;
	uint32_t most = hello->max_batch < fit ? hello->max_batch : fit;

	return most ? most : 1;
}

void connection_begin(struct connection *connection, const Mempool__Wire__HelloReply *hello)
{
	uint32_t window = hello->max_in_flight ? hello->max_in_flight : 1;
	uint32_t request_bytes = hello->max_request_bytes ? hello->max_request_bytes : FRAME_REQUEST_BYTES;

	connection->window = window < WINDOW_MAX ? window : WINDOW_MAX;
	connection->max_request_bytes = request_bytes < FRAME_REQUEST_BYTES ? request_bytes : FRAME_REQUEST_BYTES;
	atomic_store_explicit(&connection->max_batch, batch_of(hello, connection->max_request_bytes),
			      memory_order_relaxed);
	connection->session = hello->session;
	if (hello->token.len == TOKEN_BYTES) {
		memcpy(connection->token, hello->token.data, TOKEN_BYTES);
		connection->has_token = true;
	}
}

int connection_lost(struct connection *connection, char *text, size_t n_text)
{
	int lost;

	pthread_mutex_lock(&connection->mutex);
	lost = connection->state == CONNECTION_LOST ? connection->lost : 0;
	if (lost)
		snprintf(text, n_text, "%s", connection->lost_text);
	pthread_mutex_unlock(&connection->mutex);
	return lost;
}

void call_deinit(struct call *call)
{
	if (call->reply)
		mempool__wire__reply__free_unpacked(call->reply, NULL);
	if (call->fd >= 0)
		close(call->fd);
	call->reply = NULL;
	call->fd = -1;
}

/* ---- the stream's ends: with the mutex ---- */

void connection_broke(struct connection *connection)
{
	if (connection->state == CONNECTION_DOWN || connection->state == CONNECTION_LOST)
		return;
	if (!connection->has_token) {
		connection_lose(connection, -EHOSTDOWN, "the connection to the daemon is lost; its log says why");
		return;
	}
	connection->state = CONNECTION_DOWN;
	stream_shut(&connection->stream);
	resume_fell(connection);
}

static void finish(struct connection *connection, struct pending *pending)
{
	pending->is_done = true;
	TAILQ_REMOVE(&connection->callers, pending, waiting);
	pthread_cond_signal(&pending->wake);
}

void connection_lose(struct connection *connection, int error, const char *text)
{
	struct pending *pending;

	if (connection->state == CONNECTION_LOST)
		return;
	connection->state = CONNECTION_LOST;
	connection->lost = error;
	snprintf(connection->lost_text, sizeof(connection->lost_text), "%s", text);
	if (connection->on_lost)
		connection->on_lost(connection->on_lost_arg);
	stream_shut(&connection->stream);
	while ((pending = TAILQ_FIRST(&connection->queue))) {
		TAILQ_REMOVE(&connection->queue, pending, queued);
		if (pending->is_ghost) {
			pending_give(&connection->spares, pending);
			continue;
		}
		pending->error = error;
		finish(connection, pending);
	}
	connection->first_unsent = NULL;
	connection->n_sent = 0;
}

void connection_rewind(struct connection *connection)
{
	struct pending *pending;

	TAILQ_FOREACH(pending, &connection->queue, queued)
	{
		if (!pending->is_sent)
			break;
		pending->is_sent = false;
	}
	connection->first_unsent = TAILQ_FIRST(&connection->queue);
	connection->n_sent = 0;
	connection->n_out = connection->n_out_done = 0;
}

uint64_t connection_acked(const struct connection *connection)
{
	const struct pending *first = TAILQ_FIRST(&connection->queue);

	return first && first->id ? first->id - 1 : connection->last_id;
}

bool connection_wait(struct connection *connection, pthread_cond_t *cond, const struct deadline *deadline)
{
	struct timespec at = timespec_of(deadline->at_ms);

	if (deadline->is_never)
		pthread_cond_wait(cond, &connection->mutex);
	else if (!deadline->at_ms || pthread_cond_timedwait(cond, &connection->mutex, &at) == ETIMEDOUT)
		return false;
	return true;
}

/* ---- in: the driver, with the mutex ---- */

/* The protocol has one descriptor at most with a reply; more are not leaked. */
static int take_fd(struct connection *connection, uint32_t n_fds)
{
	int fd = -1;

	for (uint32_t i = 0; i < n_fds; i++) {
		int more = stream_next_fd(&connection->stream);

		if (more < 0)
			break;
		if (fd < 0)
			fd = more;
		else
			close(more);
	}
	return fd;
}

/* About the stream itself, which the daemon closes then. What it will not read at all must not be sent again and again. */
static void stream_refused(struct connection *connection, const Mempool__Wire__Reply *reply)
{
	int status = reply->status < 0 && reply->status > -4096 ? reply->status : -EPROTO;
	const char *message = reply->message && *reply->message ? reply->message : strerror(-status);

	if (!connection->has_token)
		connection_lose(connection, status, message);
	else if (status == -EBADMSG || status == -EMSGSIZE || status == -E2BIG)
		connection_lose(connection, -EPROTO, message);
	else
		connection_broke(connection);
}

static void enqueue(struct connection *connection, struct pending *pending)
{
	TAILQ_INSERT_TAIL(&connection->queue, pending, queued);
	if (!connection->first_unsent)
		connection->first_unsent = pending;
}

/* Takes reply and descriptor over. */
static void answer(struct connection *connection, struct pending *pending, Mempool__Wire__Reply *reply, int fd)
{
	TAILQ_REMOVE(&connection->queue, pending, queued);
	connection->n_sent--;
	connection->pause_ms = 0; /* the stream is of use */
	if (!pending->is_ghost) {
		pending->reply = reply;
		pending->fd = fd;
		finish(connection, pending);
		return;
	}
	if (fd >= 0)
		close(fd);
	if (pending_undo(pending, reply))
		enqueue(connection, pending);
	else
		pending_give(&connection->spares, pending);
}

/* Takes the reply over. */
static void deliver(struct connection *connection, Mempool__Wire__Reply *reply)
{
	struct pending *first = TAILQ_FIRST(&connection->queue);
	int fd = take_fd(connection, reply->n_fds);

	if (connection->state == CONNECTION_UP && first && first->is_sent && reply->id == first->id) {
		answer(connection, first, reply, fd);
		return;
	}
	if (connection->state == CONNECTION_GREETING)
		resume_answered(connection, reply);
	else if (!reply->id)
		stream_refused(connection, reply);
	else
		connection_broke(connection); /* nobody's, or out of order */
	mempool__wire__reply__free_unpacked(reply, NULL);
	if (fd >= 0)
		close(fd);
}

/* The mutex is let go meanwhile. */
static void receive(struct connection *connection, int wait_ms)
{
	Mempool__Wire__Reply *reply;
	int r;

	pthread_mutex_unlock(&connection->mutex);
	r = stream_receive(&connection->stream, wait_ms);
	pthread_mutex_lock(&connection->mutex);
	while (!r && (connection->state == CONNECTION_UP || connection->state == CONNECTION_GREETING)) {
		r = stream_next(&connection->stream, &reply);
		if (!r)
			deliver(connection, reply);
	}
	if (r < 0)
		connection_broke(connection);
}

/* The socket's own timeout is a call's whole time: exact for its first wait, and good for a later one while most of it is left. */
static int time_to_wait(const struct connection *connection, const struct deadline *deadline, bool is_first)
{
	uint64_t now, left_ms;

	if (deadline->is_never)
		return connection->timeout_ms < 0 ? STREAM_WAIT : 1000;
	if (!deadline->at_ms)
		return 0;
	if (is_first)
		return STREAM_WAIT;
	now = now_ms();
	left_ms = deadline->at_ms > now ? deadline->at_ms - now : 0;
	return connection->timeout_ms > 0 && left_ms > (uint64_t)connection->timeout_ms / 2 ? STREAM_WAIT
											    : (int)left_ms;
}

static void drive(struct connection *connection, struct pending *pending, const struct deadline *deadline,
		  bool is_first)
{
	connection->is_driving = true;
	if (connection->state == CONNECTION_DOWN)
		resume_drive(connection, &pending->wake, deadline);
	else
		receive(connection, time_to_wait(connection, deadline, is_first));
	connection->is_driving = false;
}

/* somebody else who waits takes a role over */
static void wake_another(struct connection *connection)
{
	struct pending *pending = TAILQ_FIRST(&connection->callers);

	if (pending)
		pthread_cond_signal(&pending->wake);
}

/* ---- out: the sender, with the mutex ---- */

static bool has_to_send(const struct connection *connection)
{
	return connection->state == CONNECTION_UP &&
	       (connection->n_out_done < connection->n_out ||
		(connection->first_unsent && connection->n_sent < connection->window));
}

/* As many frames as fit; one always does. */
static void gather(struct connection *connection)
{
	struct pending *pending;
	size_t n = 0;

	while ((pending = connection->first_unsent) && connection->n_sent < connection->window &&
	       n + pending_frame_bytes(pending) <= OUT_BYTES) {
		if (!pending->id)
			pending->id = ++connection->last_id;
		n += pending_put_frame(pending, connection_acked(connection), connection->out + n);
		pending->is_sent = true;
		connection->n_sent++;
		connection->first_unsent = TAILQ_NEXT(pending, queued);
	}
	connection->n_out = n;
	connection->n_out_done = 0;
}

/* The socket is full: the daemon may have stopped reading until somebody reads its replies, so that is done here too. */
static void wait_for_room(struct connection *connection, const struct deadline *deadline)
{
	struct pollfd poll_fd = {.fd = connection->stream.fd, .events = POLLOUT};
	bool may_drive = !connection->is_driving;
	uint64_t now = now_ms(), left_ms = 100;

	if (!deadline->is_never)
		left_ms = deadline->at_ms > now ? deadline->at_ms - now : 0;
	if (may_drive)
		poll_fd.events |= POLLIN;
	connection->is_driving |= may_drive;
	pthread_mutex_unlock(&connection->mutex);
	poll(&poll_fd, 1, left_ms < 100 ? (int)left_ms : 100);
	pthread_mutex_lock(&connection->mutex);
	if (!may_drive)
		return;
	if (poll_fd.revents & (POLLIN | POLLHUP | POLLERR))
		receive(connection, 0);
	connection->is_driving = false;
}

/* A daemon that takes no more sessions says why, and closes before it is asked: what it said is read before all else is given up. */
static void send_failed(struct connection *connection)
{
	if (!connection->has_token && !connection->is_driving) {
		connection->is_driving = true;
		receive(connection, 0);
		connection->is_driving = false;
	}
	connection_broke(connection);
}

/* What is there, as long as there is time. */
static void send_all(struct connection *connection, const struct deadline *deadline)
{
	if (connection->is_sending)
		return; /* they will see it */
	connection->is_sending = true;
	while (has_to_send(connection)) {
		ssize_t n;

		if (connection->n_out_done == connection->n_out)
			gather(connection);
		pthread_mutex_unlock(&connection->mutex);
		n = stream_send(&connection->stream, connection->out + connection->n_out_done,
				connection->n_out - connection->n_out_done);
		pthread_mutex_lock(&connection->mutex);
		if (n < 0)
			send_failed(connection);
		else
			connection->n_out_done += (size_t)n;
		if (n || connection->state != CONNECTION_UP)
			continue;
		if (deadline_is_over(deadline))
			break;
		wait_for_room(connection, deadline);
	}
	connection->is_sending = false;
	if (connection->state == CONNECTION_DOWN)
		pthread_cond_broadcast(&connection->sender_left);
}

/* ---- a call ---- */

/* Into a record on the heap, if there is one by now. */
static struct pending *leave_stack(struct connection *connection, struct pending *pending)
{
	struct pending *heap = pending_take(&connection->spares);

	if (!heap)
		return NULL;
	heap->id = pending->id;
	heap->pool = pending->pool;
	heap->is_free = pending->is_free;
	heap->is_sent = pending->is_sent;
	heap->n_body = pending->n_body; /* in the small buffer, or there would have been no record for it at all */
	memcpy(heap->small, pending->small, sizeof(heap->small));
	TAILQ_INSERT_BEFORE(pending, heap, queued);
	TAILQ_REMOVE(&connection->queue, pending, queued);
	if (connection->first_unsent == pending)
		connection->first_unsent = heap;
	return heap;
}

static void forget(struct connection *connection, struct pending *pending)
{
	if (connection->first_unsent == pending)
		connection->first_unsent = TAILQ_NEXT(pending, queued);
	TAILQ_REMOVE(&connection->queue, pending, queued);
	pending_give(&connection->spares, pending);
}

/* The time is over. Return: true: @pending is a ghost, or forgotten, and its caller may leave */
static bool give_up(struct connection *connection, struct pending *pending)
{
	struct pending *ghost = pending;

	if (pending->is_on_stack && pending->is_free) {
		ghost = leave_stack(connection, pending);
		if (!ghost)
			return false;
	}
	TAILQ_REMOVE(&connection->callers, pending, waiting);
	if (ghost != pending)
		pending_deinit(pending);
	if (ghost->is_free || (ghost->id && !connection->is_ending))
		ghost->is_ghost = true;
	else
		forget(connection, ghost);
	return true;
}

static bool has_a_free(const struct connection *connection)
{
	const struct pending *pending;

	TAILQ_FOREACH(pending, &connection->queue, queued)
	{
		if (pending->is_free)
			return true;
	}
	return false;
}

/* Nobody is there to be told Goodbye, and nothing needs to be done but what the session's end does. */
static bool is_pointless(const struct connection *connection)
{
	return connection->is_ending && connection->state == CONNECTION_DOWN && connection->stream.fd < 0 &&
	       !has_a_free(connection);
}

/* Return: 0 it is done; -ETIMEDOUT, -EHOSTDOWN it was given up */
static int wait_for_reply(struct connection *connection, struct pending *pending, struct deadline deadline)
{
	bool is_first = true;

	while (!pending->is_done) {
		if (connection->is_driving) {
			(void)connection_wait(connection, &pending->wake, &deadline);
		} else {
			drive(connection, pending, &deadline, is_first);
			is_first = false;
		}
		if (has_to_send(connection))
			send_all(connection, &deadline);
		if (pending->is_done || (!deadline_is_over(&deadline) && !is_pointless(connection)))
			continue;
		if (give_up(connection, pending))
			return connection->state == CONNECTION_DOWN ? -EHOSTDOWN : -ETIMEDOUT;
		deadline = deadline_of(NO_MEMORY_PAUSE_MS);
	}
	return 0;
}

static int take_record(struct connection *connection, const Mempool__Wire__Request *request, uint64_t pool,
		       struct pending *stack, struct pending **pendingp)
{
	struct pending *pending = pending_take(&connection->spares);
	int r;

	if (!pending) {
		if (!stack)
			return -ENOMEM;
		r = pending_init(stack);
		if (r)
			return r;
		stack->is_on_stack = true;
		pending = stack;
	}
	r = pending_pack(pending, request, pool, connection->max_request_bytes);
	if (r) {
		pending_give(&connection->spares, pending);
		return r;
	}
	*pendingp = pending;
	return 0;
}

/* Queued, and somebody waits for it. Return: NULL: why is in @rp */
static struct pending *start(struct connection *connection, const Mempool__Wire__Request *request, uint64_t pool,
			     struct pending *stack, int *rp)
{
	struct pending *pending = NULL;

	*rp = connection->state == CONNECTION_LOST ? connection->lost
						   : take_record(connection, request, pool, stack, &pending);
	if (!pending)
		return NULL;
	enqueue(connection, pending);
	TAILQ_INSERT_TAIL(&connection->callers, pending, waiting);
	return pending;
}

static int finish_call(struct connection *connection, struct pending *pending, const struct deadline *deadline,
		       struct call *call)
{
	int r = wait_for_reply(connection, pending, *deadline);

	if (r)
		return r;
	r = pending->error;
	*call = (struct call){.reply = pending->reply, .fd = pending->fd};
	pending->reply = NULL;
	pending->fd = -1;
	pending_give(&connection->spares, pending);
	return r;
}

/* Whoever waits for nothing any more has no role any more. */
static void leave_roles(struct connection *connection)
{
	if (!connection->is_driving || (!connection->is_sending && has_to_send(connection)))
		wake_another(connection);
}

static int call_locked(struct connection *connection, const Mempool__Wire__Request *request, uint64_t pool,
		       const struct deadline *deadline, struct pending *stack, struct call *call)
{
	struct pending *pending;
	int r;

	pending = start(connection, request, pool, stack, &r);
	if (!pending)
		return r;
	send_all(connection, deadline);
	r = finish_call(connection, pending, deadline, call);
	leave_roles(connection);
	return r;
}

int connection_call(struct connection *connection, Mempool__Wire__Request *request, uint64_t pool, bool waits,
		    struct call *call)
{
	struct pending stack, *may_use_stack = pending_is_free(request) ? &stack : NULL;
	struct deadline deadline;
	int r;

	*call = (struct call){.fd = -1};
	pthread_mutex_lock(&connection->mutex);
	deadline = deadline_of(waits ? connection->timeout_ms : 0);
	r = call_locked(connection, request, pool, &deadline, may_use_stack, call);
	pthread_mutex_unlock(&connection->mutex);
	return r;
}

/*
 * Between two of its waits this thread is a caller whom nobody can wake: whatever role is offered to it then it takes with the next
 * wait, and after the last one somebody else is woken.
 */
void connection_call_each(struct connection *connection, unsigned n, Mempool__Wire__Request requests[], uint64_t pool,
			  struct call calls[], int results[])
{
	struct pending *pendings[CONNECTION_EACH_MAX];
	struct deadline deadline;

	assert(n <= CONNECTION_EACH_MAX);
	pthread_mutex_lock(&connection->mutex);
	deadline = deadline_of(connection->timeout_ms);
	for (unsigned i = 0; i < n; i++) {
		calls[i] = (struct call){.fd = -1};
		pendings[i] = start(connection, &requests[i], pool, NULL, &results[i]);
	}
	send_all(connection, &deadline);
	for (unsigned i = 0; i < n; i++) {
		if (pendings[i])
			results[i] = finish_call(connection, pendings[i], &deadline, &calls[i]);
	}
	leave_roles(connection);
	pthread_mutex_unlock(&connection->mutex);
}

void connection_end(struct connection *connection)
{
	Mempool__Wire__Request request = MEMPOOL__WIRE__REQUEST__INIT;
	Mempool__Wire__Goodbye goodbye = MEMPOOL__WIRE__GOODBYE__INIT;
	struct deadline deadline;
	struct pending stack;
	struct call call = {.fd = -1};

	request.op_case = MEMPOOL__WIRE__REQUEST__OP_GOODBYE;
	request.goodbye = &goodbye;
	pthread_mutex_lock(&connection->mutex);
	connection->is_ending = true;
	deadline = deadline_of(connection->timeout_ms);
	if (!call_locked(connection, &request, 0, &deadline, &stack, &call))
		call_deinit(&call);
	connection_lose(connection, -ENOTCONN, "the client is disconnected");
	pthread_mutex_unlock(&connection->mutex);
}
