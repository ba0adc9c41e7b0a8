// SPDX-License-Identifier: MIT
/*
 * Happy path: a frame is appended to the buffer, whoever finds nobody sending sends all that is there; then the caller waits, as
 * the reader or woken by it. Failures: a broken stream is noted once and fails every call; a call that gave up leaves a
 * ghost in the queue, for its reply may still come, and what it got is given back.
 */
#include "client/connection.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "proto/frame.h"

#define IN_FLIGHT_BEFORE_HELLO 1u
#define IN_BYTES	       (16u << 10) /* first size of the receive buffer; simply picked */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static struct timespec timespec_of(uint64_t ms)
{
	return (struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
}

/* ---- life ---- */

static int cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attributes;
	int r = pthread_condattr_init(&attributes);

	if (r)
		return -r;
	r = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	if (!r)
		r = pthread_cond_init(cond, &attributes);
	pthread_condattr_destroy(&attributes);
	return -r;
}

int connection_init(struct connection *connection, int fd)
{
	int r;

	*connection = (struct connection){.fd = -1, .max_in_flight = IN_FLIGHT_BEFORE_HELLO};
	connection->last_call = &connection->calls;
	connection->in = malloc(IN_BYTES);
	if (!connection->in)
		return -ENOMEM;
	connection->in_capacity = IN_BYTES;
	r = pthread_mutex_init(&connection->mutex, NULL);
	if (r)
		goto err_after_in;
	r = -cond_init(&connection->slot_free);
	if (r)
		goto err_after_mutex;
	connection->fd = fd;
	return 0;

err_after_mutex:
	pthread_mutex_destroy(&connection->mutex);
err_after_in:
	free(connection->in);
	return -r;
}

void connection_deinit(struct connection *connection)
{
	while (connection->calls) { /* ghosts only: callers have left */
		struct call *call = connection->calls;

		connection->calls = call->next;
		free(call);
	}
	for (unsigned i = 0; i < connection->n_fds; i++)
		close(connection->fds[i]);
	if (connection->fd >= 0)
		close(connection->fd);
	free(connection->in);
	free(connection->out);
	pthread_cond_destroy(&connection->slot_free);
	pthread_mutex_destroy(&connection->mutex);
}

