// SPDX-License-Identifier: MIT
/*
 * Entries are in an array by rising id, to which new ones are appended, and hang in buckets by name. A pool is being made
 * without the mutex, which may take long; its entry is there before, without a pool, so that its name is taken.
 *
 * The lock is an open-file-description lock: it goes with the descriptor, not with any other that the process happens to
 * close, and a killed daemon lets go of it. It lies on an object that the last owner removes under the lock; so whoever
 * got it looks whether the name still leads to what he locked.
 */
#include "pool/registry.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define N_BUCKETS    1024u /* simply picked: a quota's worth of pools for each of some users */
#define N_LOCK_TRIES 100   /* times that another daemon may end just now */
#define SUGGEST_MOST 2u	   /* edits between what was typed and what was meant */

struct entry {
	uint64_t id;
	struct pool *pool;	       /* one reference; NULL while it is being made */
	struct quota_account *account; /* charged with one pool */
	struct entry *name_next;       /* in its bucket; private pools are in none */
	uint32_t n_name_bytes;
	uint8_t name[NAME_BYTES_MAX];
};

struct registry {
	char instance[SEGMENT_INSTANCE_MAX + 1];
	char lock_name[SEGMENT_NAME_BYTES];
	int lock_fd; /* owned; while it is open, the instance is ours */
	struct quota quota;
	struct budget budget;
	struct pool_env env;

	pthread_mutex_t mutex;	/* all below */
	uint64_t n_sessions;	/* ids given so far */
	uint64_t n_pools;	/* likewise */
	struct entry **entries; /* [n_entries], by rising id */
	uint32_t n_entries, n_alloced;
	struct entry *buckets[N_BUCKETS];
};

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

/* Return: 0, and the lock is held; REGISTRY_E_IN_USE; -EAGAIN: it was removed meanwhile; -errno */
static int try_lock(const char *name, int *fdp)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = shm_open(name, O_CREAT | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600), r = 0;
	struct stat locked;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &locked))
		r = -errno;
	else if (!is_sound(&locked))
		r = -EPERM;
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
	int r = -EAGAIN;

	snprintf(registry->lock_name, sizeof(registry->lock_name), "/mempool.%s", registry->instance);
	for (int i = 0; r == -EAGAIN && i < N_LOCK_TRIES; i++)
		r = try_lock(registry->lock_name, &registry->lock_fd);
	return r;
}

/* ---- open and close ---- */

int registry_open(struct registry **registryp, const struct registry_config *config, int *n_sweptp)
{
	struct registry *registry;
	size_t n = strlen(config->instance);
	int r, n_swept;

	if (!n || n > SEGMENT_INSTANCE_MAX || strchr(config->instance, '/'))
		return -EINVAL;
	registry = calloc(1, sizeof(*registry));
	if (!registry)
		return -ENOMEM;
	memcpy(registry->instance, config->instance, n + 1);
	r = -pthread_mutex_init(&registry->mutex, NULL);
	if (r)
		goto err_free;
	r = quota_init(&registry->quota, geteuid(), config->quota_limit);
	if (r)
		goto err_mutex;
	r = budget_init(&registry->budget, config->budget_bytes);
	if (r)
		goto err_quota;
	r = lock_instance(registry);
	if (r)
		goto err_budget;
	n_swept = segment_sweep(registry->instance);
	r = n_swept < 0 ? n_swept : 0;
	if (r)
		goto err_lock;
	registry->env = (struct pool_env){
		.instance = registry->instance,
		.quota = &registry->quota,
		.budget = &registry->budget,
		.decay_ms = config->decay_ms,
		.decay_wanted = config->decay_wanted,
		.decay_arg = config->decay_arg,
	};
	*n_sweptp = n_swept;
	*registryp = registry;
	return 0;

err_lock:
	shm_unlink(registry->lock_name);
	close(registry->lock_fd);
err_budget:
	budget_deinit(&registry->budget);
err_quota:
	quota_deinit(&registry->quota);
err_mutex:
	pthread_mutex_destroy(&registry->mutex);
err_free:
	free(registry);
	return r;
}

