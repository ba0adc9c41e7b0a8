// SPDX-License-Identifier: MIT
#include "client/lease_map.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static bool array_fits(uint64_t at, uint64_t n, uint64_t size, uint64_t n_bytes)
{
	return at % 64 == 0 && at >= sizeof(struct lease_header) && at <= n_bytes && n <= (n_bytes - at) / size;
}

int lease_map_attach(struct lease_map *map, void *base, uint64_t n_bytes)
{
	struct lease_header header;

	if (n_bytes < LEASE_PAGE_BYTES)
		return -EPROTO;
	memcpy(&header, base, sizeof(header)); /* others can write it: one copy, then judged */
	if (header.magic != LEASE_MAGIC || header.version != LEASE_VERSION || header.file_bytes != n_bytes ||
	    header.pages_at >= header.slabs_at || header.first != LEASE_FIRST || header.n_slabs > LEASE_SLABS_MAX ||
	    header.n_heaps > LEASE_HEAPS_MAX ||
	    !array_fits(header.heaps_at, header.n_heaps, sizeof(struct lease_heap), n_bytes) ||
	    !array_fits(header.pages_at, 0, sizeof(uint32_t), n_bytes) ||
	    !array_fits(header.slabs_at, header.n_slabs, sizeof(struct lease_slab), n_bytes) ||
	    !array_fits(header.words_at, header.n_words, sizeof(uint16_t), n_bytes))
		return -EPROTO;
	*map = (struct lease_map){
		.base = base,
		.n_bytes = n_bytes,
		.header = base,
		.heaps = (void *)((uint8_t *)base + header.heaps_at),
		.pages = (void *)((uint8_t *)base + header.pages_at),
		.slabs = (void *)((uint8_t *)base + header.slabs_at),
		.words = (void *)((uint8_t *)base + header.words_at),
		.n_pages_max = (header.slabs_at - header.pages_at) / sizeof(uint32_t),
		.n_words = header.n_words,
		.n_heaps = header.n_heaps,
		.n_slabs = header.n_slabs,
	};
	return 0;
}

/* ---- mapped once, for all sessions of the process ---- */

struct shared {
	struct shared *next;
	dev_t device;
	ino_t inode;
	uint64_t n_bytes;
	void *base;
	uint32_t n_refs;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* the list */
static struct shared *shared_maps;

void lease_map_forget_all(void)
{
	pthread_mutex_init(&mutex, NULL);
	shared_maps = NULL; /* not mapped here */
}

static int map_new(struct shared **sharedp, int fd, const struct stat *st, uint64_t n_bytes)
{
	struct shared *shared = calloc(1, sizeof(*shared));
	int r;

	if (!shared)
		return -ENOMEM;
	*shared = (struct shared){.device = st->st_dev, .inode = st->st_ino, .n_bytes = n_bytes};
	shared->base = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared->base == MAP_FAILED) {
		r = -errno;
		free(shared);
		return r;
	}
	if (madvise(shared->base, n_bytes, MADV_DONTFORK)) { /* a forked child must not store to its parent's slots */
		r = -errno;
		munmap(shared->base, n_bytes);
		free(shared);
		return r;
	}
	shared->next = shared_maps;
	shared_maps = shared;
	*sharedp = shared;
	return 0;
}

static void let_go(void *base)
{
	struct shared **at = &shared_maps, *shared;

	while (*at && (*at)->base != base)
		at = &(*at)->next;
	shared = *at;
	if (!shared || --shared->n_refs)
		return;
	*at = shared->next;
	munmap(shared->base, shared->n_bytes);
	free(shared);
}

static int open_locked(struct lease_map *map, int fd, const struct stat *st, uint64_t n_bytes)
{
	struct shared *shared = shared_maps;
	int r = 0;

	while (shared && (shared->device != st->st_dev || shared->inode != st->st_ino || shared->n_bytes != n_bytes))
		shared = shared->next;
	if (!shared)
		r = map_new(&shared, fd, st, n_bytes);
	if (r)
		return r;
	shared->n_refs++;
	r = lease_map_attach(map, shared->base, n_bytes);
	if (r)
		let_go(shared->base);
	return r;
}

int lease_map_open(struct lease_map *map, int fd, uint64_t n_bytes)
{
	struct stat st;
	int r;

	if (fstat(fd, &st))
		return -errno;
	pthread_mutex_lock(&mutex);
	r = open_locked(map, fd, &st, n_bytes);
	pthread_mutex_unlock(&mutex);
	return r;
}

void lease_map_close(struct lease_map *map)
{
	pthread_mutex_lock(&mutex);
	if (map->base)
		let_go(map->base);
	pthread_mutex_unlock(&mutex);
	*map = (struct lease_map){0};
}

/* ---- reading ---- */

uint64_t lease_map_pages(const struct lease_map *map)
{
	uint64_t n = atomic_load_explicit(&map->header->n_pages, memory_order_acquire);

	return n < map->n_pages_max ? n : map->n_pages_max;
}

int lease_map_find(const struct lease_map *map, uint64_t offset, struct lease_place *placep)
{
	uint64_t page = (offset - LEASE_FIRST) / LEASE_PAGE_BYTES, index;
	const struct lease_slab *slab;
	uint32_t id, slot, slot_bytes;

	if (offset < LEASE_FIRST || page >= lease_map_pages(map))
		return LEASE_MAP_E_NOWHERE;
	id = atomic_load_explicit(&map->pages[page], memory_order_acquire) - 1;
	if (id >= map->n_slabs)
		return LEASE_MAP_E_NOWHERE;
	slab = &map->slabs[id];
	slot_bytes = LEASE_FIELD(slab->slot_bytes);
	if (!slot_bytes)
		return LEASE_MAP_E_NOWHERE;
	if (!lease_slot_at(offset - LEASE_FIELD(slab->base), LEASE_FIELD(slab->reciprocal), LEASE_FIELD(slab->n_slots),
			   &slot))
		return LEASE_MAP_E_INSIDE;
	index = (uint64_t)LEASE_FIELD(slab->first_word) + slot;
	if (index >= map->n_words)
		return LEASE_MAP_E_INSIDE;
	*placep = (struct lease_place){
		.slab = id,
		.size_class = LEASE_FIELD(slab->size_class),
		.slot_bytes = slot_bytes,
		.word = &map->words[index],
	};
	return placep->size_class < SIZE_CLASS_N ? 0 : LEASE_MAP_E_INSIDE;
}
