#pragma once
// SPDX-License-Identifier: MIT
/*
 * lease_world - a pool with leases and simulated clients: heaps that do to words and custody what the protocol lets them do
 *
 * Slow and simple: a heap has no magazine; what it has cached is found by looking for C(k). One step at a time.
 */
#include <sys/mman.h>

#include "pool_world.h"
#include "proto/lease_word.h"

#define N_CLIENTS 3

struct lease_world {
	struct world world;
	struct pool *pool;
	struct pool_member *members[N_CLIENTS]; /* NULL: gone */
	uint32_t heaps[N_CLIENTS];
	uint64_t sessions[N_CLIENTS];
	uint8_t *map;
	size_t map_bytes;
};

static inline struct lease_header *client_header(const struct lease_world *t)
{
	return (struct lease_header *)(void *)t->map;
}

static inline struct lease_slab *client_slab(const struct lease_world *t, uint32_t id)
{
	return (struct lease_slab *)(void *)(t->map + client_header(t)->slabs_at) + id;
}

static inline struct lease_heap *client_heap(const struct lease_world *t, int client)
{
	return (struct lease_heap *)(void *)(t->map + client_header(t)->heaps_at) + t->heaps[client];
}

static inline _Atomic uint16_t *client_word(const struct lease_world *t, uint32_t id, uint32_t slot)
{
	return (_Atomic uint16_t *)(void *)(t->map + client_header(t)->words_at) + client_slab(t, id)->first_word +
	       slot;
}

/* The slab of an offset; UINT32_MAX: none */
static inline uint32_t client_slab_of(const struct lease_world *t, uint64_t offset)
{
	uint64_t page = (offset - client_header(t)->first) / LEASE_PAGE_BYTES;

	if (page >= client_header(t)->n_pages)
		return UINT32_MAX;
	return ((_Atomic uint32_t *)(void *)(t->map + client_header(t)->pages_at))[page] - 1;
}

static inline _Atomic uint16_t *client_find(const struct lease_world *t, uint64_t offset)
{
	uint32_t id = client_slab_of(t, offset), slot;
	const struct lease_slab *slab;

	if (id == UINT32_MAX)
		return NULL;
	slab = client_slab(t, id);
	if (offset < slab->base || !lease_slot_at(offset - slab->base, slab->reciprocal, slab->n_slots, &slot))
		return NULL;
	return client_word(t, id, slot);
}

static inline uint16_t client_word_at(const struct lease_world *t, uint64_t offset)
{
	const _Atomic uint16_t *word = client_find(t, offset);

	assert_non_null(word);
	return lease_word_peek(word);
}

static inline void client_map(struct lease_world *t)
{
	t->map_bytes = pool_lease_bytes(t->pool);
	t->map = mmap(NULL, t->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, pool_lease_fd(t->pool), 0);
	assert_true(t->map != MAP_FAILED);
}

static inline void client_join(struct lease_world *t, int client)
{
	t->members[client] = world_join(&t->world, t->pool);
	t->sessions[client] = t->members[client]->session;
	assert_int_equal(pool_open_heap(t->members[client], true, &t->heaps[client]), 0);
}

static inline void lease_world_init_with(struct lease_world *t, const struct pool_options *options)
{
	world_init(&t->world);
	t->pool = world_pool_with(&t->world, options);
	client_map(t);
	for (int i = 0; i < N_CLIENTS; i++)
		client_join(t, i);
}

static inline void lease_world_init(struct lease_world *t, uint64_t size, uint32_t lifetime)
{
	struct pool_options options = world_options(size);

	options.lifetime = lifetime;
	lease_world_init_with(t, &options);
}

/* The daemon ends without a word; clients keep their mapping. */
static inline void lease_world_restart(struct lease_world *t)
{
	t->pool = world_restart(&t->world, t->pool);
	for (int i = 0; i < N_CLIENTS; i++)
		t->members[i] = t->members[i] ? pool_member_of(t->pool, t->sessions[i]) : NULL;
}

