#pragma once
// SPDX-License-Identifier: MIT
/* registry_world - what a test of the registry needs: an instance of its own, opened and opened again, and pools in it */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pool/registry.h"

#include "pool_world.h"

static char instance[64];
static unsigned n_wanted; /* decays */

static inline void decay_wanted(void *arg)
{
	(void)arg;
	n_wanted++;
}

static inline struct registry_config config_of(uint64_t pools)
{
	struct registry_config config = {
		.instance = instance, .budget_bytes = UINT64_MAX, .decay_ms = 0, .decay_wanted = decay_wanted};

	for (int kind = 0; kind < QUOTA_KIND_N; kind++)
		config.quota_limit[kind] = UINT64_MAX;
	config.quota_limit[QUOTA_POOLS] = pools;
	return config;
}

static inline struct registry *open_registry(uint64_t pools)
{
	const struct registry_config config = config_of(pools);
	struct registry *registry;
	int n_swept = -1;

	assert_int_equal(registry_open(&registry, &config, &n_swept), 0);
	assert_int_equal(n_swept, 0);
	return registry;
}

/* The same, after a death. */
static inline struct registry *open_swept(uint64_t pools)
{
	const struct registry_config config = config_of(pools);
	struct registry *registry;
	int n_swept;

	assert_int_equal(registry_open(&registry, &config, &n_swept), 0);
	return registry;
}

static inline unsigned n_objects(void)
{
	char prefix[80];

	snprintf(prefix, sizeof(prefix), "mempool.%s", instance);
	return world_count("/dev/shm", prefix);
}

static inline struct pool_options named(const char *name)
{
	struct pool_options options = world_options(65536);

	options.n_name_bytes = (uint32_t)strlen(name);
	memcpy(options.name, name, options.n_name_bytes);
	return options;
}

static inline struct pool *create(struct registry *registry, const char *name)
{
	const struct pool_options options = named(name);
	struct pool *pool;

	assert_int_equal(registry_create(registry, &options, NULL, &pool), 0);
	return pool;
}

/** registry_world_run() - all @tests, in an instance of @name and this process's number. Return: how many failed */
#define registry_world_run(name, tests) \
	(snprintf(instance, sizeof(instance), "%s-%d", name, (int)getpid()), cmocka_run_group_tests(tests, NULL, NULL))
