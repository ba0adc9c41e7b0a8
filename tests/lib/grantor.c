// SPDX-License-Identifier: MIT
#include "tests/lib/grantor.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void grantor_init(struct grantor *grantor, uint64_t data_bytes, uint32_t n_slabs)
{
	uint64_t n_pages = data_bytes / LEASE_PAGE_BYTES - 1, n_words = round_up(data_bytes / 16, 64), at;
	struct lease_header header = {.magic = LEASE_MAGIC, .version = LEASE_VERSION};
	int r;

	memset(grantor, 0, sizeof(*grantor));
	assert(n_slabs <= GRANTOR_SLABS);
	header.header_bytes = sizeof(header);
	header.first = LEASE_FIRST;
	header.heaps_at = LEASE_PAGE_BYTES;
	header.n_heaps = GRANTOR_HEAPS;
	at = header.heaps_at + GRANTOR_HEAPS * sizeof(struct lease_heap);
	header.pages_at = at;
	at = round_up(at + n_pages * sizeof(uint32_t), 64);
	header.slabs_at = at;
	header.n_slabs = n_slabs;
	at += n_slabs * sizeof(struct lease_slab);
	header.words_at = at;
	header.n_words = n_words;
	header.file_bytes = round_up(at + n_words * sizeof(uint16_t), LEASE_PAGE_BYTES);
	atomic_init(&header.n_pages, n_pages);
	grantor->n_bytes = header.file_bytes;
	/* a page that nobody may touch behind it: an access outside ends the test */
	grantor->base = mmap(NULL, grantor->n_bytes + LEASE_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert(grantor->base != MAP_FAILED);
	r = mprotect(grantor->base, grantor->n_bytes, PROT_READ | PROT_WRITE);
	assert(!r);
	memcpy(grantor->base, &header, sizeof(header));
	r = lease_map_attach(&grantor->map, grantor->base, grantor->n_bytes);
	assert(!r);
	grantor->data_bytes = data_bytes;
	grantor->n_pages = n_pages;
	grantor->n_words = n_words;
	grantor->n_slabs = n_slabs;
	grantor->page_taken = calloc(n_pages, 1);
	grantor->word_taken = calloc(n_words / LEASE_WORDS_STEP, 1);
	assert(grantor->page_taken && grantor->word_taken);
	for (uint32_t i = 0; i < n_slabs; i++)
		lease_custody_hold(&grantor->map.slabs[i].custody);
}

void grantor_deinit(struct grantor *grantor)
{
	munmap(grantor->base, grantor->n_bytes + LEASE_PAGE_BYTES);
	free(grantor->page_taken);
	free(grantor->word_taken);
}

void grantor_open(struct grantor *grantor, uint32_t heap, uint64_t session)
{
	atomic_store_explicit(&grantor->map.heaps[heap].session, session, memory_order_release);
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

static uint64_t slab_pages(const struct grantor_slab *slab)
{
	return round_up(slab->n_slots * size_class_bytes(slab->size_class), LEASE_PAGE_BYTES) / LEASE_PAGE_BYTES;
}

static uint64_t slab_steps(const struct grantor_slab *slab)
{
	return (slab->n_slots + LEASE_WORDS_STEP - 1) / LEASE_WORDS_STEP;
}

static void publish(struct grantor *grantor, uint32_t id)
{
	const struct grantor_slab *slab = &grantor->slabs[id];
	struct lease_slab *shared = &grantor->map.slabs[id];
	uint64_t page = slab->base / LEASE_PAGE_BYTES - 1;

	for (uint32_t i = 0; i < slab->n_slots; i++)
		lease_word_give(&grantor->map.words[slab->first_word + i]);
	__atomic_store_n(&shared->base, slab->base, __ATOMIC_RELAXED);
	__atomic_store_n(&shared->slot_bytes, (uint32_t)size_class_bytes(slab->size_class), __ATOMIC_RELAXED);
	__atomic_store_n(&shared->n_slots, (uint16_t)slab->n_slots, __ATOMIC_RELAXED);
	__atomic_store_n(&shared->reciprocal, lease_reciprocal_of(shared->slot_bytes), __ATOMIC_RELAXED);
	__atomic_store_n(&shared->first_word, slab->first_word, __ATOMIC_RELAXED);
	__atomic_store_n(&shared->size_class, (uint16_t)slab->size_class, __ATOMIC_RELAXED);
	__atomic_store_n(&shared->grantee, slab->grantee, __ATOMIC_RELAXED);
	lease_hint_set(&shared->has_free, slab->n_slots);
	for (uint64_t i = 0; i < slab_pages(slab); i++)
		atomic_store_explicit(&grantor->map.pages[page + i], id + 1, memory_order_release);
	lease_custody_give(&shared->custody); /* last */
}

uint32_t grantor_grant(struct grantor *grantor, uint32_t heap, uint32_t size_class, uint32_t n_slots)
{
	uint32_t id;
	uint64_t page, step;
	struct grantor_slab slab = {.is_slab = true, .size_class = size_class, .n_slots = n_slots, .grantee = heap};

	for (id = 0; id < grantor->n_slabs; id++) { /* an orphan */
		struct grantor_slab *orphan = &grantor->slabs[id];

		if (orphan->is_slab && !orphan->grantee && orphan->size_class == size_class) {
			orphan->grantee = heap;
			__atomic_store_n(&grantor->map.slabs[id].grantee, heap, __ATOMIC_RELAXED);
			lease_hint_set(&grantor->map.slabs[id].has_free, orphan->n_slots);
			return id;
		}
	}
	for (id = 0; id < grantor->n_slabs && grantor->slabs[id].is_slab;)
		id++;
	if (id == grantor->n_slabs)
		return UINT32_MAX;
	page = take_run(grantor->page_taken, grantor->n_pages, slab_pages(&slab));
	if (page == UINT64_MAX)
		return UINT32_MAX;
	step = take_run(grantor->word_taken, grantor->n_words / LEASE_WORDS_STEP, slab_steps(&slab));
	if (step == UINT64_MAX) {
		memset(grantor->page_taken + page, 0, slab_pages(&slab));
		return UINT32_MAX;
	}
	slab.base = (page + 1) * LEASE_PAGE_BYTES;
	slab.first_word = (uint32_t)(step * LEASE_WORDS_STEP);
	grantor->slabs[id] = slab;
	publish(grantor, id);
	return id;
}

bool grantor_recall(struct grantor *grantor, uint32_t id)
{
	struct grantor_slab *slab = &grantor->slabs[id];
	struct lease_slab *shared = &grantor->map.slabs[id];

	if (!slab->is_slab || !lease_custody_take(&shared->custody, LEASE_DAEMON))
		return false;
	for (uint32_t i = 0; i < slab->n_slots && LEASE_RULE(RECALL_READS); i++) {
		uint16_t word = lease_word_read(&grantor->map.words[slab->first_word + i]);

		if (word == LEASE_FREE || (!LEASE_RULE(ZERO_IS_DAMAGE) && !word))
			continue;
		lease_custody_give(&shared->custody);
		return false;
	}
	/* custody stays the daemon's */
	for (uint64_t i = 0; i < slab_pages(slab); i++)
		atomic_store_explicit(&grantor->map.pages[slab->base / LEASE_PAGE_BYTES - 1 + i], 0,
				      memory_order_release);
	__atomic_store_n(&shared->slot_bytes, 0, __ATOMIC_RELAXED);
	memset(grantor->page_taken + slab->base / LEASE_PAGE_BYTES - 1, 0, slab_pages(slab));
	memset(grantor->word_taken + slab->first_word / LEASE_WORDS_STEP, 0, slab_steps(slab));
	slab->is_slab = false;
	return true;
}

void grantor_sweep(struct grantor *grantor, uint32_t heap)
{
	atomic_store_explicit(&grantor->map.heaps[heap].session, 0,
			      memory_order_release); /* first: before a word is touched */
	for (uint32_t id = 0; id < grantor->n_slabs; id++) {
		struct grantor_slab *slab = &grantor->slabs[id];

		if (!slab->is_slab || (!LEASE_RULE(SWEEP_ALL) && slab->grantee != heap))
			continue;
		for (uint32_t i = 0; i < slab->n_slots; i++) {
			_Atomic uint16_t *at = &grantor->map.words[slab->first_word + i];
			uint16_t word = lease_word_read(at);

			if (word == lease_cached_by(heap) || word == lease_live_of(heap))
				(void)lease_word_swap(at, word, LEASE_FREE);
		}
		if (LEASE_RULE(BREAK_DEAD) && lease_custody_break(&grantor->map.slabs[id].custody, heap, LEASE_DAEMON))
			lease_custody_give(&grantor->map.slabs[id].custody);
		if (slab->grantee == heap) {
			slab->grantee = 0;
			__atomic_store_n(&grantor->map.slabs[id].grantee, 0, __ATOMIC_RELAXED);
		}
	}
}

_Atomic uint16_t *grantor_word(struct grantor *grantor, uint64_t offset, uint32_t *idp)
{
	for (uint32_t id = 0; id < grantor->n_slabs; id++) {
		const struct grantor_slab *slab = &grantor->slabs[id];
		uint64_t bytes = size_class_bytes(slab->size_class);

		if (!slab->is_slab || offset < slab->base || offset >= slab->base + slab->n_slots * bytes ||
		    (offset - slab->base) % bytes)
			continue;
		*idp = id;
		return &grantor->map.words[slab->first_word + (offset - slab->base) / bytes];
	}
	return NULL;
}

bool grantor_swap(struct grantor *grantor, uint64_t offset, uint16_t from, uint16_t to)
{
	uint32_t id;
	_Atomic uint16_t *word = grantor_word(grantor, offset, &id);

	return word && lease_word_swap(word, from, to);
}
