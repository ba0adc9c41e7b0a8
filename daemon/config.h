#pragma once
// SPDX-License-Identifier: MIT
/*
 * config - the configuration file: limits, quotas, and the pools that are there from the start
 *
 * Knows the file's words; not what the server does with the numbers. A file is taken whole or refused whole.
 */
#include "pool/pool.h"
#include "server/limits.h"

struct config {
	struct limits limits;
	struct pool_options *pools; /* [n_pools], in the order of the file */
	size_t n_pools;
};

enum {
	CONFIG_E_REFUSED = 1, /* and the sentence says why, with file and line */
};

/** config_default() - what holds without a file */
void config_default(struct config *config);

/**
 * config_load() - read @path
 * @config: out: untouched unless 0 is returned
 * @why:    out, [n_bytes]: a sentence, unless 0 is returned
 *
 * Ownership: the caller's until config_deinit().
 * Return: 0; CONFIG_E_REFUSED; -errno: the file cannot be read, or -ENOMEM.
 */
int config_load(struct config *config, const char *path, char *why, size_t n_bytes) MUST_CHECK;

/** config_deinit() - may run twice */
void config_deinit(struct config *config);
