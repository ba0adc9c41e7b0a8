#pragma once
// SPDX-License-Identifier: MIT
/*
 * options - the command line of mempoold
 *
 * Knows words; not whether a path can be used or a file can be read.
 */
#include "offline.h"
#include "server/log.h"

struct options {
	const char *socket_path; /* NULL: choose one */
	const char *config_path; /* NULL: none */
	const char *instance;	 /* NULL: from the socket path */
	unsigned n_loops;
	bool ephemeral;
	enum log_level log_level;
	enum offline_task offline;
	const char *pool; /* of offline; NULL: all */
};

#define OPTIONS_LOOPS_MAX 64 /* as many as DaemonInfoReply's readers have room for */
#define OPTIONS_EXIT	  2  /* of the process, when it was called wrongly or configured wrongly */

/**
 * options_parse() - read @argv
 *
 * Ends the process: with 0 after --help or --version, with OPTIONS_EXIT and a line on stderr after a mistake.
 */
void options_parse(struct options *options, int argc, char *argv[]);
