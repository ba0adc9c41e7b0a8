#pragma once
// SPDX-License-Identifier: MIT
/*
 * frame - 4-byte little-endian length + that many bytes of one protobuf message
 *
 * Knows lengths and limits; not sockets, not what is inside.
 */
#include <stddef.h>
#include <stdint.h>

#include "proto/util.h"

#define FRAME_HEADER_BYTES    4u
#define FRAME_REQUEST_BYTES   (64u << 10) /* default limit of a request's message */
#define FRAME_REPLY_BYTES_MAX (1u << 20)  /* limit of a reply's message */

enum {
	FRAME_E_PARTIAL = 1, /* more bytes are needed */
	FRAME_E_EMPTY = 2,   /* a length of 0: no message is that short, for each carries an id */
	FRAME_E_TOO_LONG = 3,
};

/**
 * frame_peek() - find the first frame of a buffer
 * @data:        bytes received, [n_have]
 * @limit_bytes: longest message allowed; checked before anything is allocated for it
 * @n_bytesp:    out: the message's length; it begins at data + FRAME_HEADER_BYTES.
 *               Set with FRAME_E_PARTIAL as well once the header is there; 0 before.
 *
 * Return: 0 the whole frame is there; FRAME_E_*.
 */
int frame_peek(const uint8_t *data, size_t n_have, uint32_t limit_bytes, uint32_t *n_bytesp) MUST_CHECK;

static inline void frame_put_header(uint8_t out[static FRAME_HEADER_BYTES], uint32_t n_bytes)
{
	out[0] = (uint8_t)n_bytes;
	out[1] = (uint8_t)(n_bytes >> 8);
	out[2] = (uint8_t)(n_bytes >> 16);
	out[3] = (uint8_t)(n_bytes >> 24);
}
