// SPDX-License-Identifier: MIT
/* mempoolctl sessions - who holds what: pid, command, user, blocks, bytes, since; not who looks, which holds nothing */
#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "ctl/command.h"

struct listing {
	json_t *array;	     /* with --json */
	struct table *table; /* without */
	size_t n;
	time_t now;
	uint64_t own; /* session */
};

static json_t *emit_session(const struct mempool_session_info *info)
{
	return json_pack("{s:I, s:i, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:o}", "session",
			 (json_int_t)info->session, "pid", (int)info->pid, "uid", (json_int_t)info->uid, "command",
			 emit_text(info->command), "pool", emit_text(info->pool), "blocks", (json_int_t)info->blocks,
			 "bytes", (json_int_t)info->bytes, "holds", (json_int_t)info->holds, "oldest",
			 (json_int_t)info->oldest, "since", (json_int_t)info->since, "state", emit_text(info->state));
}

static void print_session(struct table *table, const struct mempool_session_info *info, time_t now)
{
	uint64_t seconds = (uint64_t)now > info->since ? (uint64_t)now - info->since : 0;
	char text[UNITS_TEXT_BYTES];

	if (info->pid)
		table_cell(table, "%d", (int)info->pid);
	else
		table_cell(table, "?");
	table_cell(table, "%s", info->command);
	table_cell(table, "%" PRIu32, info->uid);
	table_cell(table, "%s", info->pool[0] ? info->pool : "-");
	table_cell(table, "%s", count_format(info->blocks, text));
	table_cell(table, "%s", size_format(info->bytes, text));
	table_cell(table, "%s", count_format(info->holds, text));
	table_cell(table, "%s", info->since ? age_format(seconds, text) : "-");
	table_cell(table, "%s", info->state);
	table_cell(table, "%" PRIu64, info->session);
}

static int visit(void *arg, const struct mempool_session_info *info)
{
	struct listing *listing = arg;

	if (info->session == listing->own)
		return 0;
	listing->n++;
	if (!listing->array)
		print_session(listing->table, info, listing->now);
	else if (json_array_append_new(listing->array, emit_session(info)))
		error_no_memory();
	return 0;
}

static enum exit_code sessions_run(struct ctl *ctl, int argc, char *argv[])
{
	struct listing listing = {.now = time(NULL)};
	enum exit_code code;
	const char *name;
	int r;

	command_parse(ctl, &sessions_command, argc, argv, NULL);
	name = ctl->n_args ? ctl->args[0] : NULL;
	code = ctl_connect(ctl, "sessions");
	if (code)
		return code;
	listing.own = mempool_session(ctl->client);
	if (ctl->json)
		listing.array = json_array();
	else
		listing.table = table_new("PID>|COMMAND|UID>|POOL|BLOCKS>|BYTES>|HOLDS>|SINCE>|STATE|SESSION>",
					  terminal_has_color(ctl->color, 1));
	r = mempool_session_list(ctl->client, name, visit, &listing);
	if (r == -ENOENT)
		code = ctl_no_pool(ctl, "sessions", name);
	else if (r)
		code = error_of_library(r, NULL, "sessions");
	else if (ctl->json)
		emit_document(json_pack("{s:O}", "sessions", listing.array));
	else if (listing.n)
		table_print(listing.table, stdout);
	else
		printf("no %ssession%s%s%s\n", name ? "" : "other ", name ? " has '" : "", name ? name : "",
		       name ? "' open" : "");
	json_decref(listing.array);
	table_free(listing.table);
	return code;
}

const struct command sessions_command = {
	.name = "sessions",
	.arguments = "[NAME]",
	.summary = "Who holds what: pid, command, blocks, bytes, since",
	.details = "SINCE is how long the session has had the pool open; HOLDS are blocks of others that it retained. "
		   "The session of this command itself is left out.",
	.n_args_max = 1,
	.run = sessions_run,
};
