// SPDX-License-Identifier: MIT
/*
 * Options through argp, errors through error.h: argp's own messages take two lines and know no JSON, so argp is told to
 * keep silent, and option_refused() finds out what was wrong with the option that it stumbled over.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/command.h"
#include "ctl/suggest.h"

#define SECONDS_MAX 1e6 /* eleven days; keeps milliseconds within an int */

enum {
	OPTION_SOCKET = 0x100,
	OPTION_JSON,
	OPTION_COLOR,
	OPTION_TIMEOUT,
	OPTION_VERSION,
	OPTION_HELP
};

static const struct argp_option global_options[] = {
	{"socket", OPTION_SOCKET, "PATH", 0,
	 "The daemon's socket; else $MEMPOOL_SOCKET, $XDG_RUNTIME_DIR/mempoold.sock, "
	 "/run/mempoold/mempoold.sock",
	 0},
	{"json", OPTION_JSON, NULL, 0, "One JSON document instead of text", 0},
	{"color", OPTION_COLOR, "WHEN", 0, "auto (on a terminal), always or never; never where NO_COLOR is set", 0},
	{"timeout", OPTION_TIMEOUT, "SECONDS", 0, "Longest wait for a silent daemon (10)", 0},
	{"help", OPTION_HELP, NULL, 0, "Show this", -1},
	{"version", OPTION_VERSION, NULL, 0, "Show the version", -1},
	{0},
};

struct parse { /* of one command line, or its part before the command */
	struct ctl *ctl;
	const struct command *command; /* NULL: before the command */
	void *options;
	const struct argp *argp; /* for help */
	char name[64];		 /* for help: "mempoolctl stats" */
};

/* ---- values ---- */

uint64_t command_size(const char *option, const char *text)
{
	uint64_t size;
	const char *why = size_parse(text, &size);

	if (why)
		error_usage("%s '%s' %s", option, text, why);
	return size;
}

uint64_t command_number(const char *option, const char *text, uint64_t min, uint64_t max)
{
	uint64_t number;
	const char *why = number_parse(text, &number);

	if (why)
		error_usage("%s '%s' %s", option, text, why);
	if (number < min || number > max)
		error_usage("%s %s is not between %llu and %llu", option, text, (unsigned long long)min,
			    (unsigned long long)max);
	return number;
}

double command_seconds(const char *option, const char *text)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || !(seconds >= 0.001 && seconds <= SECONDS_MAX)) /* NaN fails both */
		error_usage("%s '%s' is not a number of seconds between 0.001 and 1000000", option, text);
	return seconds;
}

unsigned command_choice(const char *option, const char *text, const char *choices)
{
	size_t n_text = strlen(text);
	const char *at = choices;

	for (unsigned index = 0; *at; index++) {
		size_t n = strcspn(at, "|");

		if (n == n_text && !memcmp(at, text, n))
			return index;
		at += n + (at[n] == '|');
	}
	error_usage("%s '%s' is none of %s", option, text, choices);
}

/* ---- options ---- */

/* option_find() - the options whose names begin as [text, text + n) does. Return: how many; the exact one counts alone */
static unsigned option_find(const struct argp_option *options, const char *text, size_t n,
			    const struct argp_option **foundp)
{
	unsigned n_found = 0;

	for (; options && options->key; options++) {
		if (strncmp(options->name, text, n))
			continue;
		*foundp = options;
		if (!options->name[n])
			return 1;
		n_found++;
	}
	return n_found;
}

/* option_refused() - say what is wrong with an option that argp did not take, and end */
static void option_refused(const struct parse *parse, const char *text) __attribute__((noreturn));
static void option_refused(const struct parse *parse, const char *text)
{
	const struct argp_option *own = parse->command ? parse->command->options : NULL, *found = NULL;
	struct suggestion suggestion;
	char word[64];
	size_t n = strcspn(text, "=");
	unsigned n_found;

	if (strncmp(text, "--", 2) || n - 2 >= sizeof(word))
		error_usage("no option '%s'; '%s --help' lists them", text, parse->name);
	snprintf(word, sizeof(word), "%.*s", (int)(n - 2), text + 2);
	n_found =
		option_find(own, word, strlen(word), &found) + option_find(global_options, word, strlen(word), &found);
	if (n_found > 1)
		error_usage("option '--%s' is the beginning of several; '%s --help' lists them", word, parse->name);
	if (n_found && found->arg)
		error_usage("option '--%s' needs a value: --%s %s", found->name, found->name, found->arg);
	if (n_found)
		error_usage("option '--%s' takes no value", found->name);
	suggestion = (struct suggestion){.word = word};
	for (const struct argp_option *option = own; option && option->key; option++)
		suggestion_offer(&suggestion, option->name);
	for (const struct argp_option *option = global_options; option->key; option++)
		suggestion_offer(&suggestion, option->name);
	if (suggestion.best[0])
		error_usage("no option '--%s'; did you mean '--%s'?", word, suggestion.best);
	error_usage("no option '--%s'; '%s --help' lists them", word, parse->name);
}

