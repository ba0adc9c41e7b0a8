// SPDX-License-Identifier: MIT
/* mempoolctl free - drops the owner's hold on blocks; one that cannot be freed does not keep the others from it */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#include "ctl/command.h"

#define SHOWN_MAX 8u /* of those that were not freed, in text; simply picked */

static mempool_offset *offsets_parse(const struct ctl *ctl)
{
	mempool_offset *offsets = calloc((size_t)ctl->n_args, sizeof(*offsets));

	if (!offsets)
		error_no_memory();
	for (int i = 1; i < ctl->n_args; i++)
		offsets[i - 1] = command_number("OFFSET", ctl->args[i], 1, UINT64_MAX);
	return offsets;
}

static void print_freed(const struct ctl *ctl, size_t n, const mempool_offset failed[], size_t n_failed)
{
	size_t n_freed = n - n_failed;

	if (ctl->json) {
		emit_document(json_pack("{s:I, s:o}", "freed", (json_int_t)n_freed, "failed",
					emit_offsets(failed, n_failed)));
		return;
	}
	printf("freed %zu block%s", n_freed, plural(n_freed));
	for (size_t i = 0; i < n_failed && i < SHOWN_MAX; i++)
		printf("%s0x%" PRIx64, i ? ", " : "; not freed: ", failed[i]);
	if (n_failed > SHOWN_MAX)
		printf(" and %zu more", n_failed - SHOWN_MAX);
	putchar('\n');
}

static enum exit_code free_run(struct ctl *ctl, int argc, char *argv[])
{
	mempool_offset *offsets, *failed;
	struct mempool_pool *pool;
	enum exit_code code;
	size_t n, n_failed;
	int r;

	command_parse(ctl, &free_command, argc, argv, NULL);
	offsets = offsets_parse(ctl); /* all of them, before anything is freed */
	n = (size_t)ctl->n_args - 1;
	failed = calloc(n, sizeof(*failed));
	if (!failed)
		error_no_memory();
	code = ctl_open(ctl, "free", ctl->args[0], &pool);
	if (!code) {
		r = mempool_free_batch_failed(pool, n, offsets, failed, &n_failed);
		if (r)
			code = error_of_library(r, NULL, "free in '%s'", ctl->args[0]);
		print_freed(ctl, n, failed, n_failed);
		mempool_pool_close(pool);
	}
	free(failed);
	free(offsets);
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
