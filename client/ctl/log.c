// SPDX-License-Identifier: MIT
/* mempoolctl log - the last operations of a pool that reached the daemon: when, who, what, where, how it ended */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "ctl/command.h"

struct listing {
	json_t *array;	     /* with --json */
	struct table *table; /* without */
	size_t n;
};

static json_t *emit_operation(const struct mempool_operation *operation)
{
	return json_pack("{s:I, s:f, s:I, s:i, s:o, s:I, s:I, s:i}", "number", (json_int_t)operation->number, "time",
			 (double)operation->time_ns / 1e9, "session", (json_int_t)operation->session, "pid",
			 (int)operation->pid, "what", emit_text(operation->what), "offset",
			 (json_int_t)operation->offset, "size", (json_int_t)operation->size, "errno",
			 -(int)operation->result);
}

static void cell_of_time(struct table *table, uint64_t time_ns)
{
	time_t seconds = (time_t)(time_ns / 1000000000u);
	char text[32];
	struct tm tm;

	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", localtime_r(&seconds, &tm));
	table_cell(table, "%s.%03u", text, (unsigned)(time_ns / 1000000u % 1000u));
}

static void print_operation(struct table *table, const struct mempool_operation *operation)
{
	char text[UNITS_TEXT_BYTES];

	table_cell(table, "%" PRIu64, operation->number);
	cell_of_time(table, operation->time_ns);
	if (operation->session)
		table_cell(table, "%" PRIu64, operation->session);
	else
		table_cell(table, "-");
	if (operation->pid)
		table_cell(table, "%d", (int)operation->pid);
	else
		table_cell(table, "-");
	table_cell(table, "%s", operation->what);
	if (operation->offset)
		table_cell(table, "0x%" PRIx64, operation->offset);
	else
		table_cell(table, "-");
	table_cell(table, "%s", operation->size ? size_format(operation->size, text) : "-");
	table_cell(table, "%s", operation->result ? strerrordesc_np(-operation->result) : "done");
}

static int visit(void *arg, const struct mempool_operation *operation)
{
	struct listing *listing = arg;

	listing->n++;
	if (!listing->array)
		print_operation(listing->table, operation);
	else if (json_array_append_new(listing->array, emit_operation(operation)))
		error_no_memory();
	return 0;
}

static enum exit_code log_run(struct ctl *ctl, int argc, char *argv[])
{
	struct listing listing = {0};
	enum exit_code code;
	const char *name;
	int r;

	command_parse(ctl, &log_command, argc, argv, NULL);
	name = ctl->args[0];
	code = ctl_connect(ctl, "log");
	if (code)
		return code;
	if (ctl->json)
		listing.array = json_array();
	else
		listing.table = table_new("NUMBER>|TIME|SESSION>|PID>|WHAT|OFFSET>|SIZE>|RESULT",
					  terminal_has_color(ctl->color, 1));
	r = mempool_pool_log(ctl->client, name, visit, &listing);
	if (r == -ENOENT)
		code = ctl_no_pool(ctl, "log", name);
	else if (r)
		code = error_of_library(r, NULL, "log of '%s'", name);
	else if (ctl->json)
		emit_document(json_pack("{s:s, s:O}", "name", name, "operations", listing.array));
	else if (listing.n)
		table_print(listing.table, stdout);
	else
		printf("nothing has happened in '%s' yet\n", name);
	json_decref(listing.array);
	table_free(listing.table);
	return code;
}

const struct command log_command = {
	.name = "log",
	.arguments = "NAME",
	.summary = "The last operations of a pool that reached the daemon",
	.details = "At most 4096, oldest first, those before a restart of the daemon too. Without a daemon: mempoold "
		   "--offline "
		   "log NAME.",
	.n_args_min = 1,
	.n_args_max = 1,
	.run = log_run,
};