void connection_set_timeout(struct connection *connection, int timeout_ms)
{
	struct timeval wait = {0};

	pthread_mutex_lock(&connection->mutex);
	connection->timeout_ms = timeout_ms;
	if (timeout_ms > 0)
		wait = (struct timeval){.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
	/* So that one recvmsg() waits and no poll() is needed before it. A failure would only make waits longer. */
	(void)setsockopt(connection->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	pthread_mutex_unlock(&connection->mutex);
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

/* ---- out: with the mutex ---- */

static int append_frame(struct connection *connection, const Mempool__Wire__Request *request)
{
	size_t n_bytes = mempool__wire__request__get_packed_size(request);
	size_t needed = connection->n_out + FRAME_HEADER_BYTES + n_bytes;

	if (n_bytes > FRAME_REQUEST_BYTES)
		return -EMSGSIZE;
	if (needed > connection->out_capacity) {
		size_t capacity = needed < 4096 ? 4096 : 2 * needed;
		uint8_t *out = realloc(connection->out, capacity);

		if (!out)
			return -ENOMEM;
		connection->out = out;
		connection->out_capacity = capacity;
	}
	frame_put_header(connection->out + connection->n_out, (uint32_t)n_bytes);
	mempool__wire__request__pack(request, connection->out + connection->n_out + FRAME_HEADER_BYTES);
	connection->n_out = needed;
	return 0;
}

static void enqueue(struct connection *connection, struct call *call)
{
	call->next = NULL;
	*connection->last_call = call;
	connection->last_call = &call->next;
	connection->n_in_flight++;
}

static void dequeue(struct connection *connection, struct call *call)
{
	struct call **at = &connection->calls;

	while (*at != call)
		at = &(*at)->next;
	*at = call->next;
	if (!*at)
		connection->last_call = at;
	connection->n_in_flight--;
	pthread_cond_signal(&connection->slot_free);
}

static void fail_all(struct connection *connection, int error)
{
	if (!connection->broken)
		connection->broken = error;
	shutdown(connection->fd, SHUT_RDWR); /* wakes a reader that is in recvmsg() */
	for (struct call *call = connection->calls; call; call = call->next) {
		if (call->is_ghost || call->is_done)
			continue;
		call->is_done = true;
		call->error = connection->broken;
		pthread_cond_signal(&call->wake);
	}
	pthread_cond_broadcast(&connection->slot_free);
}

/* ---- in ---- */

/* A late success of a call that was given up: what it got goes back, so that its caller's "failed" stays true. */
static void undo(struct connection *connection, const struct call *ghost, const Mempool__Wire__Reply *reply)
{
	Mempool__Wire__Request request = MEMPOOL__WIRE__REQUEST__INIT;
	Mempool__Wire__FreeBatch free_batch = MEMPOOL__WIRE__FREE_BATCH__INIT;
	uint64_t offset = 0;
	struct call *call;

	if (reply->status || !ghost->pool)
		return;
	if (reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_BLOCK && reply->block &&
	    (ghost->kind == MEMPOOL__WIRE__REQUEST__OP_ALLOC ||
	     (ghost->kind == MEMPOOL__WIRE__REQUEST__OP_REALLOC && reply->block->moved))) {
		offset = reply->block->offset;
		free_batch.n_offsets = 1;
		free_batch.offsets = &offset;
	} else if (reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_BLOCKS && reply->blocks &&
		   ghost->kind == MEMPOOL__WIRE__REQUEST__OP_ALLOC_BATCH) {
		free_batch.n_offsets = reply->blocks->n_offsets;
		free_batch.offsets = reply->blocks->offsets;
	} else {
		return;
	}
	call = calloc(1, sizeof(*call));
	if (!call) {
		fail_all(connection, -ENOMEM);
		return;
	}
	free_batch.has_pool = 1;
	free_batch.pool = ghost->pool;
	request.has_id = 1;
	request.id = ++connection->last_id;
	request.op_case = MEMPOOL__WIRE__REQUEST__OP_FREE_BATCH;
	request.free_batch = &free_batch;
	if (append_frame(connection, &request)) {
		free(call);
		fail_all(connection, -ENOMEM);
		return;
	}
	call->id = request.id;
	call->kind = request.op_case;
	call->is_ghost = true;
	call->fd = -1;
	enqueue(connection, call);
}

static int next_fd(struct connection *connection)
{
	int fd;

	if (!connection->n_fds)
		return -1;
	fd = connection->fds[0];
	memmove(connection->fds, connection->fds + 1, --connection->n_fds * sizeof(fd));
	return fd;
}

/* With the mutex. Takes the reply over. */
static void deliver(struct connection *connection, Mempool__Wire__Reply *reply)
{
	struct call *call = connection->calls;
	int fd = -1;

	for (uint32_t i = 0; i < reply->n_fds; i++) { /* the protocol has one at most; more are not leaked */
		int more = next_fd(connection);

		if (fd < 0)
			fd = more;
		else if (more >= 0)
			close(more);
	}
	while (call && (call->id != reply->id || call->is_done))
		call = call->next;
	if (!reply->id || !call) { /* about the connection itself, or nobody's */
		int error = reply->status ? reply->status : -EPROTO;

		mempool__wire__reply__free_unpacked(reply, NULL);
		if (fd >= 0)
			close(fd);
		fail_all(connection, error);
		return;
	}
	dequeue(connection, call);
	if (call->is_ghost) {
		undo(connection, call, reply);
		mempool__wire__reply__free_unpacked(reply, NULL);
		if (fd >= 0)
			close(fd);
		free(call);
		return;
	}
	call->reply = reply;
	call->fd = fd;
	call->is_done = true;
	pthread_cond_signal(&call->wake);
}

static int make_room(struct connection *connection, size_t needed)
{
	uint8_t *in;

	if (needed <= connection->in_capacity)
		return 0;
	in = realloc(connection->in, needed);
	if (!in)
		return -ENOMEM;
	connection->in = in;
	connection->in_capacity = needed;
	return 0;
}

/* As the reader, without the mutex. Return: 0; 1 nothing came in time; negative errno */
static int receive(struct connection *connection, int flags)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * 8)];
	} control;
	struct iovec space = {connection->in + connection->n_in, connection->in_capacity - connection->n_in};
	struct msghdr message = {
		.msg_iov = &space, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n;

	do {
		n = recvmsg(connection->fd, &message, MSG_CMSG_CLOEXEC | flags);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 1 : -EHOSTDOWN;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		size_t n_fds = c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS
				       ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int)
				       : 0;

		for (size_t i = 0; i < n_fds; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (connection->n_fds < N_ELEMENTS(connection->fds))
				connection->fds[connection->n_fds++] = fd;
			else
				close(fd);
		}
	}
	if (!n)
		return -EHOSTDOWN;
	connection->n_in += (size_t)n;
	return message.msg_flags & MSG_CTRUNC ? -EPROTO : 0;
}