struct registry *registry_close(struct registry *registry)
{
	struct pool_warning warning;
	int r;

	if (!registry)
		return NULL;
	while (registry->n_entries) {
		struct pool *pool = pool_ref(registry->entries[registry->n_entries - 1]->pool);

		r = registry_remove(registry, pool, false, &warning);
		assert(!r);
		(void)r;
		pool_unref(pool);
	}
	shm_unlink(registry->lock_name); /* under the lock: whoever gets it after us finds no name, or another object */
	close(registry->lock_fd);
	budget_deinit(&registry->budget);
	quota_deinit(&registry->quota);
	pthread_mutex_destroy(&registry->mutex);
	free(registry->entries);
	free(registry);
	return NULL;
}

struct quota *registry_quota(struct registry *registry)
{
	return &registry->quota;
}

uint64_t registry_next_session(struct registry *registry)
{
	uint64_t id;

	pthread_mutex_lock(&registry->mutex);
	id = ++registry->n_sessions;
	pthread_mutex_unlock(&registry->mutex);
	return id;
}

/* ---- entries: under the mutex ---- */

static struct entry **bucket_of(struct registry *registry, const void *name, size_t n_bytes)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a; who floods a bucket is limited by his quota of pools */

	for (size_t i = 0; i < n_bytes; i++)
		hash = (hash ^ ((const uint8_t *)name)[i]) * UINT64_C(0x100000001b3);
	return &registry->buckets[hash % N_BUCKETS];
}

