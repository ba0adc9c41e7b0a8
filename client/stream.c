// SPDX-License-Identifier: MIT
#include "client/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/frame.h"

#define IN_BYTES (16u << 10) /* first size of the receive buffer; simply picked */

int stream_init(struct stream *stream)
{
	*stream = (struct stream){.fd = -1, .in = malloc(IN_BYTES), .in_capacity = IN_BYTES};
	return stream->in ? 0 : -ENOMEM;
}

void stream_deinit(struct stream *stream)
{
	stream_close(stream);
	free(stream->in);
	stream->in = NULL;
}

int stream_connect(const char *path, bool waits)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (waits ? 0 : SOCK_NONBLOCK), 0);
	if (fd < 0)
		return -errno;
	do {
		r = connect(fd, (const struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
	} while (r == -EINTR);
	if (!r && !waits && fcntl(fd, F_SETFL, 0))
		r = -errno;
	if (!r)
		return fd;
	close(fd);
	return r;
}

void stream_attach(struct stream *stream, int fd)
{
	stream->fd = fd;
}

void stream_shut(const struct stream *stream)
{
	if (stream->fd >= 0)
		shutdown(stream->fd, SHUT_RDWR);
}

void stream_close(struct stream *stream)
{
	for (unsigned i = 0; i < stream->n_fds; i++)
		close(stream->fds[i]);
	if (stream->fd >= 0)
		close(stream->fd);
	stream->fd = -1;
	stream->n_fds = 0;
	stream->n_in = stream->n_used = 0;
}

void stream_set_timeout(const struct stream *stream, int timeout_ms)
{
	struct timeval wait = {0};

	if (timeout_ms > 0)
		wait = (struct timeval){.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
	/* So that one recvmsg() waits and no poll() is needed before it. A failure would only make waits longer. */
	if (stream->fd >= 0)
		(void)setsockopt(stream->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
}

/* ---- in ---- */

static void keep_fds(struct stream *stream, struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t n_fds = c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS
				       ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int)
				       : 0;

		for (size_t i = 0; i < n_fds; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (stream->n_fds < N_ELEMENTS(stream->fds))
				stream->fds[stream->n_fds++] = fd;
			else
				close(fd);
		}
	}
}

/* Room for at least one byte more, or for the rest of a frame whose length is known. */
static int make_room(struct stream *stream)
{
	size_t needed;
	uint32_t n_bytes;
	uint8_t *in;
	int r;

	memmove(stream->in, stream->in + stream->n_used, stream->n_in - stream->n_used);
	stream->n_in -= stream->n_used;
	stream->n_used = 0;
	r = frame_peek(stream->in, stream->n_in, FRAME_REPLY_BYTES_MAX, &n_bytes);
	if (r && r != FRAME_E_PARTIAL)
		return -EPROTO;
	needed = (size_t)FRAME_HEADER_BYTES + n_bytes;
	if (needed <= stream->in_capacity)
		return 0;
	in = realloc(stream->in, needed);
	if (!in)
		return -ENOMEM;
	stream->in = in;
	stream->in_capacity = needed;
	return 0;
}

static bool is_readable(const struct stream *stream, int wait_ms)
{
	struct pollfd poll_fd = {.fd = stream->fd, .events = POLLIN};

	return poll(&poll_fd, 1, wait_ms) > 0;
}

int stream_receive(struct stream *stream, int wait_ms)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * 8)];
	} control;
	struct iovec space;
	struct msghdr message = {
		.msg_iov = &space, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n;
	int r = make_room(stream);

	if (r)
		return r;
	if (wait_ms > 0 && !is_readable(stream, wait_ms))
		return 1;
	space = (struct iovec){stream->in + stream->n_in, stream->in_capacity - stream->n_in};
	do {
		n = recvmsg(stream->fd, &message, MSG_CMSG_CLOEXEC | (wait_ms >= 0 ? MSG_DONTWAIT : 0));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 1 : -EHOSTDOWN;
	keep_fds(stream, &message);
	if (!n)
		return -EHOSTDOWN;
	stream->n_in += (size_t)n;
	return message.msg_flags & MSG_CTRUNC ? -EPROTO : 0;
}

int stream_next(struct stream *stream, Mempool__Wire__Reply **replyp)
{
	uint8_t *at = stream->in + stream->n_used;
	uint32_t n_bytes;
	int r = frame_peek(at, stream->n_in - stream->n_used, FRAME_REPLY_BYTES_MAX, &n_bytes);

	if (r)
		return r == FRAME_E_PARTIAL ? r : -EPROTO;
	*replyp = mempool__wire__reply__unpack(NULL, n_bytes, at + FRAME_HEADER_BYTES);
	if (!*replyp)
		return -EPROTO;
	stream->n_used += FRAME_HEADER_BYTES + n_bytes;
	return 0;
}

int stream_next_fd(struct stream *stream)
{
	int fd;

	if (!stream->n_fds)
		return -1;
	fd = stream->fds[0];
	memmove(stream->fds, stream->fds + 1, --stream->n_fds * sizeof(fd));
	return fd;
}

/* ---- out ---- */

ssize_t stream_send(const struct stream *stream, const void *data, size_t n_bytes)
{
	ssize_t n = send(stream->fd, data, n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n >= 0)
		return n;
	return errno == EAGAIN || errno == EINTR ? 0 : -EHOSTDOWN;
}
