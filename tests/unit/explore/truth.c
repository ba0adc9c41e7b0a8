// SPDX-License-Identifier: MIT
#include "explore.h"

#include <stdio.h>

struct truth truth;

/* ---- blocks ---- */

static struct block *find(uint64_t offset)
{
	for (int i = 0; i < N_BLOCKS; i++)
		if (truth.blocks[i].offset == offset)
			return &truth.blocks[i];
	return NULL;
}

/* Of the dead, what the daemon has begun to end may be handed out again. */
static void add(int client, uint64_t offset, uint32_t bytes)
{
	struct block *unused;

	for (int i = 0; i < N_BLOCKS; i++) {
		struct block *block = &truth.blocks[i];

		if (!block->offset || offset + bytes <= block->offset || offset >= block->offset + block->bytes)
			continue;
		if (!block->is_doomed || !truth.is_leaving[block->owner])
			search_found("a slot was handed out while somebody had it");
		*block = (struct block){0};
	}
	unused = find(0);
	if (unused)
		*unused = (struct block){.offset = offset, .bytes = bytes, .owner = (int8_t)client, .n_rights = 1};
	else
		search_found("more blocks than there are slots");
}

/* With its CAS a take is done, whatever becomes of who takes before it returns. */
void truth_settle(void)
{
	struct place place;

	for (int i = 0; i < N_CLIENTS; i++) {
		struct block *block = truth.taking[i].offset ? find(truth.taking[i].offset) : NULL;

		if (!block || block->owner != truth.taking[i].from || !daemon_is_up() ||
		    !daemon_find(block->offset, block->bytes, &place) ||
		    daemon_word(place.word) != lease_live_of(daemon_heap_number(i)))
			continue;
		block->owner = (int8_t)i;
		block->is_doomed = false;
	}
}

void truth_dies(int client)
{
	truth_settle();
	truth.taking[client].offset = 0;
	for (int i = 0; i < N_BLOCKS; i++)
		if (truth.blocks[i].offset && truth.blocks[i].owner == client)
			truth.blocks[i].is_doomed = true;
}

/* ---- what actors do ---- */

static uint64_t try_alloc(int client, uint32_t size_class)
{
	uint64_t offset = 0;

	if (heaps_alloc(client, size_class, &offset))
		return 0;
	add(client, offset, (uint32_t)size_class_bytes(size_class));
	return offset;
}

uint64_t act_alloc(int client, uint32_t size_class)
{
	uint64_t offset;

	search_begins();
	offset = try_alloc(client, size_class);
	search_ends(offset);
	return offset;
}

static void lease(int client, uint32_t size_class)
{
	uint32_t ids[16], n;

	(void)!daemon_lease(client, size_class, ids, &n);
	heaps_grant(client, size_class, n, ids);
}

void act_lease(int client, uint32_t size_class)
{
	search_begins();
	lease(client, size_class);
	search_ends(0);
}

uint64_t act_lease_alloc(int client, uint32_t size_class)
{
	uint64_t offset;

	search_begins();
	offset = try_alloc(client, size_class);
	for (int i = 0; !offset && i < 2; i++) {
		lease(client, size_class);
		offset = try_alloc(client, size_class);
	}
	search_ends(offset);
	return offset;
}

static int try_free(int client, uint64_t offset)
{
	int r = heaps_free(client, offset);

	return r > 0 ? daemon_free(client, offset) : r;
}

static bool is_ending(int client)
{
	return search_is_dead(client) || truth.is_leaving[client];
}

/* One right to it less. */
static void give_up(struct block *block)
{
	if (!--block->n_rights)
		*block = (struct block){0};
}

int act_free(int client, uint64_t offset)
{
	struct block *block;
	int owner, r;

	search_begins();
	block = offset ? find(offset) : NULL;
	if (!block || block->is_doomed) { /* whoever hears of its owner's death first takes it, or lets it be */
		search_ends(1);
		return -1;
	}
	owner = block->owner;
	truth.in_flight[client].offset = offset;
	truth.in_flight[client].owner = (int8_t)owner;
	give_up(block);
	r = try_free(client, offset);
	truth.in_flight[client].offset = 0;
	if (r && !is_ending(owner))
		search_found("a correct free was refused");
	search_ends((uint64_t)(r != 0));
	return r;
}

int act_free_twice(int client, uint64_t offset)
{
	struct block *block;
	int r;

	search_begins();
	block = find(offset);
	if (block)
		give_up(block);
	r = try_free(client, offset);
	search_ends((uint64_t)(r != 0));
	return r;
}

