// SPDX-License-Identifier: MIT
/* mempoolctl resize - grows a pool */
#include <errno.h>

#include "ctl/command.h"

static enum exit_code resize_failed(int r, const char *name, uint64_t size)
{
	char text[UNITS_TEXT_BYTES];
	enum exit_code code = error_of_library(r, NULL, "resize of '%s' to %s bytes", name, size_format(size, text));

	return r == -EINVAL ? EXIT_OTHER : code; /* the words were right, the pool is just larger already */
}

static enum exit_code resize_run(struct ctl *ctl, int argc, char *argv[])
{
	struct mempool_pool_info info = {.struct_size = sizeof(info)};
	struct mempool_pool *pool;
	char text[UNITS_TEXT_BYTES];
	enum exit_code code;
	uint64_t size;
	int r;

	command_parse(ctl, &resize_command, argc, argv, NULL);
	size = command_size("SIZE", ctl->args[1]);
	if (!size)
		error_usage("resize to 0 bytes: a pool has at least one, and only grows");
	code = ctl_open(ctl, "resize", ctl->args[0], &pool);
	if (code)
		return code;
	r = mempool_pool_resize(pool, size);
	if (!r)
		r = mempool_pool_get_info(pool, &info);
	if (r)
		code = resize_failed(r, ctl->args[0], size);
	else if (ctl->json)
		emit_document(emit_pool(&info));
	else
		printf("'%s' has %s now\n", ctl->args[0], size_format(info.total, text));
	mempool_pool_close(pool);
	return code;
}

const struct command resize_command = {
	.name = "resize",
	.arguments = "NAME SIZE",
	.summary = "Grows a pool",
	.details = "Clients keep their addresses. It grows up to what create's --max-size said.",
	.n_args_min = 2,
	.n_args_max = 2,
	.run = resize_run,
};