/* As the reader, with the mutex: every whole frame that is there. */
static int deliver_frames(struct connection *connection)
{
	size_t at = 0;
	uint32_t n_bytes;
	int r;

	while (!(r = frame_peek(connection->in + at, connection->n_in - at, FRAME_REPLY_BYTES_MAX, &n_bytes))) {
		Mempool__Wire__Reply *reply =
			mempool__wire__reply__unpack(NULL, n_bytes, connection->in + at + FRAME_HEADER_BYTES);

		if (!reply)
			return -EPROTO;
		deliver(connection, reply);
		at += FRAME_HEADER_BYTES + n_bytes;
	}
	if (r != FRAME_E_PARTIAL)
		return -EPROTO;
	memmove(connection->in, connection->in + at, connection->n_in - at);
	connection->n_in -= at;
	return make_room(connection, (size_t)FRAME_HEADER_BYTES + n_bytes);
}

/* somebody else who waits takes the reader's role over */
static void wake_next_reader(struct connection *connection)
{
	for (struct call *call = connection->calls; call; call = call->next) {
		if (!call->is_ghost && !call->is_done) {
			pthread_cond_signal(&call->wake);
			return;
		}
	}
}

/* With the mutex, which is let go meanwhile. Return: 0; 1 nothing came in time */
static int read_once(struct connection *connection, int flags)
{
	int r;

	connection->is_reading = true;
	pthread_mutex_unlock(&connection->mutex);
	r = receive(connection, flags);
	pthread_mutex_lock(&connection->mutex);
	if (!r)
		r = deliver_frames(connection);
	connection->is_reading = false;
	if (r < 0)
		fail_all(connection, r);
	return r > 0;
}

/* ---- send ---- */

/* Sends what is there; the daemon may have stopped reading until somebody reads its replies, so that is done here too. */
static void send_all(struct connection *connection)
{
	if (connection->is_sending)
		return; /* they will see it */
	connection->is_sending = true;
	while (connection->n_out && !connection->broken) {
		uint8_t *out = connection->out;
		size_t n_out = connection->n_out, capacity = connection->out_capacity, done = 0;

		connection->out = NULL;
		connection->n_out = connection->out_capacity = 0;
		while (done < n_out && !connection->broken) {
			struct pollfd poll_fd = {.fd = connection->fd, .events = POLLOUT};
			bool may_read;
			ssize_t n;

			pthread_mutex_unlock(&connection->mutex);
			n = send(connection->fd, out + done, n_out - done, MSG_NOSIGNAL | MSG_DONTWAIT);
			if (n < 0)
				n = errno == EAGAIN || errno == EINTR ? 0 : -1;
			pthread_mutex_lock(&connection->mutex);
			if (n < 0) {
				fail_all(connection, -EHOSTDOWN);
				break;
			}
			done += (size_t)n;
			if (n || connection->broken)
				continue;
			may_read = !connection->is_reading;
			connection->is_reading |= may_read;
			pthread_mutex_unlock(&connection->mutex);
			if (may_read)
				poll_fd.events |= POLLIN;
			poll(&poll_fd, 1, 100);
			pthread_mutex_lock(&connection->mutex);
			if (may_read)
				connection->is_reading = false;
			if (may_read && poll_fd.revents & POLLIN)
				(void)read_once(connection, MSG_DONTWAIT);
		}
		if (!connection->out) { /* keep the buffer for the next */
			connection->out = out;
			connection->out_capacity = capacity;
		} else {
			free(out);
		}
	}
	connection->is_sending = false;
}

