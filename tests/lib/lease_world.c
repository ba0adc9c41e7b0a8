// SPDX-License-Identifier: MIT
#include "tests/lib/lease_world.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void lease_world_init(struct lease_world *world, uint64_t data_bytes, uint32_t n_slabs)
{
	uint64_t n_pages = data_bytes / LEASE_PAGE_BYTES - 1, n_words = round_up(data_bytes / 16, 64), at;
	struct lease_header header = {.magic = LEASE_MAGIC, .version = LEASE_VERSION};
	int r;

	memset(world, 0, sizeof(*world));
	assert(n_slabs <= WORLD_SLABS);
	header.header_bytes = sizeof(header);
	header.first = LEASE_FIRST;
	header.heaps_at = LEASE_PAGE_BYTES;
	header.n_heaps = WORLD_HEAPS;
	at = header.heaps_at + WORLD_HEAPS * sizeof(struct lease_heap);
	header.pages_at = at;
	at = round_up(at + n_pages * sizeof(uint32_t), 64);
	header.slabs_at = at;
	header.n_slabs = n_slabs;
	at += n_slabs * sizeof(struct lease_slab);
	header.words_at = at;
	header.n_words = n_words;
	header.file_bytes = round_up(at + n_words * sizeof(uint16_t), LEASE_PAGE_BYTES);
	atomic_init(&header.n_pages, n_pages);
	world->n_bytes = header.file_bytes;
	/* a page that nobody may touch behind it: an access outside ends the test */
	world->base = mmap(NULL, world->n_bytes + LEASE_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert(world->base != MAP_FAILED);
	r = mprotect(world->base, world->n_bytes, PROT_READ | PROT_WRITE);
	assert(!r);
	memcpy(world->base, &header, sizeof(header));
	r = lease_map_attach(&world->map, world->base, world->n_bytes);
	assert(!r);
	world->data_bytes = data_bytes;
	world->n_pages = n_pages;
	world->n_words = n_words;
	world->n_slabs = n_slabs;
	world->page_taken = calloc(n_pages, 1);
	world->word_taken = calloc(n_words / LEASE_WORDS_STEP, 1);
	assert(world->page_taken && world->word_taken);
	for (uint32_t i = 0; i < n_slabs; i++)
		lease_custody_hold(&world->map.slabs[i].custody);
}

void lease_world_deinit(struct lease_world *world)
{
	munmap(world->base, world->n_bytes + LEASE_PAGE_BYTES);
	free(world->page_taken);
	free(world->word_taken);
}

void lease_world_open(struct lease_world *world, uint32_t heap, uint64_t session)
{
	atomic_store_explicit(&world->map.heaps[heap].session, session, memory_order_release);
}

/* First run of @n free ones. Return: UINT64_MAX: none */
static uint64_t take_run(uint8_t *taken, uint64_t n_all, uint64_t n)
{
	for (uint64_t i = 0, run = 0; i < n_all; i++) {
		run = taken[i] ? 0 : run + 1;
		if (run == n) {
			memset(taken + i + 1 - n, 1, n);
			return i + 1 - n;
		}
	}
	return UINT64_MAX;
}

static uint64_t slab_pages(const struct world_slab *slab)
{
	return round_up(slab->n_slots * size_class_bytes(slab->size_class), LEASE_PAGE_BYTES) / LEASE_PAGE_BYTES;
}

static uint64_t slab_steps(const struct world_slab *slab)
{
	return (slab->n_slots + LEASE_WORDS_STEP - 1) / LEASE_WORDS_STEP;
}

static void publish(struct lease_world *world, uint32_t id)
{
	const struct world_slab *slab = &world->slabs[id];
	struct lease_slab *shared = &world->map.slabs[id];
	uint64_t page = slab->base / LEASE_PAGE_BYTES - 1;

	for (uint32_t i = 0; i < slab->n_slots; i++)
		lease_word_give(&world->map.words[slab->first_word + i]);
	__atomic_store_n(&shared->base, slab->base, __ATOMIC_RELAXED);
	__atomic_store_n(&shared->slot_bytes, (uint32_t)size_class_bytes(slab->size_class), __ATOMIC_RELAXED);
	__atomic_store_n(&shared->n_slots, (uint16_t)slab->n_slots, __ATOMIC_RELAXED);
	__atomic_store_n(&shared->reciprocal, lease_reciprocal_of(shared->slot_bytes), __ATOMIC_RELAXED);
	__atomic_store_n(&shared->first_word, slab->first_word, __ATOMIC_RELAXED);
	__atomic_store_n(&shared->size_class, (uint16_t)slab->size_class, __ATOMIC_RELAXED);
	__atomic_store_n(&shared->grantee, slab->grantee, __ATOMIC_RELAXED);
	lease_hint_set(&shared->has_free, slab->n_slots);
	for (uint64_t i = 0; i < slab_pages(slab); i++)
		atomic_store_explicit(&world->map.pages[page + i], id + 1, memory_order_release);
	lease_custody_give(&shared->custody); /* last */
}

uint32_t lease_world_grant(struct lease_world *world, uint32_t heap, uint32_t size_class, uint32_t n_slots)
{
	uint32_t id;
	uint64_t page, step;
	struct world_slab slab = {.is_slab = true, .size_class = size_class, .n_slots = n_slots, .grantee = heap};

	for (id = 0; id < world->n_slabs; id++) { /* an orphan */
		struct world_slab *orphan = &world->slabs[id];

		if (orphan->is_slab && !orphan->grantee && orphan->size_class == size_class) {
			orphan->grantee = heap;
			__atomic_store_n(&world->map.slabs[id].grantee, heap, __ATOMIC_RELAXED);
			lease_hint_set(&world->map.slabs[id].has_free, orphan->n_slots);
			return id;
		}
	}
	for (id = 0; id < world->n_slabs && world->slabs[id].is_slab;)
		id++;
	if (id == world->n_slabs)
		return UINT32_MAX;
	page = take_run(world->page_taken, world->n_pages, slab_pages(&slab));
	if (page == UINT64_MAX)
		return UINT32_MAX;
	step = take_run(world->word_taken, world->n_words / LEASE_WORDS_STEP, slab_steps(&slab));
	if (step == UINT64_MAX) {
		memset(world->page_taken + page, 0, slab_pages(&slab));
		return UINT32_MAX;
	}
	slab.base = (page + 1) * LEASE_PAGE_BYTES;
	slab.first_word = (uint32_t)(step * LEASE_WORDS_STEP);
	world->slabs[id] = slab;
	publish(world, id);
	return id;
}

bool lease_world_recall(struct lease_world *world, uint32_t id)
{
	struct world_slab *slab = &world->slabs[id];
	struct lease_slab *shared = &world->map.slabs[id];

	if (!slab->is_slab || !lease_custody_take(&shared->custody, LEASE_DAEMON))
		return false;
	for (uint32_t i = 0; i < slab->n_slots && LEASE_RULE(RECALL_READS); i++) {
		uint16_t word = lease_word_read(&world->map.words[slab->first_word + i]);

		if (word == LEASE_FREE || (!LEASE_RULE(ZERO_IS_DAMAGE) && !word))
			continue;
		lease_custody_give(&shared->custody);
		return false;
	}
	/* custody stays the daemon's */
	for (uint64_t i = 0; i < slab_pages(slab); i++)
		atomic_store_explicit(&world->map.pages[slab->base / LEASE_PAGE_BYTES - 1 + i], 0,
				      memory_order_release);
	__atomic_store_n(&shared->slot_bytes, 0, __ATOMIC_RELAXED);
	memset(world->page_taken + slab->base / LEASE_PAGE_BYTES - 1, 0, slab_pages(slab));
	memset(world->word_taken + slab->first_word / LEASE_WORDS_STEP, 0, slab_steps(slab));
	slab->is_slab = false;
	return true;
}

void lease_world_sweep(struct lease_world *world, uint32_t heap)
{
	atomic_store_explicit(&world->map.heaps[heap].session, 0,
			      memory_order_release); /* first: before a word is touched */
	for (uint32_t id = 0; id < world->n_slabs; id++) {
		struct world_slab *slab = &world->slabs[id];

		if (!slab->is_slab || (!LEASE_RULE(SWEEP_ALL) && slab->grantee != heap))
			continue;
		for (uint32_t i = 0; i < slab->n_slots; i++) {
			_Atomic uint16_t *at = &world->map.words[slab->first_word + i];
			uint16_t word = lease_word_read(at);

			if (word == lease_cached_by(heap) || word == lease_live_of(heap))
				(void)lease_word_swap(at, word, LEASE_FREE);
		}
		if (LEASE_RULE(BREAK_DEAD) && lease_custody_break(&world->map.slabs[id].custody, heap, LEASE_DAEMON))
			lease_custody_give(&world->map.slabs[id].custody);
		if (slab->grantee == heap) {
			slab->grantee = 0;
			__atomic_store_n(&world->map.slabs[id].grantee, 0, __ATOMIC_RELAXED);
		}
	}
}

_Atomic uint16_t *lease_world_word(struct lease_world *world, uint64_t offset, uint32_t *idp)
{
	for (uint32_t id = 0; id < world->n_slabs; id++) {
		const struct world_slab *slab = &world->slabs[id];
		uint64_t bytes = size_class_bytes(slab->size_class);

		if (!slab->is_slab || offset < slab->base || offset >= slab->base + slab->n_slots * bytes ||
		    (offset - slab->base) % bytes)
			continue;
		*idp = id;
		return &world->map.words[slab->first_word + (offset - slab->base) / bytes];
	}
	return NULL;
}

bool lease_world_swap(struct lease_world *world, uint64_t offset, uint16_t from, uint16_t to)
{
	uint32_t id;
	_Atomic uint16_t *word = lease_world_word(world, offset, &id);

	return word && lease_word_swap(word, from, to);
}