int act_free_by_request(int client, uint64_t offset)
{
	int r;

	search_begins();
	give_up(find(offset));
	r = daemon_free(client, offset);
	if (r)
		search_found("a correct free by request was refused");
	search_ends((uint64_t)(r != 0));
	return r;
}

int act_take(int client, uint64_t offset, int from)
{
	struct block *block;
	int r;

	search_begins();
	truth.taking[client].offset = offset;
	truth.taking[client].from = (int8_t)from;
	r = heaps_take(client, offset, daemon_session(from));
	truth_settle();
	truth.taking[client].offset = 0;
	if (r > 0)
		r = daemon_take(client, offset, daemon_session(from));
	block = find(offset);
	if (!r && block && (block->owner == from || block->owner == client)) {
		block->owner = (int8_t)client;
		block->is_doomed = false;
	} else if (!r) {
		search_found("a block was taken that was not there to be taken");
	} else if (block && !block->is_doomed && block->owner == from) {
		search_found("a correct take was refused");
	}
	search_ends((uint64_t)(r != 0));
	return r;
}

int act_retain(int client, uint64_t offset)
{
	struct block *block = find(offset);
	uint64_t bytes = block ? block->bytes : 0;
	int r;

	search_begins();
	r = daemon_retain(client, offset);
	block = find(offset);
	if (!r && !block) { /* given up meanwhile, and this holds it */
		add(client, offset, (uint32_t)bytes);
		block = find(offset);
		block->n_rights = 0;
	}
	if (!r)
		block->n_rights++;
	else if (block)
		search_found("a correct retain was refused");
	search_ends((uint64_t)(r != 0));
	return r;
}

void act_flush(int client)
{
	search_begins();
	heaps_flush(client);
	search_ends(0);
}

void act_new_heap(int client)
{
	search_begins();
	heaps_init(client, daemon_open_heap(client));
	search_ends(daemon_heap_number(client));
}

void act_leave(int client)
{
	truth_dies(client);
	truth.is_leaving[client] = true;
	daemon_leave(client);
	for (int i = 0; i < N_BLOCKS; i++)
		if (truth.blocks[i].is_doomed && truth.blocks[i].owner == client)
			truth.blocks[i] = (struct block){0};
}

/* ---- what must be so ---- */

static void check_block(const struct block *block)
{
	struct place place;
	uint16_t word;

	if (!daemon_find(block->offset, block->bytes, &place)) {
		search_found("a live block is in no slab");
		return;
	}
	word = daemon_word(place.word);
	if (word != lease_live_of(daemon_heap_number(block->owner)) && word != LEASE_PINNED && !truth.has_hole)
		search_found("a live block's word is not its owner's");
}

void truth_check(void)
{
	if (!daemon_is_up())
		return;
	for (int i = 0; i < N_BLOCKS; i++)
		if (truth.blocks[i].offset && !truth.blocks[i].is_doomed)
			check_block(&truth.blocks[i]);
	for (int i = 0; i < N_CLIENTS; i++)
		if (!is_ending(i) && !search_is_in_operation(i) && !truth.has_hole)
			heaps_check(i);
}

/* Whoever freed it died before it had, and its owner does not know. */
static bool is_in_flight(uint64_t offset, uint16_t word)
{
	for (int i = 0; i < N_CLIENTS; i++)
		if (search_is_dead(i) && truth.in_flight[i].offset == offset &&
		    word == lease_live_of(daemon_heap_number(truth.in_flight[i].owner)))
			return true;
	return false;
}

/* A live block may be pinned by any request that names it; that a record goes with it, the check of the books says. */
static bool is_right(uint64_t offset, uint64_t bytes, uint16_t word)
{
	const struct block *block = find(offset);

	if (block && block->bytes == bytes)
		return word == LEASE_PINNED || word == lease_live_of(daemon_heap_number(block->owner));
	if (word == LEASE_POOLS || word == LEASE_PINNED) /* of a session that has ended; pinned by who was told so */
		return truth.outlives;
	return word == LEASE_FREE || is_in_flight(offset, word);
}

void truth_check_end(void)
{
	if (!daemon_is_up() || truth.has_hole)
		return;
	for (int i = 0; i < N_CLIENTS; i++)
		if (!is_ending(i))
			heaps_flush(i);
	daemon_check(is_right);
}
