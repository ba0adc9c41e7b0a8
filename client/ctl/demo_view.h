#pragma once
// SPDX-License-Identifier: MIT
/*
 * demo_view - the demo on the screen: drawn over itself on a terminal, a few pictures below each other elsewhere
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ctl/demo_crew.h"
#include "mempool/mempool.h"

struct progress {	       /* of one crew, as its results come in */
	double begin_s, end_s; /* monotonic; end_s: of the last result */
	uint64_t n_blocks, n_bytes;
	uint64_t n_rounds;    /* finished, each equal to the direct pass */
	uint64_t round_bytes; /* of the round that is going on, in order */
	struct {
		uint64_t n_blocks, n_bytes;
	} of_consumer[CREW_CONSUMERS];
};

struct demo_view {
	bool terminal, color, unicode;
	uint32_t width;
	unsigned n_lines_drawn; /* of the picture on the screen; terminal only */
	unsigned n_pictures;
	double next_s; /* when the next is due */
	bool cursor_hidden;
};

struct demo_picture { /* what a picture is made from */
	const char *title;
	const struct crew *crew;
	const struct progress *progress;
	struct mempool_pool *pool; /* NULL: no map */
};

void demo_view_init(struct demo_view *view, bool color);

/** demo_view_wait_ms() - until the next picture is due */
int demo_view_wait_ms(const struct demo_view *view, double now_s);

/** demo_view_draw() - a picture, if one is due. Return: 0, or the library's negative errno */
int demo_view_draw(struct demo_view *view, const struct demo_picture *picture, double now_s) MUST_CHECK;

/** demo_view_finish() - leave the last picture on the screen and give the terminal back as it was; may run twice */
void demo_view_finish(struct demo_view *view);