static error_t parse_global(int key, char *arg, struct argp_state *state)
{
	const struct parse *parse = state->input;
	struct ctl *ctl = parse->ctl;

	switch (key) {
	case OPTION_SOCKET:
		ctl->socket_path = arg;
		return 0;
	case OPTION_JSON:
		ctl->json = true;
		error_set_json(true);
		return 0;
	case OPTION_COLOR:
		ctl->color = (enum color_when)command_choice("--color", arg, "auto|always|never");
		return 0;
	case OPTION_TIMEOUT:
		ctl->timeout_ms = (int)(command_seconds("--timeout", arg) * 1000);
		return 0;
	case OPTION_VERSION:
		printf("mempoolctl %s\n", mempool_version());
		exit(EXIT_DONE);
	case OPTION_HELP:
		setenv("ARGP_HELP_FMT", "no-dup-args-note", 0); /* the only way to be without its note about -o FILE */
		argp_help(parse->argp, stdout, ARGP_HELP_STD_HELP, (char *)parse->name);
		exit(EXIT_DONE);
	}
	return ARGP_ERR_UNKNOWN;
}

static error_t parse_outer(int key, char *arg, struct argp_state *state)
{
	struct parse *parse = state->input;
	struct ctl *ctl = parse->ctl;

	(void)arg;
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = parse;
		if (parse->command && parse->command->options)
			state->child_inputs[1] = parse->options;
		return 0;
	case ARGP_KEY_ARGS: /* all that are no options; before the command: the command and all after it */
		ctl->args = state->argv + state->next;
		ctl->n_args = state->argc - state->next;
		return 0;
	case ARGP_KEY_ERROR: /* next is behind what getopt choked on */
		option_refused(parse, state->argv[state->next - 1]);
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp global_argp = {.options = global_options, .parser = parse_global};

void command_parse_globals(struct ctl *ctl, const char *doc, int argc, char *argv[])
{
	const struct argp_child children[] = {{&global_argp, 0, NULL, 0}, {0}};
	const struct argp argp = {
		.parser = parse_outer, .args_doc = "COMMAND [ARGUMENT...]", .doc = doc, .children = children};
	struct parse parse = {.ctl = ctl, .argp = &argp, .name = "mempoolctl"};

	argp_parse(&argp, argc, argv, ARGP_IN_ORDER | ARGP_SILENT, NULL, &parse);
}

void command_parse(struct ctl *ctl, const struct command *command, int argc, char *argv[], void *options)
{
	const struct argp own = {.options = command->options, .parser = command->parse};
	const struct argp_child children[] = {
		{&global_argp, 0, "Global options:", 1}, {command->options ? &own : NULL, 0, NULL, 0}, {0}};
	char doc[1024];
	const struct argp argp = {
		.parser = parse_outer, .args_doc = command->arguments, .doc = doc, .children = children};
	struct parse parse = {.ctl = ctl, .command = command, .options = options, .argp = &argp};

	snprintf(doc, sizeof(doc), "%s.%s%s", command->summary, command->details ? "\v" : "",
		 command->details ? command->details : "");
	snprintf(parse.name, sizeof(parse.name), "mempoolctl %s", command->name);
	ctl->args = NULL;
	ctl->n_args = 0;
	argp_parse(&argp, argc, argv, ARGP_SILENT, NULL, &parse);
	if (ctl->n_args < command->n_args_min)
		error_usage("%s needs %s: mempoolctl %s %s", command->name,
			    ctl->n_args ? "more arguments" : "arguments", command->name, command->arguments);
	if (ctl->n_args > command->n_args_max)
		error_usage("%s: '%s' is one argument too many: mempoolctl %s %s", command->name,
			    ctl->args[command->n_args_max], command->name, command->arguments);
}
