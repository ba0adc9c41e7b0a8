// SPDX-License-Identifier: MIT
#include "proto/frame.h"

int frame_peek(const uint8_t *data, size_t n_have, uint32_t limit_bytes, uint32_t *n_bytesp)
{
	uint32_t n_bytes;

	*n_bytesp = 0;
	if (n_have < FRAME_HEADER_BYTES)
		return FRAME_E_PARTIAL;
	n_bytes = (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
	if (!n_bytes)
		return FRAME_E_EMPTY;
	if (n_bytes > limit_bytes)
		return FRAME_E_TOO_LONG;
	*n_bytesp = n_bytes;
	return n_have - FRAME_HEADER_BYTES < n_bytes ? FRAME_E_PARTIAL : 0;
}
