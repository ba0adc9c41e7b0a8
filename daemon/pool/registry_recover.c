// SPDX-License-Identifier: MIT
/*
 * What the last daemon left, whenever it was stopped or killed. The directory is the truth: pools that it names are recovered,
 * each from its own ledger; objects that it does not name were being made or removed, and go. What is not exactly as we make
 * our objects (owner, mode, one link, a plain file) is neither adopted nor removed, whatever it is called.
 *
 * A pool that cannot be recovered is told of, and stays as it is, name and record, while the others come up. Only trouble that
 * is the daemon's own (memory, descriptors) fails the start: nothing has been lost then, and another start may do better.
 *
 * A kill at any point of this leaves it to be done again: a record is forgotten only when both of its objects are gone, and an
 * object is removed only when no record names it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pool/registry_internal.h"

static PRINTF(2, 3) void tell(const struct registry_config *config, const char *format, ...)
{
	char sentence[640];
	va_list args;

	if (!config->tell)
		return;
	va_start(args, format);
	vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	config->tell(config->tell_arg, sentence);
}

static int entry_recover(struct registry *registry, uint32_t index, uint64_t owner, struct pool *pool)
{
	const struct pool_options *options = pool_options(pool);
	struct registry_entry *entry;
	int r;

	if (options->n_name_bytes && registry_entry_by_name(registry, options->name, options->n_name_bytes))
		return REGISTRY_E_NAME_TAKEN;
	r = registry_entry_room(registry);
	entry = r ? NULL : calloc(1, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	entry->account = quota_account_of(&registry->quota, options->uid);
	if (!entry->account) {
		free(entry);
		return -ENOMEM;
	}
	entry->id = pool_id(pool);
	entry->owner = owner;
	entry->pool = pool;
	entry->index = index;
	entry->n_name_bytes = options->n_name_bytes;
	memcpy(entry->name, options->name, options->n_name_bytes);
	quota_charge_always(entry->account, QUOTA_POOLS, 1);
	registry_entry_link(registry, entry);
	return 0;
}

/* Return: 0; POOL_E_*, REGISTRY_E_NAME_TAKEN: it stays as it is, and @why; -ENOMEM and the like: the start has failed */
static int recover_pool(struct registry *registry, uint32_t index, const struct directory_pool *record, char *why,
			size_t n_why)
{
	struct pool_stats stats;
	struct pool *pool;
	int r;

	r = pool_recover(&pool, &registry->env, record->books, why, n_why);
	if (r)
		return r;
	if (pool_id(pool) != record->id) {
		snprintf(why, n_why, "its ledger is of another pool");
		r = POOL_E_DAMAGED;
	} else {
		snprintf(why, n_why, "another pool has its name");
		r = entry_recover(registry, index, record->owner, pool);
	}
	if (r) {
		pool_keep(pool);
		return r;
	}
	pool_stats(pool, &stats);
	registry->recovery.n_pools++;
	registry->recovery.n_blocks += stats.allocations;
	registry->recovery.n_bytes += stats.used;
	return 0;
}

static void tell_refused(const struct registry_config *config, const struct directory_pool *record, const char *why)
{
	char label[NAME_BYTES_MAX + 40], by[NAME_BYTES_MAX + 40] = "";

	if (record->n_name_bytes) {
		snprintf(label, sizeof(label), "pool \"%.*s\"", (int)record->n_name_bytes, record->name);
		snprintf(by, sizeof(by), ": mempoolctl destroy %.*s", (int)record->n_name_bytes, record->name);
	} else {
		snprintf(label, sizeof(label), "private pool %llu", (unsigned long long)record->id);
	}
	tell(config,
	     "%s cannot be recovered: %s. Its objects stay: /dev/shm%s (ledger), /dev/shm%s (data); mend what is wrong "
	     "and start again, or remove both to forget the pool%s",
	     label, why, record->books, record->data, by);
}

