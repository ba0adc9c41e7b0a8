// SPDX-License-Identifier: MIT
/* mempoolctl create - makes a pool */
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/command.h"

enum {
	OPTION_SIZE = 0x200,
	OPTION_MAX_SIZE,
	OPTION_MODE,
	OPTION_GROUP,
	OPTION_LIFETIME,
	OPTION_FILL,
	OPTION_LEASE,
	OPTION_GUARD,
	OPTION_RESERVE,
};

static const struct argp_option options[] = {
	{"size", OPTION_SIZE, "SIZE", 0, "Bytes to begin with; needed", 0},
	{"max-size", OPTION_MAX_SIZE, "SIZE", 0, "Bytes it may grow to (its size)", 0},
	{"mode", OPTION_MODE, "MODE", 0, "As a file's, octal: who may read and write may open it (0600)", 0},
	{"group", OPTION_GROUP, "GROUP", 0, "Group the mode is about, one of yours (your primary one)", 0},
	{"lifetime", OPTION_LIFETIME, "WHOSE", 0,
	 "session: a block ends with the session that owns it; pool: it becomes the pool's (session)", 0},
	{"fill", OPTION_FILL, "WITH", 0, "What new memory reads: pattern (0xCC), none or zero (pattern)", 0},
	{"lease", OPTION_LEASE, "WHEN", 0, "Whether clients may serve themselves from slabs: auto or off (auto)", 0},
	{"guard", OPTION_GUARD, NULL, 0, "Canaries around each block, looked at by free and check", 0},
	{"reserve", OPTION_RESERVE, NULL, 0, "Take all memory now, and keep it", 0},
	{0},
};

struct create {
	uint64_t size;
	struct mempool_pool_options pool;
};

static uint32_t mode_parse(const char *text)
{
	char *end;
	unsigned long mode = strtoul(text, &end, 8);

	if (end == text || *end || *text == '-' || mode > 0777)
		error_usage("--mode '%s' is not an octal mode up to 0777", text);
	if (!mode)
		error_usage("--mode 0 would let nobody in; 0600 is the least that makes sense");
	return (uint32_t)mode;
}

static uint32_t group_parse(const char *text)
{
	const struct group *group = getgrnam(text);
	uint64_t gid = group ? group->gr_gid : 0;

	if (!group && (number_parse(text, &gid) || gid > UINT32_MAX))
		error_usage("--group '%s' is no group of this machine", text);
	if (!gid && getegid()) /* to the library 0 is the caller's primary group */
		error_usage("--group '%s': group 0 can be given to a pool by those only whose primary group it is; "
			    "choose another group",
			    text);
	return (uint32_t)gid;
}

static error_t create_parse(int key, char *arg, struct argp_state *state)
{
	struct create *create = state->input;
	struct mempool_pool_options *pool = create ? &create->pool : NULL;

	switch (key) {
	case OPTION_SIZE:
		create->size = command_size("--size", arg);
		if (!create->size)
			error_usage("--size %s: a pool has at least one byte", arg);
		return 0;
	case OPTION_MAX_SIZE:
		pool->max_size = command_size("--max-size", arg);
		return 0;
	case OPTION_MODE:
		pool->mode = mode_parse(arg);
		return 0;
	case OPTION_GROUP:
		pool->gid = group_parse(arg);
		return 0;
	case OPTION_LIFETIME:
		pool->lifetime = (enum mempool_lifetime)command_choice("--lifetime", arg, "session|pool");
		return 0;
	case OPTION_FILL:
		pool->fill = (enum mempool_fill)command_choice("--fill", arg, "pattern|none|zero");
		return 0;
	case OPTION_LEASE:
		pool->lease = (enum mempool_lease)command_choice("--lease", arg, "auto|off");
		return 0;
	case OPTION_GUARD:
		pool->guard = 1;
		return 0;
	case OPTION_RESERVE:
		pool->reserve = 1;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static enum exit_code create_run(struct ctl *ctl, int argc, char *argv[])
{
	struct create create = {0};
	struct mempool_pool_info info = {.struct_size = sizeof(info)};
	struct mempool_pool *pool;
	char size[UNITS_TEXT_BYTES], max_size[UNITS_TEXT_BYTES];
	enum exit_code code;
	int r;

	mempool_pool_options_init(&create.pool);
	command_parse(ctl, &create_command, argc, argv, &create);
	if (!create.size)
		error_usage("create needs --size: mempoolctl create %s --size 64M", ctl->args[0]);
	if (create.pool.max_size && create.pool.max_size < create.size)
		error_usage("--max-size is below --size");
	code = ctl_connect(ctl, "create");
	if (code)
		return code;
	r = mempool_pool_create(ctl->client, ctl->args[0], create.size, &create.pool, &pool);
	if (r)
		return error_of_library(r, NULL, "create of '%s' with %s bytes", ctl->args[0],
					size_format(create.size, size));
	r = mempool_pool_get_info(pool, &info);
	mempool_pool_close(pool);
	if (r)
		return error_of_library(r, NULL, "create of '%s'", ctl->args[0]);
	if (ctl->json)
		emit_document(emit_pool(&info));
	else if (info.max_size > info.total)
		printf("created '%s': %s, may grow to %s\n", info.name, size_format(info.total, size),
		       size_format(info.max_size, max_size));
	else
		printf("created '%s': %s\n", info.name, size_format(info.total, size));
	return EXIT_DONE;
}

const struct command create_command = {
	.name = "create",
	.arguments = "NAME --size SIZE",
	.summary = "Makes a pool",
	.details = "Defaults stand in parentheses. A pool stays until it is destroyed, whoever made it.",
	.n_args_min = 1,
	.n_args_max = 1,
	.options = options,
	.parse = create_parse,
	.run = create_run,
};