static struct entry *find_name(struct registry *registry, const void *name, size_t n_bytes)
{
	struct entry *entry = *bucket_of(registry, name, n_bytes);

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

static int make_room(struct registry *registry)
{
	uint32_t n = registry->n_alloced ? 2 * registry->n_alloced : 16;
	struct entry **entries;

	if (registry->n_entries < registry->n_alloced)
		return 0;
	entries = realloc(registry->entries, n * sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	registry->entries = entries;
	registry->n_alloced = n;
	return 0;
}

static int entry_add(struct registry *registry, struct entry *entry)
{
	struct entry **bucket = bucket_of(registry, entry->name, entry->n_name_bytes);
	int r;

	if (entry->n_name_bytes && find_name(registry, entry->name, entry->n_name_bytes))
		return REGISTRY_E_NAME_TAKEN;
	r = make_room(registry);
	if (r)
		return r;
	if (quota_charge(entry->account, QUOTA_POOLS, 1))
		return REGISTRY_E_QUOTA;
	entry->id = ++registry->n_pools;
	registry->entries[registry->n_entries++] = entry;
	if (entry->n_name_bytes) {
		entry->name_next = *bucket;
		*bucket = entry;
	}
	return 0;
}

static void entry_remove(struct registry *registry, struct entry *entry)
{
	struct entry **place = bucket_of(registry, entry->name, entry->n_name_bytes);
	uint32_t i = find_index(registry, entry->id);

	registry->n_entries--;
	memmove(registry->entries + i, registry->entries + i + 1,
		(registry->n_entries - i) * sizeof(*registry->entries));
	if (entry->n_name_bytes) {
		while (*place != entry)
			place = &(*place)->name_next;
		*place = entry->name_next;
	}
	quota_give_back(entry->account, QUOTA_POOLS, 1);
}

/* ---- pools ---- */

static int entry_new(struct entry **entryp, struct registry *registry, const struct pool_options *options)
{
	struct entry *entry = calloc(1, sizeof(*entry));
	int r;

	if (!entry)
		return -ENOMEM;
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

int registry_create(struct registry *registry, const struct pool_options *options, struct pool **poolp)
{
	struct entry *entry;
	struct pool *pool;
	int r;

	if (options->n_name_bytes > NAME_BYTES_MAX)
		return POOL_E_INVALID + REGISTRY_POOL_E;
	r = entry_new(&entry, registry, options);
	if (r)
		return r;
	r = pool_new(&pool, &registry->env, entry->id, options);
	pthread_mutex_lock(&registry->mutex);
	if (r)
		entry_remove(registry, entry);
	else
		entry->pool = pool;
	pthread_mutex_unlock(&registry->mutex);
	if (r) {
		free(entry);
		return r < 0 ? r : r + REGISTRY_POOL_E;
	}
	*poolp = pool_ref(pool);
	return 0;
}

static int take_ref(const struct entry *entry, struct pool **poolp)
{
	if (!entry || !entry->pool)
		return REGISTRY_E_NO_POOL;
	*poolp = pool_ref(entry->pool);
	return 0;
}

int registry_find(struct registry *registry, const void *name, size_t n_name_bytes, struct pool **poolp)
{
	int r;

	pthread_mutex_lock(&registry->mutex);
	r = take_ref(n_name_bytes ? find_name(registry, name, n_name_bytes) : NULL, poolp);
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

int registry_remove(struct registry *registry, struct pool *pool, bool if_empty, struct pool_warning *warning)
{
	struct entry *entry = NULL;
	uint32_t i;
	int r;

	/* Destroyed under the registry's mutex, so that who finds it no more can take its name at once. */
	pthread_mutex_lock(&registry->mutex);
	r = pool_destroy(pool, if_empty, warning);
	i = find_index(registry, pool_id(pool));
	if (!r && i < registry->n_entries && registry->entries[i]->pool == pool) {
		entry = registry->entries[i];
		entry_remove(registry, entry);
	}
	pthread_mutex_unlock(&registry->mutex);
	if (entry)
		pool_unref(entry->pool);
	free(entry);
	return r;
}

uint32_t registry_list(struct registry *registry, uint64_t after, struct pool *pools[], uint32_t n_max)
{
	uint32_t n = 0;

	pthread_mutex_lock(&registry->mutex);
	for (uint32_t i = after == UINT64_MAX ? registry->n_entries : find_index(registry, after + 1);
	     n < n_max && i < registry->n_entries; i++)
		if (registry->entries[i]->n_name_bytes && !take_ref(registry->entries[i], pools + n))
			n++;
	pthread_mutex_unlock(&registry->mutex);
	return n;
}

/* ---- a name that was meant ---- */

/* Edits (insert, delete, replace) that make @b of @a (Wagner, Fischer 1974); two rows of the table. */
static uint32_t edit_distance(const uint8_t *a, uint32_t n_a, const uint8_t *b, uint32_t n_b)
{
	uint32_t rows[2][NAME_BYTES_MAX + 1], best;

	for (uint32_t j = 0; j <= n_b; j++)
		rows[0][j] = j;
	for (uint32_t i = 1; i <= n_a; i++) {
		const uint32_t *above = rows[(i - 1) % 2];
		uint32_t *row = rows[i % 2];

		row[0] = i;
		for (uint32_t j = 1; j <= n_b; j++) {
			best = above[j - 1] + (a[i - 1] != b[j - 1]);
			best = above[j] + 1 < best ? above[j] + 1 : best;
			row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
		}
	}
	return rows[n_a % 2][n_b];
}

void registry_suggest(struct registry *registry, const void *name, size_t n_name_bytes,
		      char out[static NAME_BYTES_MAX + 1])
{
	uint32_t nearest = SUGGEST_MOST + 1, distance;

	out[0] = '\0';
	if (n_name_bytes > NAME_BYTES_MAX)
		return;
	pthread_mutex_lock(&registry->mutex);
	for (uint32_t i = 0; i < registry->n_entries; i++) {
		const struct entry *entry = registry->entries[i];

		if (!entry->n_name_bytes || !entry->pool)
			continue;
		distance = edit_distance(name, (uint32_t)n_name_bytes, entry->name, entry->n_name_bytes);
		if (distance >= nearest)
			continue;
		nearest = distance;
		memcpy(out, entry->name, entry->n_name_bytes);
		out[entry->n_name_bytes] = '\0';
	}
	pthread_mutex_unlock(&registry->mutex);
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
