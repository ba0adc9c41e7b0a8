#pragma once
// SPDX-License-Identifier: MIT
/*
 * command - what a subcommand is, and what each gets: the global options, its own, its arguments, a session
 *
 * A subcommand is a file with one `const struct command`. It parses with command_parse(), which ends the process on
 * wrong usage and on --help, then works through the public API and returns an exit code. What it leaves open, main
 * closes or the process' end does.
 */
#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

#include "ctl/emit.h"
#include "ctl/error.h"
#include "ctl/terminal.h"
#include "ctl/units.h"
#include "mempool/mempool.h"

struct ctl {
	const char *socket_path; /* NULL: where the library looks */
	bool json;
	enum color_when color;
	int timeout_ms; /* -1: not given */
	char **args;	/* [n_args]: of the command, without options */
	int n_args;
	struct mempool_client *client; /* NULL until ctl_connect() */
};

struct command {
	const char *name;
	const char *arguments; /* as help shows them: "NAME SIZE" */
	const char *summary;   /* in the list of commands, and atop its own help */
	const char *details;   /* below its options; may be NULL */
	int n_args_min, n_args_max;
	const struct argp_option *options; /* ends in {0}; NULL: none */
	argp_parser_t parse;		   /* for options; state->input is what command_parse() was given */
	enum exit_code (*run)(struct ctl *ctl, int argc, char *argv[]);
};

extern const struct command alloc_command, bench_command, check_command, create_command, demo_command, destroy_command,
	find_command, free_command, list_command, log_command, ping_command, resize_command, sessions_command,
	stats_command, top_command, viz_command;

/** command_parse() - options of @command and global ones into @options and @ctl, arguments into ctl->args; ends on misuse */
void command_parse(struct ctl *ctl, const struct command *command, int argc, char *argv[], void *options);

/**
 * command_parse_globals() - the options before the command; the command and all after it become ctl->args
 * @doc: of the whole tool, for --help
 */
void command_parse_globals(struct ctl *ctl, const char *doc, int argc, char *argv[]);

/* For parsers of options: a value, or the end with a sentence that names @option. */
uint64_t command_size(const char *option, const char *text);
uint64_t command_number(const char *option, const char *text, uint64_t min, uint64_t max);
double command_seconds(const char *option, const char *text);

/** command_choice() - index of @text in @choices "a|b|c", or the end with a sentence */
unsigned command_choice(const char *option, const char *text, const char *choices);

/* ---- session ---- */

/** ctl_connect() - a session for @asked, for people the thing that needs it. Return: EXIT_DONE, or what was reported */
enum exit_code ctl_connect(struct ctl *ctl, const char *asked) MUST_CHECK;

/** ctl_open() - connect, and open pool @name; a name nobody has gets a suggestion. Return: EXIT_DONE, or what was reported */
enum exit_code ctl_open(struct ctl *ctl, const char *asked, const char *name, struct mempool_pool **poolp) MUST_CHECK;

/** ctl_no_pool() - report that no pool is called @name, with the name that was probably meant. Return: EXIT_NO_POOL */
enum exit_code ctl_no_pool(struct ctl *ctl, const char *asked, const char *name);

struct pool_list { /* of mempool_pool_list(), by name; {0} to begin with */
	struct mempool_pool_info *infos;
	size_t n, n_room;
};

/** pool_list_read() - all named pools, sorted by name. Return: 0, or the library's negative errno */
int pool_list_read(struct ctl *ctl, struct pool_list *list) MUST_CHECK;
void pool_list_deinit(struct pool_list *list);