static inline void lease_world_deinit(struct lease_world *t)
{
	for (int i = 0; i < N_CLIENTS; i++)
		if (t->members[i])
			world_leave(t->members[i]);
	munmap(t->map, t->map_bytes);
	world_destroy(t->pool);
	world_deinit(&t->world);
}

/* ---- heaps ---- */

/* A slot of @size_class in a state: C(k), or C(0) of a slab whose custody it gets. Return: NULL: none */
static inline _Atomic uint16_t *client_pick(struct lease_world *t, int client, uint32_t size_class, uint64_t *offsetp)
{
	uint32_t heap = t->heaps[client];

	for (int pass = 0; pass < 2; pass++)
		for (uint32_t id = 0; id < client_header(t)->n_slabs; id++) {
			struct lease_slab *slab = client_slab(t, id);
			_Atomic uint16_t *found = NULL;

			if (id >= 4096 || !slab->slot_bytes || slab->size_class != size_class)
				continue;
			if (pass && !lease_custody_take(&slab->custody, heap))
				continue;
			for (uint32_t i = 0; !found && i < slab->n_slots; i++) {
				_Atomic uint16_t *word = client_word(t, id, i);

				if (lease_word_read(word) != (pass ? LEASE_FREE : lease_cached_by(heap)))
					continue;
				*offsetp = slab->base + (uint64_t)i * slab->slot_bytes;
				lease_word_keep(word, lease_cached_by(heap));
				found = word;
			}
			if (pass)
				lease_custody_give(&slab->custody);
			if (found)
				return found;
		}
	return NULL;
}

/* 0: no slab is to be had */
static inline uint64_t client_try_alloc(struct lease_world *t, int client, uint64_t size)
{
	uint32_t size_class = size_class_of(size), ids[POOL_SLABS_MAX], n;
	_Atomic uint16_t *word;
	uint64_t offset;

	word = client_pick(t, client, size_class, &offset);
	if (!word && !pool_lease_slabs(t->members[client], t->heaps[client], size_class, 1, POOL_MAY_BLOCK, ids, &n))
		word = client_pick(t, client, size_class, &offset);
	if (!word)
		return 0;
	if (!lease_word_swap(word, lease_cached_by(t->heaps[client]), lease_live_of(t->heaps[client])))
		return 0;
	return offset;
}

static inline uint64_t client_alloc(struct lease_world *t, int client, uint64_t size)
{
	uint64_t offset = client_try_alloc(t, client, size);

	assert_true(offset > 0);
	return offset;
}

/* Return: whether it was a live slot of a heap's; else a request frees it, or nothing does */
static inline bool client_try_free(struct lease_world *t, int client, uint64_t offset)
{
	_Atomic uint16_t *word = client_find(t, offset);
	uint16_t seen = word ? lease_word_peek(word) : 0;

	if (!seen || !lease_heap_of(seen) || lease_is_cached(seen) ||
	    !lease_word_swap(word, seen, lease_cached_by(t->heaps[client])))
		return false;
	lease_count(&client_heap(t, client)->n_free);
	return true;
}

static inline void client_free(struct lease_world *t, int client, uint64_t offset)
{
	assert_true(client_try_free(t, client, offset));
}

static inline bool client_take(struct lease_world *t, int client, uint64_t offset, int from)
{
	_Atomic uint16_t *word = client_find(t, offset);

	return word && lease_word_swap(word, lease_live_of(t->heaps[from]), lease_live_of(t->heaps[client]));
}

static inline void client_flush(struct lease_world *t, int client)
{
	for (uint32_t id = 0; id < client_header(t)->n_slabs && id < 4096; id++)
		for (uint32_t i = 0; client_slab(t, id)->slot_bytes && i < client_slab(t, id)->n_slots; i++)
			if (lease_word_peek(client_word(t, id, i)) == lease_cached_by(t->heaps[client]))
				lease_word_give(client_word(t, id, i));
}
