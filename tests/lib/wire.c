// SPDX-License-Identifier: MIT
#include "tests/lib/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/frame.h"

int wire_open(struct wire *wire, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = WIRE_PATIENCE_S};
	int r;

	*wire = (struct wire)WIRE_NULL;
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	wire->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (wire->socket < 0)
		return -errno;
	if (setsockopt(wire->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    setsockopt(wire->socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
	    connect(wire->socket, (const struct sockaddr *)&address, sizeof(address))) {
		r = -errno;
		wire_close(wire);
		return r;
	}
	return 0;
}

void wire_close(struct wire *wire)
{
	if (wire->socket >= 0)
		close(wire->socket);
	if (wire->fd >= 0)
		close(wire->fd);
	free(wire->buffer);
	*wire = (struct wire)WIRE_NULL;
}

static int error_of(int error)
{
	if (error == EPIPE || error == ECONNRESET)
		return WIRE_E_CLOSED;
	return error == EAGAIN ? -ETIMEDOUT : -error;
}

int wire_send_bytes(struct wire *wire, const void *data, size_t n_bytes)
{
	const uint8_t *at = data;

	while (n_bytes) {
		ssize_t n = send(wire->socket, at, n_bytes, MSG_NOSIGNAL);

		if (n < 0)
			return error_of(errno);
		at += n;
		n_bytes -= (size_t)n;
	}
	return 0;
}

uint8_t *wire_pack(struct wire *wire, Mempool__Wire__Request *request, size_t *n_bytesp)
{
	uint8_t *frame;
	size_t n;

	if (!request->has_id) {
		request->has_id = 1;
		request->id = wire->last_id + 1;
	}
	wire->last_id = request->id;
	n = mempool__wire__request__get_packed_size(request);
	frame = malloc(FRAME_HEADER_BYTES + n);
	if (!frame)
		return NULL;
	frame_put_header(frame, (uint32_t)n);
	mempool__wire__request__pack(request, frame + FRAME_HEADER_BYTES);
	*n_bytesp = FRAME_HEADER_BYTES + n;
	return frame;
}

int wire_send(struct wire *wire, Mempool__Wire__Request *request)
{
	size_t n;
	uint8_t *frame = wire_pack(wire, request, &n);
	int r;

	if (!frame)
		return -ENOMEM;
	r = wire_send_bytes(wire, frame, n);
	free(frame);
	return r;
}

static void take_fd(struct wire *wire, struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		if (wire->fd >= 0)
			close(wire->fd);
		memcpy(&wire->fd, CMSG_DATA(c), sizeof(int));
	}
}

/* Until the buffer has @n_bytes. */
static int fill(struct wire *wire, size_t n_bytes)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;

	if (wire->n_room < n_bytes) {
		uint8_t *more = realloc(wire->buffer, n_bytes);

		if (!more)
			return -ENOMEM;
		wire->buffer = more;
		wire->n_room = n_bytes;
	}
	while (wire->n_have < n_bytes) {
		struct iovec piece = {wire->buffer + wire->n_have, n_bytes - wire->n_have};
		struct msghdr message = {
			.msg_iov = &piece,
			.msg_iovlen = 1,
			.msg_control = control.bytes,
			.msg_controllen = sizeof(control.bytes),
		};
		ssize_t n = recvmsg(wire->socket, &message, MSG_CMSG_CLOEXEC);

		if (n <= 0)
			return n ? error_of(errno) : WIRE_E_CLOSED;
		take_fd(wire, &message);
		wire->n_have += (size_t)n;
	}
	return 0;
}

int wire_receive(struct wire *wire, Mempool__Wire__Reply **replyp)
{
	Mempool__Wire__Reply *reply;
	uint32_t n_bytes;
	int r = fill(wire, FRAME_HEADER_BYTES); /* and not a byte of the next frame is ever read */

	if (r)
		return r;
	if (frame_peek(wire->buffer, wire->n_have, FRAME_REPLY_BYTES_MAX, &n_bytes) != FRAME_E_PARTIAL)
		return -EBADMSG;
	r = fill(wire, FRAME_HEADER_BYTES + n_bytes);
	if (r)
		return r;
	reply = mempool__wire__reply__unpack(NULL, n_bytes, wire->buffer + FRAME_HEADER_BYTES);
	wire->n_have = 0;
	if (!reply)
		return -EBADMSG;
	*replyp = reply;
	return 0;
}

int wire_ask(struct wire *wire, Mempool__Wire__Request *request, Mempool__Wire__Reply **replyp)
{
	Mempool__Wire__Reply *reply;
	int r = wire_send(wire, request);

	if (!r)
		r = wire_receive(wire, &reply);
	if (r)
		return r;
	r = reply->id == request->id || !reply->id ? reply->status : -EBADMSG;
	if (replyp)
		*replyp = reply;
	else
		mempool__wire__reply__free_unpacked(reply, NULL);
	return r;
}

int wire_last_word(struct wire *wire)
{
	Mempool__Wire__Reply *reply;
	int status = 0, r;

	while (!(r = wire_receive(wire, &reply))) {
		if (!reply->id)
			status = reply->status;
		mempool__wire__reply__free_unpacked(reply, NULL);
	}
	return r == WIRE_E_CLOSED ? status : r;
}

int wire_hello(struct wire *wire)
{
	Mempool__Wire__Hello hello = MEMPOOL__WIRE__HELLO__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(HELLO, hello, &hello);

	hello.has_version_min = hello.has_version_max = 1;
	hello.version_min = hello.version_max = 1;
	return wire_ask(wire, &request, NULL);
}

int wire_resume(struct wire *wire, uint64_t session, const uint8_t token[static 16], Mempool__Wire__Reply **replyp)
{
	Mempool__Wire__Hello hello = MEMPOOL__WIRE__HELLO__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(HELLO, hello, &hello);

	hello.has_version_min = hello.has_version_max = hello.has_resume_session = hello.has_resume_token = 1;
	hello.version_min = hello.version_max = 1;
	hello.resume_session = session;
	hello.resume_token = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)(uintptr_t)token};
	return wire_ask(wire, &request, replyp);
}
