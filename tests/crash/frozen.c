// SPDX-License-Identifier: MIT
/*
 * What a look costs is paid for each instruction: two fstat() and a memcmp() of the pages that count, of which there are some
 * dozens in a small pool. Where they are is found again whenever the header has changed.
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
#include "pool/pool_internal.h"

#define PAGE 4096u

/* ---- watch ---- */

static bool is_ledger(const struct watched *object)
{
	return object->map && ((const struct ledger_header *)(const void *)object->map)->magic == LEDGER_MAGIC;
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

/* The header, and of each table what counts. */
static void find_ranges(struct watched *object)
{
	const struct ledger_header *header = (const void *)object->map;
	size_t at = PAGE;

	object->n_ranges = 0;
	if (!is_ledger(object))
		return;
	add_range(object, 0, PAGE);
	for (int id = 0; header->kind == LEDGER_POOL && id < LEDGER_TABLE_N; id++) {
		const struct ledger_shape shape = pool_shape(header->max_bytes);
		size_t elem_bytes = shape.elem_bytes[id];

		add_range(object, at, at + round_up(header->n_backed[id] * elem_bytes, PAGE));
		at += round_up(elem_bytes * shape.n_max[id], PAGE);
	}
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
	object->map = mmap(NULL, object->n_bytes, PROT_READ, MAP_SHARED | flags, object->segment.fd, 0);
	object->shadow =
		mmap(NULL, object->n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	must(object->map != MAP_FAILED && object->shadow != MAP_FAILED, "mmap");
}

static bool look_at(struct watched *object)
{
	bool changed = false;
	struct stat st;

	must(!fstat(object->segment.fd, &st), "fstat");
	if ((uint64_t)st.st_size != object->n_bytes) {
		unmap(object);
		object->n_bytes = (uint64_t)st.st_size;
		map(object);
		changed = true;
	}
	changed |= object->n_blocks != (uint64_t)st.st_blocks || object->n_links != st.st_nlink;
	object->n_blocks = (uint64_t)st.st_blocks;
	object->n_links = st.st_nlink;
	if (!object->n_ranges || memcmp(object->map, object->shadow, sizeof(struct ledger_header)))
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
		if (!strcmp(watch->objects[i].segment.name, name))
			return true;
	return false;
}

static void find_objects(struct watch *watch)
{
	DIR *folder = opendir("/dev/shm");
	char prefix[SEGMENT_NAME_BYTES], name[NAME_MAX + 2];
	const struct dirent *entry;

	must(folder, "opendir");
	snprintf(prefix, sizeof(prefix), "mempool.%s.", watch->instance);
	while ((entry = readdir(folder))) {
		struct watched *object = &watch->objects[watch->n_objects];

		snprintf(name, sizeof(name), "/%s", entry->d_name);
		if (strncmp(entry->d_name, prefix, strlen(prefix)) || is_known(watch, name))
			continue;
		must(watch->n_objects < N_ELEMENTS(watch->objects), "a pool has two objects");
		*object = (struct watched){0};
		if (!segment_open(&object->segment, watch->instance, name))
			watch->n_objects++;
	}
	closedir(folder);
}

bool watch_look(struct watch *watch)
{
	bool changed = false;
	struct stat st;

	if (watch->n_objects < N_ELEMENTS(watch->objects)) {
		must(!stat("/dev/shm", &st), "stat");
		if (st.st_size != watch->folder_bytes)
			find_objects(watch);
		watch->folder_bytes = st.st_size;
	}
	for (unsigned i = 0; i < watch->n_objects; i++)
		changed |= look_at(&watch->objects[i]);
	return changed;
}

void watch_begin(struct watch *watch, const char *instance)
{
	*watch = (struct watch){.folder_bytes = -1};
	snprintf(watch->instance, sizeof(watch->instance), "%s", instance);
	watch_look(watch);
}

void watch_end(struct watch *watch)
{
	for (unsigned i = 0; i < watch->n_objects; i++) {
		unmap(&watch->objects[i]);
		segment_deinit(&watch->objects[i].segment);
	}
	watch->n_objects = 0;
}

/* ---- frozen ---- */

static void take_books(struct frozen *frozen, const struct watched *books)
{
	size_t n = 0;

	memcpy(frozen->ranges, books->ranges, sizeof(books->ranges));
	frozen->n_ranges = books->n_ranges;
	frozen->n_bytes = books->n_bytes;
	for (unsigned i = 0; i < books->n_ranges; i++)
		n += books->ranges[i].end - books->ranges[i].begin;
	frozen->bytes = malloc(n);
	must(frozen->bytes, "malloc");
	n = 0;
	for (unsigned i = 0; i < books->n_ranges; i++) {
		memcpy(frozen->bytes + n, books->shadow + books->ranges[i].begin,
		       books->ranges[i].end - books->ranges[i].begin);
		n += books->ranges[i].end - books->ranges[i].begin;
	}
}

void frozen_take(struct frozen *frozen, const struct watch *watch)
{
	*frozen = (struct frozen){0};
	for (unsigned i = 0; i < watch->n_objects; i++) {
		const struct watched *object = &watch->objects[i];

		if (is_ledger(object)) {
			if (object->n_links)
				take_books(frozen, object);
			continue;
		}
		frozen->has_data |= object->n_links > 0;
		frozen->data_bytes = object->n_bytes;
		frozen->data_kernel_bytes = object->n_blocks * 512;
	}
}

void frozen_free(struct frozen *frozen)
{
	free(frozen->bytes);
	frozen->bytes = NULL;
}

void frozen_thaw(const struct frozen *frozen, const char *instance, bool all_memory, struct segment *books,
		 struct segment *data)
{
	const uint8_t *from = frozen->bytes;

	must(!segment_create(books, instance) && !segment_create(data, instance), "segment_create");
	must(!ftruncate(books->fd, (off_t)frozen->n_bytes) && !ftruncate(data->fd, (off_t)frozen->data_bytes),
	     "ftruncate");
	if (all_memory && frozen->data_bytes)
		must(!posix_fallocate(data->fd, 0, (off_t)frozen->data_bytes), "posix_fallocate");
	for (unsigned i = 0; i < frozen->n_ranges; i++) {
		size_t n = frozen->ranges[i].end - frozen->ranges[i].begin;

		must(pwrite(books->fd, from, n, (off_t)frozen->ranges[i].begin) == (ssize_t)n, "pwrite");
		from += n;
	}
	if (frozen->bytes)
		must(pwrite(books->fd, data->name, sizeof(data->name), offsetof(struct ledger_header, data_object)) ==
			     (ssize_t)sizeof(data->name),
		     "pwrite");
	if (!frozen->has_data)
		segment_unlink(data);
}
