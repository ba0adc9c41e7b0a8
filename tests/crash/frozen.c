// SPDX-License-Identifier: MIT
/*
 * What a look costs is paid for each step: an fstat() of each object and a memcmp() of the pages that count, of which there
 * are some dozens in a small pool. Of a ledger they are found again whenever its header has changed; of others they are those
 * with content, for to look at a hole would fill it.
 */
#include "frozen.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "must.h"
#include "pool/directory.h"
#include "pool/pool_internal.h"

#define PAGE 4096u

/* ---- watch ---- */

/* By pread(): a ledger's first page is there, others' may be a hole. */
static bool is_ledger(const struct watched *object)
{
	uint64_t magic = 0;

	return object->map && pread(object->fd, &magic, sizeof(magic), offsetof(struct ledger_header, magic)) > 0 &&
	       magic == LEDGER_MAGIC;
}

static void add_range(struct watched *object, size_t begin, size_t end)
{
	struct watch_range *last = object->n_ranges ? &object->ranges[object->n_ranges - 1] : NULL;

	if (begin == end)
		return;
	if (last && last->end == begin) {
		last->end = end;
		return;
	}
	must(object->n_ranges < WATCH_RANGES_MAX && end <= object->n_bytes,
	     "the tables are where they are thought to be");
	object->ranges[object->n_ranges++] = (struct watch_range){.begin = begin, .end = end};
}

static struct ledger_shape tables_of(const struct ledger_header *header)
{
	switch ((uint64_t)header->kind) {
	case LEDGER_POOL:
		return pool_shape(header->max_bytes);
	case LEDGER_REGISTRY:
		return directory_shape();
	default: /* being made */
		return (struct ledger_shape){.n_max = {0}};
	}
}

/* The header, and of each table what counts. */
static void find_tables(struct watched *object)
{
	const struct ledger_header *header = (const void *)object->map;
	const struct ledger_shape shape = tables_of(header);
	size_t at = PAGE;

	object->n_ranges = 0;
	add_range(object, 0, PAGE);
	for (int id = 0; header->kind && id < LEDGER_TABLE_N; id++) {
		size_t elem_bytes = shape.elem_bytes[id];

		add_range(object, at, at + round_up(header->n_backed[id] * elem_bytes, PAGE));
		at += round_up(elem_bytes * shape.n_max[id], PAGE);
	}
}

static void find_content(struct watched *object)
{
	off_t at = object->n_blocks ? lseek(object->fd, 0, SEEK_DATA) : -1, end;

	object->n_ranges = 0;
	for (; at >= 0; at = lseek(object->fd, end, SEEK_DATA)) {
		end = lseek(object->fd, at, SEEK_HOLE);
		must(end > at, "lseek");
		add_range(object, (size_t)at, (size_t)end);
	}
}

static void find_ranges(struct watched *object)
{
	if (!is_ledger(object))
		find_content(object);
	else if (!object->n_ranges || memcmp(object->map, object->shadow, sizeof(struct ledger_header)))
		find_tables(object);
}

static void unmap(struct watched *object)
{
	if (object->map)
		munmap(object->map, object->n_bytes);
	if (object->shadow)
		munmap(object->shadow, object->n_bytes);
	object->map = object->shadow = NULL;
	object->n_ranges = 0;
}

