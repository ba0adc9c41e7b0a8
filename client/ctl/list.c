// SPDX-License-Identifier: MIT
/* mempoolctl list - pools, one a line */
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>

#include "ctl/command.h"

static void print_owner(struct table *table, const struct mempool_pool_info *info)
{
	const struct passwd *user = getpwuid(info->uid);
	const struct group *group = getgrgid(info->gid);
	char uid[UNITS_TEXT_BYTES], gid[UNITS_TEXT_BYTES];

	snprintf(uid, sizeof(uid), "%" PRIu32, info->uid);
	snprintf(gid, sizeof(gid), "%" PRIu32, info->gid);
	table_cell(table, "%s:%s", user ? user->pw_name : uid, group ? group->gr_name : gid);
}

static void print_list(const struct ctl *ctl, const struct pool_list *list)
{
	struct table *table = table_new("NAME|SIZE>|USED>|USED%>|BLOCKS>|SESSIONS>|MODE|OWNER|LIFETIME|LEASE",
					terminal_has_color(ctl->color, 1));
	char text[UNITS_TEXT_BYTES];

	for (size_t i = 0; i < list->n; i++) {
		const struct mempool_pool_info *info = &list->infos[i];

		table_cell(table, "%s", info->name);
		table_cell(table, "%s", size_format(info->total, text));
		table_cell(table, "%s", size_format(info->used, text));
		table_cell(table, "%.0f%%", info->total ? 100.0 * (double)info->used / (double)info->total : 0.0);
		table_cell(table, "%s", count_format(info->allocations, text));
		table_cell(table, "%s", count_format(info->sessions, text));
		table_cell(table, "%04o", info->mode);
		print_owner(table, info);
		table_cell(table, "%s", info->lifetime == MEMPOOL_LIFETIME_POOL ? "pool" : "session");
		table_cell(table, "%s", info->lease == MEMPOOL_LEASE_OFF ? "off" : "auto");
	}
	table_print(table, stdout);
	table_free(table);
}

/* A pool that could not be recovered is in no list, but its name is taken. */
static void print_none(const struct ctl *ctl)
{
	struct mempool_daemon_info info = {.struct_size = sizeof(info)};
	bool is_known = !mempool_daemon_info(ctl->client, &info) && info.n_last_recoveries;
	uint64_t n_lost = is_known ? info.last_recoveries[0].refused : 0;

	if (n_lost)
		printf("no pools but %" PRIu64
		       " that could not be recovered when the daemon started: its log names %s, "
		       "and what to do\n",
		       n_lost, n_lost == 1 ? "it" : "them");
	else
		puts("no pools yet; make one with 'mempoolctl create NAME --size 64M'");
}

static void emit_list(const struct pool_list *list)
{
	json_t *pools = json_array();

	for (size_t i = 0; i < list->n; i++) {
		if (json_array_append_new(pools, emit_pool(&list->infos[i])))
			error_no_memory();
	}
	emit_document(json_pack("{s:o}", "pools", pools));
}

static enum exit_code list_run(struct ctl *ctl, int argc, char *argv[])
{
	CLEANUP(pool_list_deinit) struct pool_list list = {0};
	enum exit_code code;
	int r;

	command_parse(ctl, &list_command, argc, argv, NULL);
	code = ctl_connect(ctl, "list");
	if (code)
		return code;
	r = pool_list_read(ctl, &list);
	if (r)
		return error_of_library(r, NULL, "list");
	if (ctl->json)
		emit_list(&list);
	else if (!list.n)
		print_none(ctl);
	else
		print_list(ctl, &list);
	return EXIT_DONE;
}

const struct command list_command = {
	.name = "list",
	.arguments = "",
	.summary = "Pools, one a line",
	.run = list_run,
};
