// SPDX-License-Identifier: MIT
/* mempoolctl destroy - removes a pool, with a warning if it is not empty */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/command.h"

enum {
	OPTION_IF_EMPTY = 0x200
};

static const struct argp_option options[] = {
	{"if-empty", OPTION_IF_EMPTY, NULL, 0, "Refuse while blocks are live", 0},
	{0},
};

static error_t destroy_parse(int key, char *arg, struct argp_state *state)
{
	unsigned *flags = state->input;

	(void)arg;
	if (key != OPTION_IF_EMPTY)
		return ARGP_ERR_UNKNOWN;
	*flags |= MEMPOOL_IF_EMPTY;
	return 0;
}

static enum exit_code destroy_failed(struct ctl *ctl, int r)
{
	if (r == -ENOENT)
		return ctl_no_pool(ctl, "destroy", ctl->args[0]);
	return error_of_library(r, NULL, "destroy of '%s'", ctl->args[0]);
}

static enum exit_code destroy_run(struct ctl *ctl, int argc, char *argv[])
{
	unsigned flags = 0;
	const char *warning;
	enum exit_code code;
	int r;

	command_parse(ctl, &destroy_command, argc, argv, &flags);
	code = ctl_connect(ctl, "destroy");
	if (code)
		return code;
	r = mempool_pool_destroy(ctl->client, ctl->args[0], flags);
	if (r)
		return destroy_failed(ctl, r);
	warning = mempool_last_error();
	if (ctl->json) {
		emit_document(json_pack("{s:o, s:o}", "name", emit_text(ctl->args[0]), "warning",
					*warning ? emit_text(warning) : json_null()));
		return EXIT_DONE;
	}
	printf("destroyed '%s'\n", ctl->args[0]);
	if (*warning)
		error_warn("%s", warning);
	return EXIT_DONE;
}

const struct command destroy_command = {
	.name = "destroy",
	.arguments = "NAME",
	.summary = "Removes a pool, with a warning if it is not empty",
	.n_args_min = 1,
	.n_args_max = 1,
	.options = options,
	.parse = destroy_parse,
	.run = destroy_run,
};
