#pragma once
// SPDX-License-Identifier: MIT
/*
 * log - lines to stderr: time, level, sentence (with "<N>" instead of the time where stderr is the journal)
 *
 * One write(2) a line, so lines of threads do not mix; a line that the reader does not take (a full non-blocking pipe) is
 * lost. Control characters become '?', so a process name cannot forge a line. A line about a client goes through its
 * log_source, which lets through LOG_BURST lines in LOG_WINDOW_S seconds and counts what it swallowed.
 */
#include <stdint.h>

#include "proto/util.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_N
};

struct log_source { /* of one client; zero = fresh; one thread at a time */
	uint64_t window_ns;
	uint32_t n_in_window;
	uint32_t n_swallowed;
};

#define LOG_BURST    10 /* lines of one client in LOG_WINDOW_S; simply picked */
#define LOG_WINDOW_S 10

void log_open(enum log_level level);
/** log_level_by_name() - Return: 0, -EINVAL */
int log_level_by_name(const char *name, enum log_level *levelp) MUST_CHECK;
void log_line(enum log_level level, const char *format, ...) PRINTF(2, 3);
/** log_source_end() - the client is gone: say how many of its lines were swallowed, if any */
void log_source_end(struct log_source *source);
/** log_client() - the same about a client, rate-limited by @source */
void log_client(struct log_source *source, enum log_level level, const char *format, ...) PRINTF(3, 4);
