// SPDX-License-Identifier: MIT
/* mempoolctl viz - map, gaps with sizes, legend, figures; the library draws */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "ctl/command.h"

#define WIDTH_MIN 20
#define WIDTH_MAX 10000

enum {
	OPTION_WIDTH = 0x200,
	OPTION_FORMAT,
	OPTION_BLOCKS
};

static const struct argp_option options[] = {
	{"width", OPTION_WIDTH, "N", 0, "Columns of the map (the terminal's)", 0},
	{"format", OPTION_FORMAT, "FORMAT", 0, "ascii, unicode or json (unicode on a terminal that can, else ascii)",
	 0},
	{"blocks", OPTION_BLOCKS, NULL, 0, "json: list each live slot of a slab too", 0},
	{"output", 'o', "FILE", 0, "Write to FILE", 0},
	{0},
};

struct viz {
	uint64_t width; /* 0: not given */
	bool has_format;
	enum mempool_format format;
	bool with_blocks;
	const char *path; /* NULL: stdout */
};

static error_t viz_parse(int key, char *arg, struct argp_state *state)
{
	struct viz *viz = state->input;

	switch (key) {
	case OPTION_WIDTH:
		viz->width = command_number("--width", arg, WIDTH_MIN, WIDTH_MAX);
		return 0;
	case OPTION_FORMAT:
		viz->format = (enum mempool_format)command_choice("--format", arg, "ascii|unicode|json");
		viz->has_format = true;
		return 0;
	case OPTION_BLOCKS:
		viz->with_blocks = true;
		return 0;
	case 'o':
		viz->path = arg;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static struct mempool_visualize_options settle(const struct ctl *ctl, const struct viz *viz)
{
	int fd = viz->path ? -1 : STDOUT_FILENO; /* -1: no terminal */
	struct mempool_visualize_options visualize = {.struct_size = sizeof(visualize)};

	if (viz->has_format)
		visualize.format = viz->format;
	else if (ctl->json)
		visualize.format = MEMPOOL_FORMAT_JSON;
	else
		visualize.format =
			terminal_is(fd) && terminal_is_utf8() ? MEMPOOL_FORMAT_UNICODE : MEMPOOL_FORMAT_ASCII;
	visualize.width = viz->width ? (uint32_t)viz->width : terminal_width(fd);
	visualize.blocks = viz->with_blocks;
	visualize.color = terminal_has_color(ctl->color, fd);
	return visualize;
}

static enum exit_code draw(struct mempool_pool *pool, const struct ctl *ctl, const struct viz *viz)
{
	struct mempool_visualize_options visualize = settle(ctl, viz);
	FILE *out = viz->path ? fopen(viz->path, "we") : stdout;
	enum exit_code code = EXIT_DONE;
	int r;

	if (!out)
		return error_report(EXIT_OTHER, errno, "viz: cannot write to '%s': %s", viz->path, strerror(errno));
	r = mempool_pool_visualize(pool, out, &visualize);
	if (r)
		code = error_of_library(r, NULL, "viz of '%s'", ctl->args[0]);
	if (viz->path && fclose(out) && !code)
		code = error_report(EXIT_OTHER, errno, "viz: cannot write to '%s': %s", viz->path, strerror(errno));
	return code;
}

static enum exit_code viz_run(struct ctl *ctl, int argc, char *argv[])
{
	struct viz viz = {0};
	struct mempool_pool *pool;
	enum exit_code code;

	command_parse(ctl, &viz_command, argc, argv, &viz);
	if (ctl->json && viz.has_format && viz.format != MEMPOOL_FORMAT_JSON)
		error_usage("viz: --json and another --format contradict each other");
	if (viz.with_blocks && !ctl->json && !(viz.has_format && viz.format == MEMPOOL_FORMAT_JSON))
		error_usage("viz: --blocks goes with --format json");
	code = ctl_open(ctl, "viz", ctl->args[0], &pool); /* before the file: a wrong name empties none */
	if (code)
		return code;
	code = draw(pool, ctl, &viz);
	mempool_pool_close(pool);
	return code;
}

const struct command viz_command = {
	.name = "viz",
	.arguments = "NAME",
	.summary = "Map, gaps with sizes, legend, figures",
	.n_args_min = 1,
	.n_args_max = 1,
	.options = options,
	.parse = viz_parse,
	.run = viz_run,
};
