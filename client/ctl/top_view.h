#pragma once
// SPDX-License-Identifier: MIT
/*
 * top_view - what `top` shows, as a screen of characters: pure, from what was looked at last and what the person chose
 *
 * Knows no terminal and no daemon, so any state of either can be drawn in a test.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctl/stats.h"
#include "mempool/mempool.h"
#include "proto/util.h"

/* ---- what is shown ---- */

struct top_pool {
	struct mempool_pool_info info;
	bool is_open; /* else it is not ours to open, and there is no more than info */
	struct mempool_stats stats;
	struct stats_rates rates;
};

struct top_look { /* at the daemon */
	bool is_connected;
	char trouble[256]; /* why not */
	struct mempool_daemon_info daemon;
	struct top_pool *pools; /* [n_pools] */
	size_t n_pools;
	struct mempool_session_info *sessions; /* [n_sessions]: those with blocks, by bytes */
	size_t n_sessions;
	size_t n_all_sessions; /* also those without */
	char *map;	       /* of the pool that was asked for, with terminal colours; NULL: none */
	uint64_t map_id;       /* of which */
};

enum top_sort {
	TOP_BY_NAME,
	TOP_BY_USED, /* bytes */
	TOP_BY_RATE, /* allocations and frees a second */
	TOP_BY_FRAGMENTATION,
	TOP_SORT_N
};

struct top_state { /* what the person chose */
	enum top_sort sort;
	uint64_t selected; /* pool's id; one that is gone: the first */
	bool shows_map;
	bool unicode;
	char clock[16];
};

/** top_order() - sort the pools, and see that one that exists is selected */
void top_order(struct top_state *state, struct top_look *look);

/** top_select() - the pool @by places after the selected one, as far as there are any */
void top_select(struct top_state *state, const struct top_look *look, int by);

/** top_selected() - Return: the selected pool; NULL: there is none */
const struct top_pool *top_selected(const struct top_state *state, const struct top_look *look);

/* ---- the screen ---- */

enum top_attribute {
	TOP_BOLD = 1,
	TOP_REVERSE = 2,
	TOP_DIM = 4,
};

struct top_cell {
	uint32_t character; /* Unicode; each one column wide */
	uint8_t color;	    /* of the 256; 0: the terminal's own */
	uint8_t attributes;
};

struct top_screen {
	unsigned rows, columns;
	struct top_cell *cells; /* [rows * columns] */
};

/** top_screen_resize() - so large, and blank. Return: 0, -ENOMEM: as it was */
int top_screen_resize(struct top_screen *screen, unsigned rows, unsigned columns) MUST_CHECK;
void top_screen_deinit(struct top_screen *screen);

/** top_draw() - all of the screen; each size is drawn, as much as fits */
void top_draw(struct top_screen *screen, const struct top_state *state, const struct top_look *look);