/* ---- a call ---- */

struct deadline {
	bool is_never;
	bool is_now;
	uint64_t at_ms;
};

static struct deadline deadline_of(int timeout_ms)
{
	return (struct deadline){
		.is_never = timeout_ms<0, .is_now = timeout_ms == 0, .at_ms = timeout_ms> 0
				    ? now_ms() + (uint64_t)timeout_ms
				    : 0,
	};
}

static bool is_over(const struct deadline *deadline)
{
	return !deadline->is_never && now_ms() >= deadline->at_ms;
}

/* Return: false when the time is over */
static bool wait_on(struct connection *connection, pthread_cond_t *cond, const struct deadline *deadline)
{
	struct timespec at = timespec_of(deadline->at_ms);

	if (deadline->is_never)
		pthread_cond_wait(cond, &connection->mutex);
	else if (pthread_cond_timedwait(cond, &connection->mutex, &at) == ETIMEDOUT)
		return false;
	return true;
}

static int wait_for_slot(struct connection *connection, const struct deadline *deadline)
{
	while (!connection->broken && connection->n_in_flight >= connection->max_in_flight) {
		if (!connection->is_reading) { /* those in flight may all be ghosts */
			if (read_once(connection, deadline->is_now ? MSG_DONTWAIT : 0) && is_over(deadline))
				return -ETIMEDOUT;
			send_all(connection); /* undone ghosts */
			wake_next_reader(connection);
		} else if (!wait_on(connection, &connection->slot_free, deadline)) {
			return -ETIMEDOUT;
		}
	}
	return connection->broken;
}

/* The caller gives up; the reply may still come. */
static int leave_ghost(struct connection *connection, struct call *call)
{
	struct call *ghost = malloc(sizeof(*ghost));
	struct call **at = &connection->calls;

	if (!ghost) { /* nothing is known of what will come: the stream cannot go on */
		dequeue(connection, call);
		fail_all(connection, -ENOMEM);
		return -ENOMEM;
	}
	*ghost = *call;
	ghost->is_ghost = true;
	while (*at != call)
		at = &(*at)->next;
	*at = ghost;
	if (connection->last_call == &call->next)
		connection->last_call = &ghost->next;
	return -ETIMEDOUT;
}

static int wait_for_reply(struct connection *connection, struct call *call, const struct deadline *deadline)
{
	while (!call->is_done) {
		if (!connection->is_reading) {
			if (read_once(connection, deadline->is_now ? MSG_DONTWAIT : 0) && !call->is_done &&
			    is_over(deadline))
				return leave_ghost(connection, call);
			if (connection->n_out)
				send_all(connection);
		} else if (!wait_on(connection, &call->wake, deadline) && !call->is_done) {
			return leave_ghost(connection, call);
		}
	}
	return 0;
}

static int call_locked(struct connection *connection, Mempool__Wire__Request *request, struct call *call)
{
	struct deadline deadline = deadline_of(connection->timeout_ms);
	int r;

	r = wait_for_slot(connection, &deadline);
	if (r)
		return r;
	request->has_id = 1;
	request->id = call->id = ++connection->last_id;
	r = append_frame(connection, request);
	if (r) {
		connection->last_id--;
		return r;
	}
	enqueue(connection, call);
	send_all(connection);
	r = wait_for_reply(connection, call, &deadline);
	if (!connection->is_reading)
		wake_next_reader(connection);
	if (!r && call->error) {
		dequeue(connection, call);
		r = call->error;
	}
	return r;
}

int connection_call(struct connection *connection, Mempool__Wire__Request *request, uint64_t pool, struct call *call)
{
	int r;

	*call = (struct call){.kind = request->op_case, .pool = pool, .fd = -1};
	r = cond_init(&call->wake);
	if (r)
		return r;
	pthread_mutex_lock(&connection->mutex);
	r = call_locked(connection, request, call);
	pthread_mutex_unlock(&connection->mutex);
	pthread_cond_destroy(&call->wake);
	return r;
}
