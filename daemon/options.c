// SPDX-License-Identifier: MIT
#include "options.h"

#include <argp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "instance.h"
#include "value.h"

#include <mempool/mempool.h>

__attribute__((visibility("default"))) /* libc looks for it */
const char *argp_program_version = "mempoold " MEMPOOL_VERSION;

enum option_key {
	KEY_EPHEMERAL = 256, /* no short form: beyond any character */
	KEY_LOG_LEVEL,
	KEY_OFFLINE,
};

static const struct argp_option table[] = {
	{"socket", 's', "PATH", 0,
	 "Listen at PATH (default: $MEMPOOL_SOCKET, else $XDG_RUNTIME_DIR/mempoold.sock, else "
	 "/run/mempoold/mempoold.sock)",
	 0},
	{"config", 'c', "FILE", 0, "Read limits, quotas and pools from FILE; SIGHUP reads it again", 0},
	{"instance", 'i', "NAME", 0, "Name of this daemon's objects in /dev/shm (default: from the socket's path)", 0},
	{"threads", 't', "N", 0, "Event loops (default: one for each processor, at most 4)", 0},
	{"ephemeral", KEY_EPHEMERAL, NULL, 0, "Destroy all pools at exit", 0},
	{"log-level", KEY_LOG_LEVEL, "LEVEL", 0, "error, warning, info (default) or debug", 0},
	{"offline", KEY_OFFLINE, "check|log", 0,
	 "Do not serve: check pool NAME (or all), or print its last operations, from the books that a daemon left", 0},
	{0},
};

static unsigned default_loops(void)
{
	cpu_set_t cpus;
	int n;

	if (sched_getaffinity(0, sizeof(cpus), &cpus)) /* more processors than the set holds, at least */
		return 4;
	n = CPU_COUNT(&cpus);
	return n > 4 ? 4 : (unsigned)n;
}

static void parse_threads(struct argp_state *state, const char *text, unsigned *n_loopsp)
{
	uint64_t n = 0;

	if (value_parse_count(text, &n) || !n || n > OPTIONS_LOOPS_MAX)
		argp_error(state, "--threads is 1 to %d, not '%s'", OPTIONS_LOOPS_MAX, text);
	*n_loopsp = (unsigned)n;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case 's':
		options->socket_path = text;
		return 0;
	case 'c':
		options->config_path = text;
		return 0;
	case 'i':
		if (!instance_name_is_valid(text))
			argp_error(state,
				   "'%s' cannot name an instance: 1 to %d of A-Z a-z 0-9 . _ + %% ~ -, not ending in "
				   "a dot and 32 hexadecimal digits",
				   text, INSTANCE_NAME_MAX);
		options->instance = text;
		return 0;
	case 't':
		parse_threads(state, text, &options->n_loops);
		return 0;
	case KEY_EPHEMERAL:
		options->ephemeral = true;
		return 0;
	case KEY_LOG_LEVEL:
		if (log_level_by_name(text, &options->log_level))
			argp_error(state, "--log-level is error, warning, info or debug, not '%s'", text);
		return 0;
	case KEY_OFFLINE:
		if (strcmp(text, "check") && strcmp(text, "log"))
			argp_error(state, "--offline is check or log, not '%s'", text);
		options->offline = text[0] == 'c' ? OFFLINE_CHECK : OFFLINE_LOG;
		return 0;
	case ARGP_KEY_ARG:
		if (!options->offline)
			argp_error(state, "'%s' is not an option", text);
		else if (options->pool)
			argp_error(state, "'%s' is one pool too many: --offline takes one", text);
		options->pool = text;
		return 0;
	case ARGP_KEY_END:
		if (options->offline == OFFLINE_LOG && !options->pool)
			argp_error(state, "--offline log: name the pool");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

void options_parse(struct options *options, int argc, char *argv[])
{
	static const struct argp parser = {
		.options = table,
		.parser = parse_option,
		.doc = "Serves named pools of shared memory to the programs of this machine.\v"
		       "Runs in the foreground and logs to stderr. SIGTERM and SIGINT stop it, SIGHUP reads the "
		       "configuration again. Pools and sessions outlive a stop, and come back at the next start. Exit "
		       "code: 0 "
		       "stopped, 1 failed, 2 called or configured wrongly; with --offline 4 no such pool, 7 faults "
		       "found.",
		.args_doc = "\n--offline check [NAME]\n--offline log NAME",
	};

	*options = (struct options){.n_loops = default_loops(), .log_level = LOG_LEVEL_INFO};
	argp_err_exit_status = OPTIONS_EXIT;
	argp_parse(&parser, argc, argv, 0, NULL, options);
}
