// SPDX-License-Identifier: MIT
/* mempoolctl free - drops the owner's hold on blocks; goes on after an error, and tells the first */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#include "ctl/command.h"

static mempool_offset *offsets_parse(const struct ctl *ctl)
{
	mempool_offset *offsets = calloc((size_t)ctl->n_args, sizeof(*offsets));

	if (!offsets)
		error_no_memory();
	for (int i = 1; i < ctl->n_args; i++)
		offsets[i - 1] = command_number("OFFSET", ctl->args[i], 1, UINT64_MAX);
	return offsets;
}

static enum exit_code free_run(struct ctl *ctl, int argc, char *argv[])
{
	struct mempool_pool *pool;
	mempool_offset *offsets;
	enum exit_code code;
	int n_freed = 0;

	command_parse(ctl, &free_command, argc, argv, NULL);
	offsets = offsets_parse(ctl); /* all of them, before anything is freed */
	code = ctl_open(ctl, "free", ctl->args[0], &pool);
	if (code)
		return free(offsets), code;
	for (int i = 0; i < ctl->n_args - 1; i++) {
		int r = mempool_free(pool, offsets[i]);

		n_freed += !r;
		if (r && !code)
			code = error_of_library(r, NULL, "free of 0x%" PRIx64 " in '%s'", offsets[i], ctl->args[0]);
	}
	if (ctl->json)
		emit_document(json_pack("{s:i}", "freed", n_freed));
	else
		printf("freed %d block%s\n", n_freed, plural((uint64_t)n_freed));
	free(offsets);
	mempool_pool_close(pool);
	return code;
}

const struct command free_command = {
	.name = "free",
	.arguments = "NAME OFFSET...",
	.summary = "Frees blocks",
	.details = "An offset is a number, hexadecimal after 0x. One that cannot be freed does not keep the others "
		   "from it.",
	.n_args_min = 2,
	.n_args_max = INT_MAX,
	.run = free_run,
};
