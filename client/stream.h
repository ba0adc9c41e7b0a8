#pragma once
// SPDX-License-Identifier: MIT
/*
 * stream - one connected socket: bytes out, frames and descriptors in
 *
 * Knows the socket and where a frame ends; not what is in it, nor that another stream may follow. A struct stream outlives its
 * sockets: stream_attach() and stream_close() as often as need be.
 *
 * Threads: one at a time may receive, and one may send meanwhile; stream_shut() from anywhere. Who attaches or closes has
 * seen to it that nobody does either.
 */
#include <sys/types.h>

#include "proto/mempool.pb-c.h"
#include "proto/util.h"

struct stream {
	int fd;	     /* -1: none */
	uint8_t *in; /* bytes received */
	size_t n_in, n_used, in_capacity;
	int fds[16]; /* received, in order */
	unsigned n_fds;
};

/** stream_init() - Return: 0, -ENOMEM */
int stream_init(struct stream *stream) MUST_CHECK;
void stream_deinit(struct stream *stream);

/** stream_connect() - @waits: for a daemon that is too busy to accept. Return: a socket; -errno: -ENOENT, -ECONNREFUSED, -EAGAIN … */
int stream_connect(const char *path, bool waits) MUST_CHECK;
void stream_attach(struct stream *stream, int fd);
/** stream_shut() - whoever is in a system call on it comes back, and so will all others; the descriptor stays */
void stream_shut(const struct stream *stream);
/** stream_close() - and forget bytes and descriptors that came */
void stream_close(struct stream *stream);

/** stream_set_timeout() - how long STREAM_WAIT waits; less than 1: for ever */
void stream_set_timeout(const struct stream *stream, int timeout_ms);
#define STREAM_WAIT (-1)

/** stream_receive() - @wait_ms: STREAM_WAIT, or a time. Return: 0; 1 nothing came in time; -EHOSTDOWN; -EPROTO; -ENOMEM */
int stream_receive(struct stream *stream, int wait_ms) MUST_CHECK;
/** stream_next() - the next whole frame. Return: 0; FRAME_E_PARTIAL none; -EPROTO what came is no reply, or no memory for it */
int stream_next(struct stream *stream, Mempool__Wire__Reply **replyp) MUST_CHECK;
/** stream_next_fd() - the next descriptor, the caller's; -1: none */
int stream_next_fd(struct stream *stream);

/** stream_send() - never waits. Return: bytes sent, 0 none; -EHOSTDOWN */
ssize_t stream_send(const struct stream *stream, const void *data, size_t n_bytes) MUST_CHECK;
