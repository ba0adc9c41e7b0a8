// SPDX-License-Identifier: MIT
/*
 * mempoolctl - shows, checks and manages pools from the terminal
 *
 * Finds the command and hands over. Reading order: this, command.h, then any subcommand's file.
 */
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/command.h"
#include "ctl/suggest.h"

static const struct command *const commands[] = {
	&ping_command,	  &create_command,   &list_command,  &alloc_command, &find_command, &free_command,
	&stats_command,	  &sessions_command, &viz_command,   &check_command, &log_command,  &resize_command,
	&destroy_command, &demo_command,     &bench_command, &top_command,
};

static const struct command *command_by_name(const char *name)
{
	for (size_t i = 0; i < N_ELEMENTS(commands); i++) {
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	}
	return NULL;
}

static void refuse_command(const char *name) __attribute__((noreturn));
static void refuse_command(const char *name)
{
	struct suggestion suggestion = {.word = name};

	for (size_t i = 0; i < N_ELEMENTS(commands); i++)
		suggestion_offer(&suggestion, commands[i]->name);
	if (suggestion.best[0])
		error_usage("no command '%s'; did you mean '%s'?", name, suggestion.best);
	error_usage("no command '%s'; 'mempoolctl --help' lists them", name);
}

/* help_text() - what argp shows around the global options: the commands above, the rules below */
static void help_text(char *out, size_t n_bytes)
{
	size_t n = (size_t)snprintf(out, n_bytes, "Shows, checks and manages pools of shared memory.\n\nCommands:\n");

	for (size_t i = 0; i < N_ELEMENTS(commands) && n < n_bytes; i++)
		n += (size_t)snprintf(out + n, n_bytes - n, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
	if (n < n_bytes)
		snprintf(out + n, n_bytes - n,
			 "\n'mempoolctl COMMAND --help' tells more of each.\v"
			 "Sizes take K, M, G and T (powers of 1024). Global options may also follow the command.\n\n"
			 "Exit: 0 done, 1 other failure, 2 usage, 3 no daemon, 4 no such pool, 5 full or over quota, "
			 "6 not allowed, 7 corrupt, 124 timed out.");
}

/* Errors are JSON wherever on the line --json stands, also those found before it. */
static bool json_is_asked(int argc, char *argv[])
{
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
		if (!strcmp(argv[i], "--json"))
			return true;
	}
	return false;
}

/* What was printed counts only if it arrived: on a full disk the tool has failed. */
static enum exit_code finish_output(enum exit_code code)
{
	if (!fflush(stdout) && !ferror(stdout))
		return code;
	return code ? code : error_report(EXIT_OTHER, errno, "writing the output: %s", strerror(errno));
}

int main(int argc, char *argv[])
{
	struct ctl ctl = {.timeout_ms = -1};
	const struct command *command;
	char doc[4096];
	enum exit_code code;

	setlocale(LC_CTYPE, "");     /* numbers stay as JSON and scripts read them */
	unsetenv("POSIXLY_CORRECT"); /* else options behind arguments were arguments */
	error_set_json(json_is_asked(argc, argv));
	help_text(doc, sizeof(doc));
	command_parse_globals(&ctl, doc, argc, argv);
	if (!ctl.n_args)
		error_usage("no command given; 'mempoolctl --help' lists them");
	if (!strcmp(ctl.args[0], "help")) {
		char *help[] = {ctl.n_args > 1 ? ctl.args[1] : argv[0], (char[]){"--help"}, NULL};

		if (ctl.n_args == 1)
			command_parse_globals(&ctl, doc, 2, help); /* ends */
		command = command_by_name(ctl.args[1]);
		if (!command)
			refuse_command(ctl.args[1]);
		return (int)command->run(&ctl, 2, help); /* ends as well */
	}
	command = command_by_name(ctl.args[0]);
	if (!command)
		refuse_command(ctl.args[0]);
	code = command->run(&ctl, ctl.n_args, ctl.args);
	mempool_disconnect(ctl.client);
	return (int)finish_output(code);
}
