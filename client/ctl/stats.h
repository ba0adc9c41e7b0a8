#pragma once
// SPDX-License-Identifier: MIT
/*
 * stats - figures of pools as text; stats.c collects them
 */
#include <stdbool.h>
#include <stdio.h>

#include "mempool/mempool.h"

struct stats_rates { /* a second, between two looks */
	bool known;  /* false at the first look */
	double alloc, free;
};

struct stats_look { /* how it is shown */
	bool bold;
	bool unicode;
};

/** stats_print_pool() - the figures of one pool, some lines */
void stats_print_pool(FILE *out, const char *name, const struct mempool_stats *stats, const struct stats_rates *rates,
		      struct stats_look look);

/** stats_print_line() - the same on one line that begins with the time: for watching without a terminal */
void stats_print_line(FILE *out, const char *name, const struct mempool_stats *stats, const struct stats_rates *rates);

/** stats_print_daemon() - the daemon, its loops and limits, some lines */
void stats_print_daemon(FILE *out, const struct mempool_daemon_info *info, struct stats_look look);

/** stats_bar() - a bar of @width columns, so full as @share 0 … 1 says. */
void stats_bar(FILE *out, double share, unsigned width, bool unicode);
