// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "server/output.h"

struct output_chunk {
	struct output_chunk *next;
	int fd; /* -1: none, or sent already */
	size_t n_sent, n_bytes;
	uint8_t data[];
};

/* Return: bytes sent, 0 if the socket takes none now, or -errno. */
static ssize_t send_some(int socket, const uint8_t *data, size_t n_bytes, int fd)
{
	struct iovec vector = {.iov_base = (void *)(uintptr_t)data, .iov_len = n_bytes};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
	ssize_t n;

	if (fd >= 0) {
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control.space);
	}
	do
		n = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	return n;
}

static int keep(struct output *output, const uint8_t *data, size_t n_bytes, int fd)
{
	struct output_chunk *chunk = malloc(sizeof(*chunk) + n_bytes);

	if (!chunk)
		return -ENOMEM;
	*chunk = (struct output_chunk){.fd = fd, .n_bytes = n_bytes};
	memcpy(chunk->data, data, n_bytes);
	if (output->tail)
		output->tail->next = chunk;
	else
		output->head = chunk;
	output->tail = chunk;
	output->n_bytes += n_bytes;
	return 0;
}

int output_send(struct output *output, int socket, const uint8_t *data, size_t n_bytes, int fd)
{
	ssize_t n = output->head ? 0 : send_some(socket, data, n_bytes, fd);
	int r = 0;

	if (n >= 0 && (size_t)n < n_bytes)
		r = keep(output, data + n, n_bytes - (size_t)n, n ? -1 : fd);
	if (fd >= 0 && (n || r)) /* sent, or of no more use; else the chunk has it */
		close(fd);
	return n < 0 ? (int)n : r;
}

static void drop_head(struct output *output)
{
	struct output_chunk *chunk = output->head;

	output->head = chunk->next;
	if (!output->head)
		output->tail = NULL;
	output->n_bytes -= chunk->n_bytes - chunk->n_sent;
	if (chunk->fd >= 0)
		close(chunk->fd);
	free(chunk);
}

int output_flush(struct output *output, int socket)
{
	struct output_chunk *chunk;
	ssize_t n;

	while ((chunk = output->head)) {
		n = send_some(socket, chunk->data + chunk->n_sent, chunk->n_bytes - chunk->n_sent, chunk->fd);
		if (n <= 0)
			return (int)n;
		if (chunk->fd >= 0)
			close(chunk->fd);
		chunk->fd = -1;
		chunk->n_sent += (size_t)n;
		output->n_bytes -= (size_t)n;
		if (chunk->n_sent == chunk->n_bytes)
			drop_head(output);
	}
	return 0;
}

void output_clear(struct output *output)
{
	while (output->head)
		drop_head(output);
}
