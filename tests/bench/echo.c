// SPDX-License-Identifier: MIT
#include "echo.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "proto/frame.h"
#include "proto/mempool.pb-c.h"

static uint8_t in[1 << 18], out[1 << 18];
static size_t n_in;
static uv_pipe_t connection;

static void alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	(void)handle;
	(void)suggested;
	*buf = uv_buf_init((char *)in + n_in, (unsigned)(sizeof(in) - n_in));
}

static size_t answer(const uint8_t *message, uint32_t n_bytes, uint8_t *to)
{
	Mempool__Wire__Request *request = mempool__wire__request__unpack(NULL, n_bytes, message);
	Mempool__Wire__Reply reply = MEMPOOL__WIRE__REPLY__INIT;
	Mempool__Wire__Block block = MEMPOOL__WIRE__BLOCK__INIT;
	size_t n;

	if (!request)
		_exit(1);
	reply.has_id = reply.has_status = 1;
	reply.id = request->id;
	if (request->op_case == MEMPOOL__WIRE__REQUEST__OP_ALLOC) {
		block.has_offset = block.has_size = 1;
		block.offset = 4096;
		block.size = request->alloc->size;
		reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_BLOCK;
		reply.block = &block;
	}
	mempool__wire__request__free_unpacked(request, NULL);
	n = mempool__wire__reply__pack(&reply, to + FRAME_HEADER_BYTES);
	frame_put_header(to, (uint32_t)n);
	return FRAME_HEADER_BYTES + n;
}

static void read_cb(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	size_t at = 0, n_out = 0;
	uint32_t n_bytes;
	uv_buf_t reply;

	(void)buf;
	if (n < 0)
		_exit(0);
	n_in += (size_t)n;
	while (!frame_peek(in + at, n_in - at, FRAME_REQUEST_BYTES, &n_bytes)) {
		n_out += answer(in + at + FRAME_HEADER_BYTES, n_bytes, out + n_out);
		at += FRAME_HEADER_BYTES + n_bytes;
	}
	memmove(in, in + at, n_in - at);
	n_in -= at;
	reply = uv_buf_init((char *)out, (unsigned)n_out);
	if (n_out && uv_try_write(stream, &reply, 1) != (int)n_out)
		_exit(1); /* a benchmark's client reads */
}

static void connection_cb(uv_stream_t *listener, int status)
{
	if (status || uv_pipe_init(listener->loop, &connection, 0) || uv_accept(listener, (uv_stream_t *)&connection) ||
	    uv_read_start((uv_stream_t *)&connection, alloc_cb, read_cb))
		_exit(1);
}

_Noreturn void echo_serve(const char *path)
{
	uv_loop_t loop;
	uv_pipe_t listener;

	if (uv_loop_init(&loop) || uv_pipe_init(&loop, &listener, 0) || uv_pipe_bind(&listener, path) ||
	    uv_listen((uv_stream_t *)&listener, 1, connection_cb))
		_exit(1);
	uv_run(&loop, UV_RUN_DEFAULT);
	_exit(0);
}
