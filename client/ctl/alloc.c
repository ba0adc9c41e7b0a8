// SPDX-License-Identifier: MIT
/* mempoolctl alloc - gets blocks and publishes them, so that they outlive the tool */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/command.h"

#define COUNT_MAX (1u << 20) /* of --count; more is for a program */

enum {
	OPTION_ALIGN = 0x200,
	OPTION_COUNT,
	OPTION_NAME
};

static const struct argp_option options[] = {
	{"align", OPTION_ALIGN, "N", 0, "At a multiple of N, a power of two up to 2M (16)", 0},
	{"count", OPTION_COUNT, "N", 0, "So many blocks of this size, all or none (1)", 0},
	{"name", OPTION_NAME, "KEY", 0, "A key to find the block by", 0},
	{0},
};

struct alloc {
	uint64_t size;
	uint64_t alignment;
	uint64_t n;
	const char *key; /* NULL: none */
};

static error_t alloc_parse(int key, char *arg, struct argp_state *state)
{
	struct alloc *alloc = state->input;

	switch (key) {
	case OPTION_ALIGN:
		alloc->alignment = command_size("--align", arg);
		if (!is_power_of_two(alloc->alignment) || alloc->alignment > MEMPOOL_ALIGNMENT_MAX)
			error_usage("--align %s is not a power of two up to 2M", arg);
		return 0;
	case OPTION_COUNT:
		alloc->n = command_number("--count", arg, 1, COUNT_MAX);
		return 0;
	case OPTION_NAME:
		alloc->key = arg;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static enum exit_code alloc_failed(const char *name, const struct alloc *alloc, int r)
{
	char size[UNITS_TEXT_BYTES], hint[160];
	bool can_grow = strstr(mempool_last_error(), "grow the pool"); /* the daemon knows whether that would help */

	snprintf(hint, sizeof(hint), "'mempoolctl resize %s SIZE' does", name);
	return error_of_library(r, can_grow ? hint : NULL, "alloc of %s bytes in '%s'", size_format(alloc->size, size),
				name);
}

/* alloc_one_by_one() - Return: how many were had before one failed; its code */
static uint64_t alloc_one_by_one(struct mempool_pool *pool, const char *name, const struct alloc *alloc,
				 mempool_offset offsets[], enum exit_code *codep)
{
	uint64_t n = 0;

	for (; n < alloc->n; n++) {
		offsets[n] = mempool_alloc_aligned(pool, alloc->size, alloc->alignment);
		if (!offsets[n]) {
			*codep = alloc_failed(name, alloc, -errno);
			break;
		}
	}
	return n;
}

/* alloc_at_once() - Return: whether all were had. If not, one by one tells which found no room, and what there was instead */
static bool alloc_at_once(struct mempool_pool *pool, const struct alloc *alloc, mempool_offset offsets[])
{
	size_t *sizes;
	int r;

	if (alloc->n == 1 || alloc->alignment > MEMPOOL_ALIGNMENT)
		return false;
	sizes = calloc(alloc->n, sizeof(*sizes));
	if (!sizes)
		error_no_memory();
	for (uint64_t i = 0; i < alloc->n; i++)
		sizes[i] = alloc->size;
	r = mempool_alloc_batch(pool, alloc->n, sizes, offsets);
	free(sizes);
	return !r;
}

/* get_blocks() - all of them, published, or none. Return: EXIT_DONE, or what was reported */
static enum exit_code get_blocks(struct mempool_pool *pool, const char *name, const struct alloc *alloc,
				 mempool_offset offsets[])
{
	enum exit_code code = EXIT_DONE;
	uint64_t n = alloc->n;
	int r;

	if (!alloc_at_once(pool, alloc, offsets))
		n = alloc_one_by_one(pool, name, alloc, offsets, &code);
	if (!code) {
		r = alloc->key ? mempool_publish(pool, offsets[0], alloc->key)
			       : mempool_publish_batch(pool, n, offsets);
		if (r)
			code = error_of_library(r, NULL, "publishing in '%s'", name);
	}
	if (code)
		mempool_free_batch(pool, n, offsets); /* as far as that goes: the failure itself was told */
	return code;
}

static enum exit_code alloc_run(struct ctl *ctl, int argc, char *argv[])
{
	struct alloc alloc = {.alignment = MEMPOOL_ALIGNMENT, .n = 1};
	struct mempool_pool *pool;
	mempool_offset *offsets;
	enum exit_code code;

	command_parse(ctl, &alloc_command, argc, argv, &alloc);
	alloc.size = command_size("SIZE", ctl->args[1]);
	if (!alloc.size)
		error_usage("alloc of 0 bytes: a block has at least one");
	if (alloc.key && alloc.n > 1)
		error_usage("--name goes with one block, not with --count %" PRIu64, alloc.n);
	code = ctl_open(ctl, "alloc", ctl->args[0], &pool);
	if (code)
		return code;
	offsets = calloc(alloc.n, sizeof(*offsets));
	if (!offsets)
		error_no_memory();
	code = get_blocks(pool, ctl->args[0], &alloc, offsets);
	if (!code && ctl->json)
		emit_document(json_pack("{s:o}", "offsets", emit_offsets(offsets, alloc.n)));
	for (uint64_t i = 0; !code && !ctl->json && i < alloc.n; i++)
		printf("0x%" PRIx64 "\n", offsets[i]);
	free(offsets);
	mempool_pool_close(pool);
	return code;
}

const struct command alloc_command = {
	.name = "alloc",
	.arguments = "NAME SIZE",
	.summary = "Allocates and publishes, prints offsets, one a line",
	.details = "The blocks belong to the pool and stay until 'mempoolctl free', or any session's free.",
	.n_args_min = 2,
	.n_args_max = 2,
	.options = options,
	.parse = alloc_parse,
	.run = alloc_run,
};
