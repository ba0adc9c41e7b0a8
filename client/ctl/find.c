// SPDX-License-Identifier: MIT
/* mempoolctl find - the offset published under a key */
#include <errno.h>
#include <inttypes.h>

#include "ctl/command.h"

static enum exit_code find_run(struct ctl *ctl, int argc, char *argv[])
{
	struct mempool_pool *pool;
	mempool_offset offset;
	enum exit_code code;
	int r;

	command_parse(ctl, &find_command, argc, argv, NULL);
	code = ctl_open(ctl, "find", ctl->args[0], &pool);
	if (code)
		return code;
	r = mempool_find(pool, ctl->args[1], &offset);
	if (r == -ENOENT) /* a block, not the pool, so not EXIT_NO_POOL */
		code = error_report(EXIT_OTHER, ENOENT,
				    "find: nothing is published as '%s' in '%s'; 'mempoolctl alloc --name' publishes",
				    ctl->args[1], ctl->args[0]);
	else if (r)
		code = error_of_library(r, NULL, "find of '%s' in '%s'", ctl->args[1], ctl->args[0]);
	else if (ctl->json)
		emit_document(json_pack("{s:o}", "offsets", emit_offsets(&offset, 1)));
	else
		printf("0x%" PRIx64 "\n", offset);
	mempool_pool_close(pool);
	return code;
}

const struct command find_command = {
	.name = "find",
	.arguments = "NAME KEY",
	.summary = "The offset published under a key",
	.n_args_min = 2,
	.n_args_max = 2,
	.run = find_run,
};
