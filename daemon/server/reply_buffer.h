#pragma once
// SPDX-License-Identifier: MIT
/*
 * reply_buffer - where replies are packed, one frame behind the other, until somebody sends them
 *
 * Knows frames and at most one descriptor that travels with one of them; not sockets.
 *
 * Threads: one at a time.
 */
#include <stddef.h>
#include <stdint.h>

#include "proto/util.h"

struct reply_buffer {
	uint8_t *data; /* [n_alloced], owned; whole frames in the first n_bytes */
	size_t n_bytes;
	size_t n_alloced;
	int fd;	      /* owned; -1: none. Whoever sends takes it after each request, so there is never a second one */
	size_t fd_at; /* where the frame begins that it travels with */
};

#define REPLY_BUFFER_NULL \
	{                 \
		.fd = -1  \
	}

void reply_buffer_deinit(struct reply_buffer *buffer);
/** reply_buffer_clear() - forget the frames (sent by now), keep the memory unless it is unusually much; fd must be gone */
void reply_buffer_clear(struct reply_buffer *buffer);
/**
 * reply_buffer_frame() - room for one more frame of @n_bytes of message, its header written
 * @messagep: out: [n_bytes], for the caller to fill
 * Return: 0, -ENOMEM: nothing has changed
 */
int reply_buffer_frame(struct reply_buffer *buffer, uint32_t n_bytes, uint8_t **messagep) MUST_CHECK;
