// SPDX-License-Identifier: MIT
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/frame.h"
#include "server/reply_buffer.h"

#define KEEP_BYTES (256u << 10) /* simply picked: the replies of one turn, and a page of a list, fit */

void reply_buffer_deinit(struct reply_buffer *buffer)
{
	free(buffer->data);
	if (buffer->fd >= 0)
		close(buffer->fd);
	*buffer = (struct reply_buffer)REPLY_BUFFER_NULL;
}

void reply_buffer_clear(struct reply_buffer *buffer)
{
	assert(buffer->fd < 0);
	buffer->n_bytes = 0;
	if (buffer->n_alloced > KEEP_BYTES) {
		free(buffer->data);
		buffer->data = NULL;
		buffer->n_alloced = 0;
	}
}

static int grow(struct reply_buffer *buffer, size_t n_needed)
{
	size_t n_alloced = buffer->n_alloced ? buffer->n_alloced : 4096;
	uint8_t *data;

	while (n_alloced < n_needed)
		n_alloced *= 2;
	data = realloc(buffer->data, n_alloced);
	if (!data)
		return -ENOMEM;
	buffer->data = data;
	buffer->n_alloced = n_alloced;
	return 0;
}

int reply_buffer_frame(struct reply_buffer *buffer, uint32_t n_bytes, uint8_t **messagep)
{
	size_t n_needed = buffer->n_bytes + FRAME_HEADER_BYTES + n_bytes;
	int r;

	assert(n_bytes <= FRAME_REPLY_BYTES_MAX);
	r = n_needed > buffer->n_alloced ? grow(buffer, n_needed) : 0;
	if (r)
		return r;
	frame_put_header(buffer->data + buffer->n_bytes, n_bytes);
	*messagep = buffer->data + buffer->n_bytes + FRAME_HEADER_BYTES;
	buffer->n_bytes = n_needed;
	return 0;
}
