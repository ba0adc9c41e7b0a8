#pragma once
// SPDX-License-Identifier: MIT
/*
 * offline - mempoold --offline: what the books of an instance say, read without a daemon
 *
 * Knows output and exit codes; how books are read is pool/study.h's.
 */
enum offline_task {
	OFFLINE_NOTHING, /* serve */
	OFFLINE_CHECK,
	OFFLINE_LOG,
};

/**
 * offline_run() - do @task for pool @name of @instance; OFFLINE_CHECK with @name NULL: for all of its pools
 * Prints to stdout; what went wrong, a line on stderr.
 * Return: the exit code of the process: 0 done, 1 failed, 4 no such pool, 6 not allowed, 7 faults were found
 */
int offline_run(enum offline_task task, const char *instance, const char *name);
