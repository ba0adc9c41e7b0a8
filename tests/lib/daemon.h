#pragma once
// SPDX-License-Identifier: MIT
/*
 * daemon - a real mempoold for a test: its own folder, socket and instance
 *
 * Knows processes, the log file and /dev/shm; nothing of what the daemon serves, and nothing of cmocka: each function
 * says on stderr what went wrong, and its result says that something did. Not for several threads at once.
 *
 *	struct daemon d;
 *
 *	assert_int_equal(daemon_init(&d), 0);
 *	assert_int_equal(daemon_start(&d, (const char *[]){"--threads", "2", NULL}), 0);
 *	… mempool_connect(&client, d.socket) …
 *	assert_int_equal(daemon_stop(&d), 0);	// exit code 0, nothing left in /dev/shm
 *	daemon_deinit(&d);
 */
#include <stdint.h>
#include <sys/types.h>

#include "proto/util.h"

#define DAEMON_PATIENCE_MS \
	20000 /* longest wait for a start, a stop or a line: generous for a sanitizer on a busy machine */

struct daemon {
	pid_t pid; /* 0: not running */
	int pidfd;
	char dir[64]; /* made by daemon_init(), removed by daemon_deinit() with all that is in it */
	char socket[96];
	char log[96];	   /* its stderr, of all starts */
	char instance[64]; /* unique */
	bool keeps;	   /* set it to start without --ephemeral: pools and sessions outlive a stop */
};

/** daemon_init() - make the folder and the names. Return: 0, -errno */
int daemon_init(struct daemon *d) MUST_CHECK;

/**
 * daemon_start() - start mempoold with --socket, --instance, --ephemeral (see .keeps) and @args, and wait until it is ready
 * @args: NULL-terminated, or NULL for none
 *
 * $MEMPOOLD names another program than the one built here. It dies with the thread that called this.
 * Return: 0; -ECHILD: it ended instead, and its log was printed; -ETIMEDOUT; -errno.
 */
int daemon_start(struct daemon *d, const char *const args[]) MUST_CHECK;

/** daemon_stop() - SIGTERM. Return: 0: ended with 0 and left neither socket nor (unless .keeps) object in /dev/shm; else -1 */
int daemon_stop(struct daemon *d) MUST_CHECK;

/** daemon_wait() - until it ends by itself. Return: its exit code; 128 + signal; -1: it does not end */
int daemon_wait(struct daemon *d) MUST_CHECK;

/** daemon_kill() - SIGKILL, and reap; nothing if it does not run */
void daemon_kill(struct daemon *d);

/** daemon_deinit() - kill what still runs, remove the folder and what the instance left in /dev/shm; may run twice */
void daemon_deinit(struct daemon *d);

/** daemon_wait_log() - until the log holds @text, which may be there already. Return: 0, -ETIMEDOUT, -ECHILD: it ended without */
int daemon_wait_log(struct daemon *d, const char *text) MUST_CHECK;

/** daemon_log_count() - how many times the log holds @text now; -errno */
int daemon_log_count(const struct daemon *d, const char *text) MUST_CHECK;
/** daemon_print_log() - to stderr, all of it */
void daemon_print_log(const struct daemon *d);

/** daemon_write_file() - a file in the folder, for --config. @pathp: out, [96] */
int daemon_write_file(const struct daemon *d, const char *name, const char *text, char pathp[static 96]) MUST_CHECK;

/** daemon_n_fds() - descriptors that it has open; -errno */
int daemon_n_fds(const struct daemon *d) MUST_CHECK;

/** daemon_n_objects() - objects of the instance in /dev/shm; -errno */
int daemon_n_objects(const struct daemon *d) MUST_CHECK;

/** daemon_held_bytes() - pages of all objects of @instance in /dev/shm: data, leases, books; -errno */
int64_t daemon_held_bytes(const char *instance) MUST_CHECK;

/** daemon_private_kib() - memory that is its own (RssAnon); -errno */
long daemon_private_kib(const struct daemon *d) MUST_CHECK;
