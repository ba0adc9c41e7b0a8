// SPDX-License-Identifier: MIT
#include "client/mapping.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "client/process.h"

#define BOUNDARY   ((uint64_t)2 << 20) /* the largest alignment of a block */
#define PAGE_BYTES 4096u

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* the list */
static struct mapping *mappings;

void mapping_forget_all(void)
{
	pthread_mutex_init(&mutex, NULL);
	mappings = NULL;
}

/* Reserve enough to find a boundary in, map there, give the rest back. */
static int map(struct mapping *mapping, int fd)
{
	uint64_t n_reserve;
	uint8_t *reserve, *base;

	if (__builtin_add_overflow(mapping->n_bytes, BOUNDARY, &n_reserve))
		return -ENOMEM;
	reserve = mmap(NULL, n_reserve, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserve == MAP_FAILED)
		return -errno;
	base = (uint8_t *)round_up((uintptr_t)reserve, BOUNDARY);
	if (mmap(base, mapping->n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
	    mprotect(base, PAGE_BYTES, PROT_NONE)) {
		int r = -errno;

		munmap(reserve, n_reserve);
		return r;
	}
	if (base > reserve)
		munmap(reserve, (size_t)(base - reserve));
	munmap(base + mapping->n_bytes, (size_t)(reserve + n_reserve - (base + mapping->n_bytes)));
	mapping->base = base;
	return 0;
}

static int find_or_map(struct mapping **mappingp, int fd, const struct stat *st, uint64_t n_bytes, uint64_t generation)
{
	struct mapping *mapping;
	int r;

	for (mapping = mappings; mapping; mapping = mapping->next) {
		if (mapping->device == st->st_dev && mapping->inode == st->st_ino && mapping->n_bytes == n_bytes) {
			atomic_fetch_add(&mapping->n_refs, 1);
			*mappingp = mapping;
			return 0;
		}
	}
	mapping = calloc(1, sizeof(*mapping));
	if (!mapping)
		return -ENOMEM;
	mapping->generation = generation;
	mapping->device = st->st_dev;
	mapping->inode = st->st_ino;
	mapping->n_bytes = n_bytes;
	atomic_init(&mapping->n_known, 0);
	atomic_init(&mapping->n_refs, 1);
	r = map(mapping, fd);
	if (r) {
		free(mapping);
		return r;
	}
	mapping->next = mappings;
	mappings = mapping;
	*mappingp = mapping;
	return 0;
}

int mapping_open(struct mapping **mappingp, int fd, uint64_t n_bytes, uint64_t generation)
{
	struct stat st;
	int r;

	if (fstat(fd, &st))
		return -errno;
	pthread_mutex_lock(&mutex);
	r = find_or_map(mappingp, fd, &st, round_up(n_bytes, PAGE_BYTES), generation);
	pthread_mutex_unlock(&mutex);
	return r;
}

static void unlink_mapping(const struct mapping *mapping)
{
	struct mapping **at = &mappings;

	while (*at && *at != mapping)
		at = &(*at)->next;
	if (*at)
		*at = mapping->next;
}

void mapping_close(struct mapping *mapping)
{
	bool is_ours = process_is(mapping->generation);
	bool is_last;

	if (is_ours)
		pthread_mutex_lock(&mutex);
	is_last = atomic_fetch_sub(&mapping->n_refs, 1) == 1;
	if (is_ours && is_last)
		unlink_mapping(mapping);
	if (is_ours)
		pthread_mutex_unlock(&mutex);
	if (is_last) {
		munmap(mapping->base, mapping->n_bytes);
		free(mapping);
	}
}

void mapping_touch(const uint8_t *base, uint64_t n_mapped, uint64_t offset, uint64_t n_bytes)
{
	uint64_t begin = round_down(offset, PAGE_BYTES), end;

	if (!range_fits(offset, n_bytes, n_mapped))
		return;
	end = round_up(offset + n_bytes, PAGE_BYTES);
	(void)madvise((void *)(uintptr_t)(base + begin), end - begin, MADV_POPULATE_WRITE); /* Linux 5.14 */
}