/* Another pool of its name would stand in its way, or lose its place to it, when it comes back. Return: 0, -ENOMEM */
static int keep_name(struct registry *registry, uint32_t index, const struct directory_pool *record)
{
	struct registry_entry *entry;
	int r;

	if (!name_is_valid(record->name, record->n_name_bytes) ||
	    registry_entry_by_name(registry, record->name, record->n_name_bytes))
		return 0;
	r = registry_entry_room(registry);
	entry = r ? NULL : calloc(1, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	entry->id = record->id;
	entry->is_lost = true;
	entry->index = index;
	entry->n_name_bytes = (uint32_t)record->n_name_bytes;
	memcpy(entry->name, record->name, record->n_name_bytes);
	registry_entry_link(registry, entry);
	return 0;
}

static int recover_pools(struct registry *registry, const struct registry_config *config)
{
	uint32_t n = registry->directory.n_pools_high;
	struct directory_pool record;
	char why[320];
	int r;

	for (uint32_t index = 0; index < n; index++) {
		if (!directory_pool(&registry->directory, index, &record))
			continue;
		r = recover_pool(registry, index, &record, why, sizeof(why));
		if (r < 0)
			return r;
		if (!r)
			continue;
		registry->recovery.n_refused++;
		tell_refused(config, &record, why);
		if (keep_name(registry, index, &record))
			return -ENOMEM;
	}
	return 0;
}

/*
 * Only what is surely not there counts as gone: an object that cannot be opened for any other reason may be the last copy of
 * somebody's data, and forgetting its name would have it swept up.
 */
static bool is_gone(const struct registry *registry, const char *name)
{
	struct segment segment;
	int r = segment_open(&segment, registry->instance, name);

	if (!r)
		segment_deinit(&segment);
	return r == -ENOENT;
}

/* Somebody has followed the advice. */
static void forget_removed_pools(struct registry *registry)
{
	struct directory_pool record;

	for (uint32_t index = registry->directory.n_pools_high; index-- > 0;)
		if (directory_pool(&registry->directory, index, &record) && is_gone(registry, record.books) &&
		    is_gone(registry, record.data))
			directory_remove_pool(&registry->directory, index, 0, 0);
}

/* Among some pools and sessions, at a start: no need of an index. */
static bool is_named_by_directory(void *arg, const char *name)
{
	const struct registry *registry = arg;
	struct directory_session session;
	struct directory_pool pool;
	unsigned state;

	for (uint32_t i = 0; i < registry->directory.n_pools_high; i++)
		if (directory_pool(&registry->directory, i, &pool) &&
		    (!strcmp(pool.books, name) || !strcmp(pool.data, name) || !strcmp(pool.lease, name)))
			return true;
	for (uint32_t i = 0; i < registry->n_entries; i++) /* a lease segment that was lost is made anew */
		if (registry->entries[i]->pool && !strcmp(pool_lease_name(registry->entries[i]->pool), name))
			return true;
	for (uint32_t i = 0; i < registry->directory.n_sessions_high; i++)
		if (directory_session(&registry->directory, i, &session, &state) && session.has_lock &&
		    !strcmp(session.lock_object, name))
			return true;
	return false;
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

int registry_recover(struct registry *registry, const struct registry_config *config, int *n_sweptp)
{
	uint64_t start_us = now_us();
	bool was_stopped = directory_take_stop(&registry->directory);
	int r;

	*n_sweptp = 0;
	forget_removed_pools(registry);
	r = recover_pools(registry, config);
	if (r)
		return r;
	r = segment_sweep(registry->instance, is_named_by_directory, registry);
	if (r < 0)
		return r;
	*n_sweptp = r;
	registry->recovery.n_sessions = directory_count_sessions(&registry->directory);
	if (directory_is_new(&registry->directory))
		return 0;
	registry->recovery.was_stopped = was_stopped;
	registry->recovery.time_s = (uint64_t)time(NULL);
	registry->recovery.took_us = now_us() - start_us;
	directory_note_recovery(&registry->directory, &registry->recovery);
	return 0;
}
