// SPDX-License-Identifier: MIT
/* Whatever arrives, in whatever pieces, frames come out the same, and nothing behind the bytes is looked at. */
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "tests/fuzz/fuzz.h"

#define REQUIRE(condition) ((condition) ? (void)0 : abort())

/* A copy of exactly the bytes that are there, so that the sanitizer sees a look behind them. */
static int peek(const uint8_t *data, size_t n, uint32_t limit, uint32_t *n_framep)
{
	uint8_t *copy = malloc(n ? n : 1);
	int r;

	REQUIRE(copy);
	memcpy(copy, data, n);
	r = frame_peek(n ? copy : copy + 1, n, limit, n_framep);
	free(copy);
	return r;
}

static void check_prefixes(const uint8_t *data, size_t n, uint32_t limit)
{
	uint32_t n_frame, n_whole;
	int whole = peek(data, n, limit, &n_whole);

	for (size_t i = 0; i < n && i < 64; i++) {
		int r = peek(data, i, limit, &n_frame);

		if (i < FRAME_HEADER_BYTES)
			REQUIRE(r == FRAME_E_PARTIAL && n_frame == 0);
		else if (whole == FRAME_E_EMPTY || whole == FRAME_E_TOO_LONG)
			REQUIRE(r == whole && n_frame == 0);
		else
			REQUIRE(n_frame == n_whole &&
				r == (i < FRAME_HEADER_BYTES + (uint64_t)n_frame ? FRAME_E_PARTIAL : 0));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	uint32_t limit, n_frame;
	uint8_t header[FRAME_HEADER_BYTES];

	if (n < sizeof(limit))
		return 0;
	memcpy(&limit, data, sizeof(limit));
	data += sizeof(limit);
	n -= sizeof(limit);
	check_prefixes(data, n, limit);
	while (!peek(data, n, limit, &n_frame)) {
		REQUIRE(n_frame && n_frame <= limit && n_frame <= n - FRAME_HEADER_BYTES);
		frame_put_header(header, n_frame);
		REQUIRE(!memcmp(header, data, sizeof(header)));
		data += FRAME_HEADER_BYTES + n_frame;
		n -= FRAME_HEADER_BYTES + n_frame;
	}
	return 0;
}
