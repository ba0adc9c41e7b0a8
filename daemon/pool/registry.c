// SPDX-License-Identifier: MIT
/*
 * Entries are in an array by rising id, to which new ones are appended, and hang in buckets by name. A pool is being made
 * without the mutex, which may take long; its entry is there before, without a pool, so that its name is taken.
 *
 * The lock is an open-file-description lock: it goes with the descriptor, not with any other that the process happens to
 * close, and a killed daemon lets go of it. It lies on an object that the last owner removes under the lock; so whoever
 * got it looks whether the name still leads to what he locked.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/registry_internal.h"

#define N_LOCK_TRIES 100 /* times that another daemon may end just now */

/* ---- the instance lock ---- */

static bool is_sound(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_uid == geteuid() && st->st_nlink <= 1 && !(st->st_mode & 077);
}

/* Whether the name still leads to what was locked: a daemon that ended meanwhile has removed it. */
static bool is_named(const char *name, const struct stat *locked)
{
	char path[SEGMENT_NAME_BYTES + 16];
	struct stat named;

	snprintf(path, sizeof(path), "/dev/shm%s", name);
	return !lstat(path, &named) && named.st_ino == locked->st_ino && named.st_dev == locked->st_dev;
}

/* What has the name is a folder, a link, or a file that may not be opened: not ours. */
static int refuse_open(int error)
{
	return error == EINVAL || error == EISDIR || error == ELOOP || error == EACCES || error == ENXIO
		       ? REGISTRY_E_SQUATTED
		       : -error;
}

/* Return: 0, and the lock is held; REGISTRY_E_IN_USE, _SQUATTED; -EAGAIN: it was removed meanwhile; -errno */
static int try_lock(const char *name, int *fdp)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = shm_open(name, O_CREAT | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600), r = 0;
	struct stat locked;

	if (fd < 0)
		return refuse_open(errno);
	if (fstat(fd, &locked))
		r = -errno;
	else if (!is_sound(&locked))
		r = REGISTRY_E_SQUATTED;
	else if (fcntl(fd, F_OFD_SETLK, &lock))
		r = errno == EAGAIN || errno == EACCES ? REGISTRY_E_IN_USE : -errno;
	else if (!is_named(name, &locked))
		r = -EAGAIN;
	if (r)
		close(fd);
	else
		*fdp = fd;
	return r;
}

static int lock_instance(struct registry *registry)
{
	int fd = -1, r = -EAGAIN;
	bool is_unmade;

	snprintf(registry->lock_name, sizeof(registry->lock_name), "/mempool.%s", registry->instance);
	for (int i = 0; r == -EAGAIN && i < N_LOCK_TRIES; i++)
		r = try_lock(registry->lock_name, &fd);
	if (r)
		return r;
	is_unmade = directory_is_unmade(fd);
	r = directory_open(&registry->directory, fd);
	if (r && is_unmade)
		shm_unlink(registry->lock_name); /* under the lock, as ever */
	if (r)
		close(fd);
	return r == LEDGER_E_VERSION ? REGISTRY_E_VERSION : r > 0 ? REGISTRY_E_DAMAGED : r;
}

/* ---- entries: under the mutex ---- */

static struct registry_entry **bucket_of(struct registry *registry, const void *name, size_t n_bytes)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a; who floods a bucket is limited by his quota of pools */

	for (size_t i = 0; i < n_bytes; i++)
		hash = (hash ^ ((const uint8_t *)name)[i]) * UINT64_C(0x100000001b3);
	return &registry->buckets[hash % REGISTRY_BUCKETS_N];
}

struct registry_entry *registry_entry_by_name(struct registry *registry, const void *name, size_t n_bytes)
{
	struct registry_entry *entry = *bucket_of(registry, name, n_bytes);

	while (entry && (entry->n_name_bytes != n_bytes || memcmp(entry->name, name, n_bytes)))
		entry = entry->name_next;
	return entry;
}

