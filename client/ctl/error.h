#pragma once
// SPDX-License-Identifier: MIT
/*
 * error - how mempoolctl says that something went wrong: one line on stderr, and the exit code
 *
 * The line says what was asked, what went wrong, what to do; with --json it is {"error":{"errno","message"}}.
 */
#include <stdbool.h>

#include "proto/util.h"

enum exit_code { /* CONTRACT */
	EXIT_DONE = 0,
	EXIT_OTHER = 1,
	EXIT_USAGE = 2,
	EXIT_NO_DAEMON = 3,
	EXIT_NO_POOL = 4,
	EXIT_FULL = 5, /* or over quota */
	EXIT_NOT_ALLOWED = 6,
	EXIT_CORRUPT = 7,
	EXIT_TIMED_OUT = 124, /* as timeout(1) */
};

/** error_set_json() - for all errors of this process from here on */
void error_set_json(bool json);

/** error_exit_code() - of a negative errno that the library returned */
enum exit_code error_exit_code(int r);

/** error_report() - print one line; @err: a positive errno. Return: @code */
enum exit_code error_report(enum exit_code code, int err, const char *format, ...) PRINTF(3, 4);

/**
 * error_of_library() - report that the library answered @r just now
 * @hint:  what to do; NULL: what the sentence says, else what fits the exit code
 * @asked: what was asked, as "create of 'frames'"; left out if the sentence says it
 *
 * Return: the exit code.
 */
enum exit_code error_of_library(int r, const char *hint, const char *asked, ...) PRINTF(3, 4);

/** error_usage() - the command line makes no sense: report and end */
void error_usage(const char *format, ...) PRINTF(1, 2) __attribute__((noreturn));

/** error_no_memory() - this process ran out of memory: report and end */
void error_no_memory(void) __attribute__((noreturn));

/** error_warn() - one line on stderr about something that was done all the same; never JSON */
void error_warn(const char *format, ...) PRINTF(1, 2);