static void map(struct watched *object)
{
	const int flags = MAP_NORESERVE;

	unmap(object);
	if (!object->n_bytes)
		return;
	object->map = mmap(NULL, object->n_bytes, PROT_READ, MAP_SHARED | flags, object->fd, 0);
	object->shadow =
		mmap(NULL, object->n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	must(object->map != MAP_FAILED && object->shadow != MAP_FAILED, "mmap");
}

static bool look_at(struct watched *object)
{
	bool changed = false;
	struct stat st;

	must(!fstat(object->fd, &st), "fstat");
	if ((uint64_t)st.st_size != object->n_bytes) {
		unmap(object);
		object->n_bytes = (uint64_t)st.st_size;
		map(object);
		changed = true;
	}
	changed |= object->n_blocks != (uint64_t)st.st_blocks || object->n_links != st.st_nlink;
	object->n_blocks = (uint64_t)st.st_blocks;
	object->n_links = st.st_nlink;
	find_ranges(object);
	for (unsigned i = 0; i < object->n_ranges; i++) {
		const struct watch_range *range = &object->ranges[i];

		if (!memcmp(object->map + range->begin, object->shadow + range->begin, range->end - range->begin))
			continue;
		memcpy(object->shadow + range->begin, object->map + range->begin, range->end - range->begin);
		changed = true;
	}
	return changed;
}

static bool is_known(const struct watch *watch, const char *name)
{
	for (unsigned i = 0; i < watch->n_objects; i++)
		if (!strcmp(watch->objects[i].name, name) && watch->objects[i].n_links)
			return true;
	return false;
}

/* The directory, or another object of the instance. */
static bool is_ours(const struct watch *watch, const char *file)
{
	char prefix[SEGMENT_NAME_BYTES];
	int n = snprintf(prefix, sizeof(prefix), "mempool.%s", watch->instance);

	return !strncmp(file, prefix, (size_t)n) && (!file[n] || file[n] == '.');
}

static void find_objects(struct watch *watch)
{
	DIR *folder = opendir("/dev/shm");
	const struct dirent *entry;

	must(folder, "opendir");
	while ((entry = readdir(folder))) {
		struct watched *object = &watch->objects[watch->n_objects];
		char name[NAME_MAX + 2];

		snprintf(name, sizeof(name), "/%s", entry->d_name);
		if (!is_ours(watch, entry->d_name) || is_known(watch, name))
			continue;
		must(watch->n_objects < N_ELEMENTS(watch->objects) && strlen(name) < sizeof(object->name),
		     "a scene has few objects");
		*object = (struct watched){.fd = shm_open(name, O_RDWR | O_CLOEXEC, 0)};
		memcpy(object->name, name, strlen(name) + 1);
		if (object->fd >= 0)
			watch->n_objects++;
	}
	closedir(folder);
}

/* Others come and go there too: where one more and one less leave the size as it was, the time has changed. */
static bool folder_has_changed(struct watch *watch)
{
	struct stat st;
	int64_t ns;

	must(!stat("/dev/shm", &st), "stat");
	ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	if (st.st_size == watch->folder_bytes && ns == watch->folder_ns)
		return false;
	watch->folder_bytes = st.st_size;
	watch->folder_ns = ns;
	return true;
}

bool watch_look(struct watch *watch)
{
	bool changed = false;

	if (folder_has_changed(watch))
		find_objects(watch);
	for (unsigned i = 0; i < watch->n_objects; i++)
		changed |= look_at(&watch->objects[i]);
	return changed;
}

void watch_begin(struct watch *watch, const char *instance)
{
	*watch = (struct watch){.folder_bytes = -1, .folder_ns = -1};
	snprintf(watch->instance, sizeof(watch->instance), "%s", instance);
	watch_look(watch);
}

void watch_end(struct watch *watch)
{
	for (unsigned i = 0; i < watch->n_objects; i++) {
		unmap(&watch->objects[i]);
		close(watch->objects[i].fd);
	}
	watch->n_objects = 0;
}

/* ---- frozen ---- */

static void take_bytes(struct frozen_object *frozen, const struct watched *object)
{
	size_t n = 0;

	memcpy(frozen->ranges, object->ranges, sizeof(object->ranges));
	frozen->n_ranges = object->n_ranges;
	for (unsigned i = 0; i < object->n_ranges; i++)
		n += object->ranges[i].end - object->ranges[i].begin;
	frozen->bytes = malloc(n + 1);
	must(frozen->bytes, "malloc");
	n = 0;
	for (unsigned i = 0; i < object->n_ranges; i++) {
		memcpy(frozen->bytes + n, object->shadow + object->ranges[i].begin,
		       object->ranges[i].end - object->ranges[i].begin);
		n += object->ranges[i].end - object->ranges[i].begin;
	}
}

void frozen_take(struct frozen *frozen, const struct watch *watch)
{
	frozen->n_objects = 0;
	for (unsigned i = 0; i < watch->n_objects; i++) {
		const struct watched *object = &watch->objects[i];
		struct frozen_object *taken = &frozen->objects[frozen->n_objects];

		if (!object->n_links)
			continue;
		*taken = (struct frozen_object){.is_ledger = is_ledger(object),
						.n_bytes = object->n_bytes,
						.kernel_bytes = object->n_blocks * 512};
		memcpy(taken->name, object->name, sizeof(taken->name));
		take_bytes(taken, object);
		frozen->n_objects++;
	}
}

void frozen_free(struct frozen *frozen)
{
	for (unsigned i = 0; i < frozen->n_objects; i++)
		free(frozen->objects[i].bytes);
	frozen->n_objects = 0;
}

static const struct frozen_object *find(const struct frozen *frozen, bool is_ledger)
{
	for (unsigned i = 0; i < frozen->n_objects; i++)
		if (frozen->objects[i].is_ledger == is_ledger)
			return &frozen->objects[i];
	return NULL;
}

const struct frozen_object *frozen_books(const struct frozen *frozen)
{
	return find(frozen, true);
}

const struct frozen_object *frozen_data(const struct frozen *frozen)
{
	return find(frozen, false);
}

static void thaw(const struct frozen_object *frozen, bool all_memory, int fd)
{
	const uint8_t *from = frozen->bytes;

	must(!ftruncate(fd, (off_t)frozen->n_bytes), "ftruncate");
	if (all_memory && !frozen->is_ledger && frozen->n_bytes)
		must(!posix_fallocate(fd, 0, (off_t)frozen->n_bytes), "posix_fallocate");
	for (unsigned i = 0; i < frozen->n_ranges; i++) {
		size_t n = frozen->ranges[i].end - frozen->ranges[i].begin;

		must(pwrite(fd, from, n, (off_t)frozen->ranges[i].begin) == (ssize_t)n, "pwrite");
		from += n;
	}
}

void frozen_thaw(const struct frozen *frozen, bool all_memory)
{
	for (unsigned i = 0; i < frozen->n_objects; i++) {
		int fd = shm_open(frozen->objects[i].name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

		must(fd >= 0, "shm_open");
		thaw(&frozen->objects[i], all_memory, fd);
		close(fd);
	}
}

void frozen_thaw_pool(const struct frozen *frozen, const char *instance, bool all_memory, struct segment *books,
		      struct segment *data)
{
	const struct frozen_object *from = frozen_books(frozen);

	must(!segment_create(books, instance) && !segment_create(data, instance), "segment_create");
	if (frozen_data(frozen))
		thaw(frozen_data(frozen), all_memory, data->fd);
	if (from) {
		thaw(from, all_memory, books->fd);
		must(pwrite(books->fd, data->name, sizeof(data->name), offsetof(struct ledger_header, data_object)) ==
			     (ssize_t)sizeof(data->name),
		     "pwrite");
	}
	if (!frozen_data(frozen))
		segment_unlink(data);
}