/* The index of the first entry with an id of at least @id. */
static uint32_t find_index(const struct registry *registry, uint64_t id)
{
	uint32_t low = 0, high = registry->n_entries;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (registry->entries[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int registry_entry_room(struct registry *registry)
{
	uint32_t n = registry->n_alloced ? 2 * registry->n_alloced : 16;
	struct registry_entry **entries;

	if (registry->n_entries < registry->n_alloced)
		return 0;
	entries = realloc(registry->entries, n * sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	registry->entries = entries;
	registry->n_alloced = n;
	return 0;
}

void registry_entry_link(struct registry *registry, struct registry_entry *entry)
{
	struct registry_entry **bucket = bucket_of(registry, entry->name, entry->n_name_bytes);
	uint32_t i = find_index(registry, entry->id);

	memmove(registry->entries + i + 1, registry->entries + i,
		(registry->n_entries++ - i) * sizeof(*registry->entries));
	registry->entries[i] = entry;
	if (entry->n_name_bytes) {
		entry->name_next = *bucket;
		*bucket = entry;
	}
}

static int entry_add(struct registry *registry, struct registry_entry *entry)
{
	const struct registry_entry *other =
		entry->n_name_bytes ? registry_entry_by_name(registry, entry->name, entry->n_name_bytes) : NULL;
	int r;

	if (other)
		return other->is_lost ? REGISTRY_E_NAME_KEPT : REGISTRY_E_NAME_TAKEN;
	r = registry_entry_room(registry);
	if (r)
		return r;
	if (quota_charge(entry->account, QUOTA_POOLS, 1))
		return REGISTRY_E_QUOTA;
	entry->id = directory_next_pool(&registry->directory);
	registry_entry_link(registry, entry);
	return 0;
}

static void entry_remove(struct registry *registry, struct registry_entry *entry)
{
	struct registry_entry **place = bucket_of(registry, entry->name, entry->n_name_bytes);
	uint32_t i = find_index(registry, entry->id);

	registry->n_entries--;
	memmove(registry->entries + i, registry->entries + i + 1,
		(registry->n_entries - i) * sizeof(*registry->entries));
	if (entry->n_name_bytes) {
		while (*place != entry)
			place = &(*place)->name_next;
		*place = entry->name_next;
	}
	if (entry->account)
		quota_give_back(entry->account, QUOTA_POOLS, 1);
}

/* ---- open and close ---- */

/* Let go of everything, with the objects or without them. */
static void drop(struct registry *registry)
{
	for (uint32_t i = 0; i < registry->n_entries; i++) {
		if (registry->entries[i]->pool)
			pool_keep(registry->entries[i]->pool);
		free(registry->entries[i]);
	}
	directory_close(&registry->directory);
	budget_deinit(&registry->budget);
	quota_deinit(&registry->quota);
	pthread_mutex_destroy(&registry->mutex);
	free(registry->entries);
	free(registry);
}

static int init(struct registry *registry, const struct registry_config *config)
{
	int r;

	registry->directory = (struct directory)DIRECTORY_NULL;
	registry->env = (struct pool_env){
		.instance = registry->instance,
		.quota = &registry->quota,
		.budget = &registry->budget,
		.decay_ms = config->decay_ms,
		.decay_wanted = config->decay_wanted,
		.decay_arg = config->decay_arg,
		.tell = config->tell,
		.tell_arg = config->tell_arg,
	};
	r = -pthread_mutex_init(&registry->mutex, NULL);
	if (r)
		return r;
	r = quota_init(&registry->quota, geteuid(), config->quota_limit);
	if (r)
		goto err_mutex;
	r = budget_init(&registry->budget, config->budget_bytes);
	if (r)
		goto err_quota;
	return 0;

err_quota:
	quota_deinit(&registry->quota);
err_mutex:
	pthread_mutex_destroy(&registry->mutex);
	return r;
}

int registry_open(struct registry **registryp, const struct registry_config *config, int *n_sweptp)
{
	struct registry *registry;
	size_t n = strlen(config->instance);
	bool is_new;
	int r;

	if (!n || n > SEGMENT_INSTANCE_MAX || strchr(config->instance, '/'))
		return -EINVAL;
	registry = calloc(1, sizeof(*registry));
	if (!registry)
		return -ENOMEM;
	memcpy(registry->instance, config->instance, n + 1);
	r = init(registry, config);
	if (r) {
		free(registry);
		return r;
	}
	r = lock_instance(registry);
	is_new = !r && directory_is_new(&registry->directory);
	if (!r)
		r = registry_recover(registry, config, n_sweptp);
	if (r) {
		if (is_new) /* under the lock: nobody else has begun to use it */
			shm_unlink(registry->lock_name);
		drop(registry);
		return r;
	}
	*registryp = registry;
	return 0;
}

struct registry *registry_keep(struct registry *registry)
{
	if (!registry || directory_is_new(&registry->directory))
		return registry_close(registry); /* nothing was ever in it */
	directory_note_stop(&registry->directory);
	drop(registry);
	return NULL;
}

static bool keep_nothing(void *arg, const char *name)
{
	(void)arg;
	(void)name;
	return false;
}

struct registry *registry_close(struct registry *registry)
{
	struct pool_warning warning;
	int r;

	if (!registry)
		return NULL;
	for (uint32_t i = registry->n_entries; i-- > 0;) {
		struct pool *pool;

		if (registry->entries[i]->is_lost)
			continue;
		pool = pool_ref(registry->entries[i]->pool);
		r = registry_remove(registry, pool, false, NULL, &warning);
		assert(!r);
		pool_unref(pool);
	}
	r = segment_sweep(registry->instance, keep_nothing, NULL); /* of those that are lost */
	(void)r;						   /* what is left then, the next start removes */
	shm_unlink(registry->lock_name); /* under the lock: whoever gets it after us finds no name, or another object */
	drop(registry);
	return NULL;
}

struct quota *registry_quota(struct registry *registry)
{
	return &registry->quota;
}

const struct directory_recovery *registry_recovery(const struct registry *registry)
{
	return &registry->recovery;
}

void registry_figures(struct registry *registry, struct directory_recovery *out)
{
	struct pool_stats stats;

	*out = (struct directory_recovery){0};
	pthread_mutex_lock(&registry->mutex);
	for (uint32_t i = 0; i < registry->n_entries; i++) {
		if (!registry->entries[i]->pool)
			continue;
		pool_stats(registry->entries[i]->pool, &stats);
		out->n_pools++;
		out->n_blocks += stats.allocations;
		out->n_bytes += stats.used;
	}
	out->n_sessions = directory_count_sessions(&registry->directory);
	pthread_mutex_unlock(&registry->mutex);
}

uint32_t registry_recoveries(struct registry *registry, struct directory_recovery out[], uint32_t n_max,
			     uint64_t *totalp)
{
	uint32_t n;

	pthread_mutex_lock(&registry->mutex);
	*totalp = directory_n_recoveries(&registry->directory);
	n = directory_recoveries(&registry->directory, out, n_max);
	pthread_mutex_unlock(&registry->mutex);
	return n;
}

/* ---- pools ---- */

static int entry_new(struct registry_entry **entryp, struct registry *registry, const struct pool_options *options,
		     const struct registry_call *call)
{
	struct registry_entry *entry = calloc(1, sizeof(*entry));
	int r;

	if (!entry)
		return -ENOMEM;
	entry->owner = call && !options->n_name_bytes ? call->session : 0;
	entry->account = quota_account_of(&registry->quota, options->uid);
	entry->n_name_bytes = options->n_name_bytes;
	memcpy(entry->name, options->name, options->n_name_bytes);
	pthread_mutex_lock(&registry->mutex);
	r = entry->account ? entry_add(registry, entry) : -ENOMEM;
	pthread_mutex_unlock(&registry->mutex);
	if (r)
		free(entry);
	else
		*entryp = entry;
	return r;
}

/* Under the mutex: from here on the pool is there, for a daemon that starts after this one too. */
static int entry_commit(struct registry *registry, struct registry_entry *entry, struct pool *pool,
			const struct registry_call *call)
{
	struct directory_pool record = {.id = entry->id, .owner = entry->owner, .n_name_bytes = entry->n_name_bytes};
	int r;

	r = directory_reserve_pool(&registry->directory, &entry->index);
	if (r)
		return r;
	memcpy(record.name, entry->name, entry->n_name_bytes);
	snprintf(record.books, sizeof(record.books), "%s", pool_books_name(pool));
	snprintf(record.data, sizeof(record.data), "%s", pool_data_name(pool));
	snprintf(record.lease, sizeof(record.lease), "%s", pool_lease_name(pool));
	directory_add_pool(&registry->directory, entry->index, &record, call ? call->slot : 0,
			   call ? call->request : 0);
	entry->pool = pool;
	return 0;
}

static int create(struct registry *registry, const struct pool_options *options, const struct registry_call *call,
		  struct pool **poolp)
{
	struct registry_entry *entry;
	struct pool *pool = NULL;
	int r;

	if (options->n_name_bytes > NAME_BYTES_MAX)
		return POOL_E_INVALID + REGISTRY_POOL_E;
	r = entry_new(&entry, registry, options, call);
	if (r)
		return r;
	r = pool_new(&pool, &registry->env, entry->id, options);
	pthread_mutex_lock(&registry->mutex);
	if (!r)
		r = entry_commit(registry, entry, pool, call);
	if (r)
		entry_remove(registry, entry);
	pthread_mutex_unlock(&registry->mutex);
	if (r) {
		free(entry);
		if (pool)
			pool_unref(pool);
		return r < 0 ? r : r + REGISTRY_POOL_E;
	}
	*poolp = pool_ref(pool);
	return 0;
}

int registry_create(struct registry *registry, const struct pool_options *options, const struct registry_call *call,
		    struct pool **poolp)
{
	int r = create(registry, options, call, poolp);

	if (r && call)
		registry_answer(registry, call, r);
	return r;
}

static int take_ref(const struct registry_entry *entry, struct pool **poolp)
{
	if (entry && entry->is_lost)
		return REGISTRY_E_UNRECOVERED;
	if (!entry || !entry->pool)
		return REGISTRY_E_NO_POOL;
	*poolp = pool_ref(entry->pool);
	return 0;
}

int registry_find(struct registry *registry, const void *name, size_t n_name_bytes, struct pool **poolp)
{
	int r;

	pthread_mutex_lock(&registry->mutex);
	r = take_ref(n_name_bytes ? registry_entry_by_name(registry, name, n_name_bytes) : NULL, poolp);
	pthread_mutex_unlock(&registry->mutex);
	return r;
}

int registry_find_id(struct registry *registry, uint64_t id, struct pool **poolp)
{
	uint32_t i;
	int r;

	pthread_mutex_lock(&registry->mutex);
	i = find_index(registry, id);
	r = take_ref(i < registry->n_entries && registry->entries[i]->id == id ? registry->entries[i] : NULL, poolp);
	pthread_mutex_unlock(&registry->mutex);
	return r;
}

struct removal {
	struct registry *registry;
	const struct registry_entry *entry;
	const struct registry_call *call;
};

/* The commit of a destroy: before it nothing has happened, after it the objects are nobody's. */
static void forget_pool(void *arg)
{
	const struct removal *removal = arg;
	const struct registry_call *call = removal->call;

	if (removal->entry)
		directory_remove_pool(&removal->registry->directory, removal->entry->index, call ? call->slot : 0,
				      call ? call->request : 0);
}

int registry_remove(struct registry *registry, struct pool *pool, bool if_empty, const struct registry_call *call,
		    struct pool_warning *warning)
{
	struct removal removal = {.registry = registry, .call = call};
	struct registry_entry *entry = NULL;
	uint32_t i;
	int r;

	pool_keep_checks_off(pool);
	pool_survey(pool, if_empty);
	/* Destroyed under the registry's mutex, so that who finds it no more can take its name at once. */
	pthread_mutex_lock(&registry->mutex);
	i = find_index(registry, pool_id(pool));
	if (i < registry->n_entries && registry->entries[i]->pool == pool)
		removal.entry = registry->entries[i];
	r = pool_destroy_with(pool, if_empty, warning, forget_pool, &removal);
	if (!r && removal.entry) {
		entry = registry->entries[i];
		entry_remove(registry, entry);
	}
	if (r && call)
		directory_answer(&registry->directory, call->slot, call->request, r + REGISTRY_POOL_E);
	pthread_mutex_unlock(&registry->mutex);
	pool_let_checks_on(pool);
	if (entry)
		pool_unref(entry->pool);
	free(entry);
	return r;
}

/* What is not exactly as we make it stays, as ever. */
static void unlink_object(const struct registry *registry, const char *name)
{
	struct segment segment;

	if (!*name || segment_open(&segment, registry->instance, name))
		return;
	segment_unlink(&segment);
	segment_deinit(&segment);
}

/* As a destroy: the record first. What a kill leaves of the objects, the next start removes. */
int registry_forget(struct registry *registry, const void *name, size_t n_name_bytes, const struct registry_call *call)
{
	struct registry_entry *entry;
	struct directory_pool record;

	pthread_mutex_lock(&registry->mutex);
	entry = registry_entry_by_name(registry, name, n_name_bytes);
	if (!entry || !entry->is_lost || !directory_pool(&registry->directory, entry->index, &record)) {
		pthread_mutex_unlock(&registry->mutex);
		return REGISTRY_E_NO_POOL;
	}
	directory_remove_pool(&registry->directory, entry->index, call ? call->slot : 0, call ? call->request : 0);
	entry_remove(registry, entry);
	pthread_mutex_unlock(&registry->mutex);
	unlink_object(registry, record.data); /* frees its pages, which takes long */
	unlink_object(registry, record.lease);
	unlink_object(registry, record.books);
	free(entry);
	return 0;
}

uint64_t registry_owner(struct registry *registry, uint64_t pool)
{
	uint64_t owner = 0;
	uint32_t i;

	pthread_mutex_lock(&registry->mutex);
	i = find_index(registry, pool);
	if (i < registry->n_entries && registry->entries[i]->id == pool)
		owner = registry->entries[i]->owner;
	pthread_mutex_unlock(&registry->mutex);
	return owner;
}

/* The next private pool of @session above @after, with a reference. */
static struct pool *next_owned(struct registry *registry, uint64_t session, uint64_t after)
{
	struct pool *pool = NULL;

	pthread_mutex_lock(&registry->mutex);
	for (uint32_t i = find_index(registry, after + 1); !pool && i < registry->n_entries; i++)
		if (registry->entries[i]->owner == session)
			take_ref(registry->entries[i], &pool);
	pthread_mutex_unlock(&registry->mutex);
	return pool;
}

void registry_remove_owned(struct registry *registry, uint64_t session)
{
	struct pool_warning warning;
	struct pool *pool;
	uint64_t after = 0;

	while ((pool = next_owned(registry, session, after))) {
		int r = registry_remove(registry, pool, false, NULL, &warning);

		(void)r; /* destroyed already, at most */
		after = pool_id(pool);
		pool_unref(pool);
	}
}

static uint32_t list(struct registry *registry, uint64_t after, bool with_private, struct pool *pools[], uint32_t n_max)
{
	uint32_t n = 0;

	pthread_mutex_lock(&registry->mutex);
	for (uint32_t i = after == UINT64_MAX ? registry->n_entries : find_index(registry, after + 1);
	     n < n_max && i < registry->n_entries; i++)
		if ((with_private || registry->entries[i]->n_name_bytes) && !take_ref(registry->entries[i], pools + n))
			n++;
	pthread_mutex_unlock(&registry->mutex);
	return n;
}

uint32_t registry_list(struct registry *registry, uint64_t after, struct pool *pools[], uint32_t n_max)
{
	return list(registry, after, false, pools, n_max);
}

uint32_t registry_list_all(struct registry *registry, uint64_t after, struct pool *pools[], uint32_t n_max)
{
	return list(registry, after, true, pools, n_max);
}

/* ---- decay ---- */

/* The next pool above @after, private ones too, with a reference. */
static struct pool *next_pool(struct registry *registry, uint64_t after)
{
	struct pool *pool = NULL;

	pthread_mutex_lock(&registry->mutex);
	for (uint32_t i = find_index(registry, after + 1); !pool && i < registry->n_entries; i++)
		take_ref(registry->entries[i], &pool);
	pthread_mutex_unlock(&registry->mutex);
	return pool;
}

uint64_t registry_decay_step(struct registry *registry)
{
	uint64_t earliest = UINT64_MAX, ms, after = 0;
	struct pool *pool;

	while ((pool = next_pool(registry, after))) {
		ms = pool_decay_step(pool);
		earliest = ms < earliest ? ms : earliest;
		after = pool_id(pool);
		pool_unref(pool);
	}
	return earliest;
}
