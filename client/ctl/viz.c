// SPDX-License-Identifier: MIT
/* mempoolctl viz - map, gaps with sizes, legend, figures; the library draws text, viz_picture.h what is to be looked at elsewhere */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl/command.h"
#include "ctl/viz_picture.h"
#include "ctl/viz_read.h"

#define WIDTH_MIN     20
#define WIDTH_MAX     10000
#define COLUMN_PIXELS 12 /* about what a column of text takes that is as large as a drawing's */

enum {
	OPTION_WIDTH = 0x200,
	OPTION_FORMAT,
	OPTION_BLOCKS
};

enum viz_format { /* the library's, and our own */
	VIZ_ASCII = MEMPOOL_FORMAT_ASCII,
	VIZ_UNICODE = MEMPOOL_FORMAT_UNICODE,
	VIZ_JSON = MEMPOOL_FORMAT_JSON,
	VIZ_SVG,
	VIZ_HTML,
};

static const struct argp_option options[] = {
	{"width", OPTION_WIDTH, "N", 0, "Columns of the map (the terminal's); a drawing has 12 pixels for each (80)",
	 0},
	{"format", OPTION_FORMAT, "FORMAT", 0,
	 "ascii, unicode, json, svg or html (unicode on a terminal that can, else ascii)", 0},
	{"blocks", OPTION_BLOCKS, NULL, 0, "List each live block too, those in slabs included", 0},
	{"output", 'o', "FILE", 0, "Write to FILE", 0},
	{0},
};

struct viz {
	uint64_t width; /* 0: not given */
	bool has_format, blocks;
	enum viz_format format;
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
		viz->format = (enum viz_format)command_choice("--format", arg, "ascii|unicode|json|svg|html");
		viz->has_format = true;
		return 0;
	case OPTION_BLOCKS:
		viz->blocks = true;
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
		visualize.format = (enum mempool_format)viz->format;
	else if (ctl->json)
		visualize.format = MEMPOOL_FORMAT_JSON;
	else
		visualize.format =
			terminal_is(fd) && terminal_is_utf8() ? MEMPOOL_FORMAT_UNICODE : MEMPOOL_FORMAT_ASCII;
	visualize.width = viz->width ? (uint32_t)viz->width : terminal_width(fd);
	visualize.blocks = viz->blocks;
	visualize.color = terminal_has_color(ctl->color, fd);
	return visualize;
}

/* ---- pictures ---- */

struct holders {
	struct viz_holder *holders;
	size_t n, n_room;
};

static int collect(void *arg, const struct mempool_session_info *info)
{
	struct holders *list = arg;
	struct viz_holder *holder;

	if (list->n == list->n_room) {
		size_t n_room = list->n_room ? 2 * list->n_room : 16;
		void *holders = reallocarray(list->holders, n_room, sizeof(*list->holders));

		if (!holders)
			error_no_memory();
		list->holders = holders;
		list->n_room = n_room;
	}
	holder = &list->holders[list->n++];
	*holder = (struct viz_holder){.session = info->session, .pid = info->pid};
	snprintf(holder->command, sizeof(holder->command), "%s", info->command);
	return 0;
}

static void holders_deinit(struct holders *list)
{
	free(list->holders);
}

static int picture(struct ctl *ctl, struct mempool_pool *pool, const struct viz *viz, FILE *out)
{
	CLEANUP(viz_map_deinit) struct viz_map map = {0};
	CLEANUP(holders_deinit) struct holders list = {0};
	struct mempool_stats stats;
	struct viz_picture all = {.name = ctl->args[0],
				  .taken = time(NULL),
				  .map = &map,
				  .stats = &stats,
				  .width = viz->width ? (unsigned)viz->width * COLUMN_PIXELS : VIZ_WIDTH};
	int r = mempool_pool_stats(pool, &stats);

	if (!r)
		r = mempool_session_list(ctl->client, ctl->args[0], collect, &list);
	if (!r)
		r = viz_read(pool, &map);
	if (r == -ENOMEM)
		error_no_memory();
	if (r)
		return r;
	all.holders = list.holders;
	all.n_holders = list.n;
	if (viz->format == VIZ_SVG)
		viz_svg(out, &all);
	else
		viz_html(out, &all);
	return 0;
}

/* ---- any format ---- */

static enum exit_code draw(struct mempool_pool *pool, struct ctl *ctl, const struct viz *viz)
{
	struct mempool_visualize_options visualize = settle(ctl, viz);
	FILE *out = viz->path ? fopen(viz->path, "we") : stdout;
	enum exit_code code = EXIT_DONE;
	int r;

	if (!out)
		return error_report(EXIT_OTHER, errno, "viz: cannot write to '%s': %s", viz->path, strerror(errno));
	r = viz->format >= VIZ_SVG ? picture(ctl, pool, viz, out) : mempool_pool_visualize(pool, out, &visualize);
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
	if (ctl->json && viz.has_format && viz.format != VIZ_JSON)
		error_usage("viz: --json and another --format contradict each other");
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
