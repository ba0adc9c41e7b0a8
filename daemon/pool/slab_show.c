// SPDX-License-Identifier: MIT
/*
 * Words read, in bulk: one pread into memory of our own, then judged. A short read, or a word that nobody may write, is damage:
 * what then stands in the words means nothing.
 *
 * Counts are of the moment at which each slab was read. What stats makes of them holds at every moment: live bytes are counted
 * against the leased bytes of now.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/pool_internal.h"

#define LARGE_SLOTS (1u << 17) /* words that are read in a part of a millisecond, */
#define LARGE_SLABS 1024u      /* if they are of no more slabs than these */
#define COUNT_REST_FACTOR \
	10u /* after reading all words, figures are good enough for so many times as long; simply picked */

/* ---- one slab ---- */

/* Neighbours are mostly alike: a run of them is judged at once. Return: where the run of words[at] ends */
static uint32_t run_end(const uint16_t words[], uint32_t at, uint32_t n)
{
	uint16_t word = words[at];

	do {
		at++;
	} while (at < n && words[at] == word);
	return at;
}

static bool count_words(const uint16_t words[], uint32_t n, struct slab_count *countp)
{
	struct slab_count count = {0};

	for (uint32_t i = 0, end; i < n; i = end) {
		uint32_t n_alike = (end = run_end(words, i, n)) - i;

		if (words[i] == LEASE_FREE || (!words[i] && !LEASE_RULE(ZERO_IS_DAMAGE)))
			count.n_free += n_alike;
		else if (lease_is_cached(words[i]))
			count.n_cached += n_alike;
		else if (lease_is_live(words[i]))
			count.n_live += n_alike;
		else
			return false;
		count.n_pools += words[i] == LEASE_POOLS ? n_alike : 0;
		count.n_pinned += words[i] == LEASE_PINNED ? n_alike : 0;
	}
	*countp = count;
	return true;
}

bool slab_read(struct pool *pool, uint32_t id, uint16_t words[], struct slab_count *countp)
{
	const struct slab_record *record = slab_record(pool, id);
	size_t n_bytes = record->n_slots * sizeof(words[0]);
	ssize_t n;

	LEASE_STEP("words read", lease_word_at(&pool->lease, record->first_word));
	n = pread(pool->lease.object.fd, words, n_bytes,
		  (off_t)(pool->lease.layout.words_at + record->first_word * sizeof(words[0])));

	atomic_thread_fence(memory_order_acquire); /* what was done to a slot before its C(0) was stored */
	if (n < 0 || (size_t)n != n_bytes) {
		lease_damage(pool, "a client cut the lease segment short");
		return false;
	}
	if (!count_words(words, record->n_slots, countp)) {
		lease_damage(pool, "a slot's word says what no word can");
		return false;
	}
	pool->lease.slabs[id].n_live = countp->n_live;
	return true;
}

/* ---- all slabs ---- */

struct tally { /* by heap number; 0: the pool's own */
	uint64_t n_live, n_bytes, cached_bytes;
};

struct reading {
	struct tally *tallies; /* [n_heaps] or NULL */
	uint32_t n_heaps;
	uint64_t n_live, n_bytes;
};

static void add_slab(struct pool *pool, uint32_t id, struct reading *reading)
{
	uint32_t slot_bytes = slab_slot_bytes(pool, id), n_slots = slab_record(pool, id)->n_slots;
	uint16_t words[SLAB_SLOTS_MAX];
	struct slab_count count;

	if (!slab_read(pool, id, words, &count))
		return;
	reading->n_live += count.n_live;
	reading->n_bytes += (uint64_t)count.n_live * slot_bytes;
	for (uint32_t i = 0, end; reading->tallies && count.n_free + count.n_pinned < n_slots && i < n_slots; i = end) {
		uint32_t heap = words[i] == LEASE_POOLS ? 0 : lease_heap_of(words[i]), n_alike;

		end = run_end(words, i, n_slots);
		n_alike = end - i;
		if (words[i] == LEASE_FREE || words[i] == LEASE_PINNED || heap >= reading->n_heaps)
			continue;
		if (lease_is_cached(words[i])) {
			reading->tallies[heap].cached_bytes += (uint64_t)n_alike * slot_bytes;
			continue;
		}
		reading->tallies[heap].n_live += n_alike;
		reading->tallies[heap].n_bytes += (uint64_t)n_alike * slot_bytes;
	}
}

static void keep_tallies(struct pool *pool, const struct reading *reading)
{
	struct lease *lease = &pool->lease;

	if (!reading->tallies)
		return;
	for (uint32_t i = 1; i < reading->n_heaps; i++) {
		lease->heaps[i].n_live = reading->tallies[i].n_live;
		lease->heaps[i].live_bytes = reading->tallies[i].n_bytes;
		lease->heaps[i].cached_bytes = reading->tallies[i].cached_bytes;
	}
	lease->pools_n_live = reading->tallies[0].n_live;
	lease->pools_bytes = reading->tallies[0].n_bytes;
}

uint64_t lease_count_live(struct pool *pool, bool may_hand_over, uint64_t *bytesp)
{
	struct lease *lease = &pool->lease;
	struct reading reading = {.n_heaps = lease->n_heaps_high};
	struct step step = step_begin();

	*bytesp = 0;
	if (!lease->is_on || !pool->slab_records.n)
		return lease->n_live = lease->live_bytes = 0;
	if (reading.n_heaps)
		reading.tallies = calloc(reading.n_heaps, sizeof(*reading.tallies));
	for (uint32_t id = 0; id < pool->slab_records.n_high; id++) {
		if (slab_exists(pool, id))
			add_slab(pool, id, &reading);
		if (may_hand_over && step_is_over_now(&step)) {
			pool_hand_over(pool);
			step = step_begin();
		}
	}
	keep_tallies(pool, &reading);
	free(reading.tallies);
	if (reading.n_bytes > pool->map.leased_bytes) /* slabs were taken back meanwhile */
		reading.n_bytes = pool->map.leased_bytes;
	*bytesp = lease->live_bytes = reading.n_bytes;
	return lease->n_live = reading.n_live;
}

bool lease_count_is_due(const struct pool *pool)
{
	const struct lease *lease = &pool->lease;

	return clock_ns(CLOCK_MONOTONIC) >= lease->count_end_ns + COUNT_REST_FACTOR * lease->count_ns;
}

void lease_count_lately(struct pool *pool, bool may_hand_over)
{
	uint64_t begin = clock_ns(CLOCK_MONOTONIC), n_bytes;

	if (!lease_count_is_due(pool))
		return;
	(void)lease_count_live(pool, may_hand_over, &n_bytes);
	pool->lease.count_end_ns = clock_ns(CLOCK_MONOTONIC);
	pool->lease.count_ns = pool->lease.count_end_ns - begin;
}

bool lease_has_live(struct pool *pool)
{
	uint16_t words[SLAB_SLOTS_MAX];
	struct slab_count count;

	for (uint32_t id = 0; pool->lease.is_on && id < pool->slab_records.n_high; id++)
		if (slab_exists(pool, id) && slab_read(pool, id, words, &count) && count.n_live)
			return true;
	return false;
}

bool lease_is_large(const struct pool *pool)
{
	return pool->lease.n_slots > LARGE_SLOTS || pool->slab_records.n > LARGE_SLABS;
}

void member_slots(const struct pool *pool, const struct pool_member *member, uint64_t *n_livep, uint64_t *bytesp)
{
	*n_livep = *bytesp = 0;
	for (uint32_t heap = member->first_heap; heap; heap = pool->lease.heaps[heap].next) {
		*n_livep += pool->lease.heaps[heap].n_live;
		*bytesp += pool->lease.heaps[heap].live_bytes;
	}
}

/* ---- check ---- */

/* One fault a slab for each kind: there may be thousands of slots. */
static unsigned check_words(struct pool *pool, uint32_t id, FILE *report)
{
	uint32_t n_slots = slab_record(pool, id)->n_slots, slot_bytes = slab_slot_bytes(pool, id), extent;
	uint64_t base = slab_base(pool, id);
	unsigned n_pinned = 0, n_unknown = 0, n_faults = 0;
	uint16_t words[SLAB_SLOTS_MAX];
	struct slab_count count;

	if (pool->lease.is_damaged || !slab_read(pool, id, words, &count))
		return 0; /* said once, for the pool */
	for (uint32_t i = 0; i < n_slots; i++) {
		uint64_t offset = base + (uint64_t)i * slot_bytes;
		bool has_record = words[i] == LEASE_PINNED && !extent_map_find(&pool->map, offset, &extent);

		if (words[i] == LEASE_PINNED && !has_record && !n_pinned++)
			n_faults += check_fault(report, offset, "a slot is held, but no record says by whom");
		if (lease_heap_of(words[i]) && !heap_member(pool, lease_heap_of(words[i])) && !n_unknown++)
			n_faults += check_fault(report, offset, "a slot is heap %u's, which is nobody's",
						lease_heap_of(words[i]));
	}
	return n_faults;
}

static unsigned check_slab(struct pool *pool, uint32_t id, FILE *report)
{
	const struct extent_map *map = &pool->map;
	const struct slab_record *record = slab_record(pool, id);
	uint32_t extent = slab_extent(pool, id), grantee = slab_grantee(pool, id);
	const struct pool_member *member = heap_member(pool, grantee);
	uint64_t offset;

	if (extent >= map->n_high || extent_state(map, extent) != EXTENT_LEASED) {
		fprintf(report, "slab %u: its extent %u is not leased\n", id, extent);
		return 1;
	}
	offset = extent_offset(map, extent);
	if (record->size_class >= SIZE_CLASS_N || !record->n_slots || record->n_slots > SLAB_SLOTS_MAX ||
	    record->n_slots * size_class_bytes(record->size_class) > extent_size(map, extent))
		return check_fault(report, offset, "slab %u: %u slots of class %u do not fit", id, record->n_slots,
				   record->size_class);
	if (extent_owner(map, extent) != (member ? member->index : POOL_OWNER) || (grantee && !member))
		return check_fault(report, offset, "slab %u: granted to heap %u, owned by %u", id, grantee,
				   extent_owner(map, extent));
	if (backing_missing(&pool->backing, offset, extent_size(map, extent), 1))
		return check_fault(report, offset, "slab %u: granted, but not backed", id);
	return check_words(pool, id, report);
}

/* A record's word is P, and the slot is one. */
static unsigned check_pinned(struct pool *pool, uint32_t extent, FILE *report)
{
	uint64_t offset = extent_offset(&pool->map, extent);
	uint32_t id, slot;

	if (pool->lease.is_damaged)
		return 0;
	if (!slot_of_pinned(pool, extent, &id, &slot))
		return check_fault(report, offset, "a record of a slot that is none");
	if (lease_word_read(slot_word(pool, id, slot)) != LEASE_PINNED)
		return check_fault(report, offset, "held by a record, but its word says otherwise");
	return 0;
}

static unsigned check_heaps(struct pool *pool, FILE *report)
{
	const struct lease *lease = &pool->lease;
	uint32_t n_open = 0, n_quarantined = 0, n_listed = 0;

	for (uint32_t i = 1; i < lease->n_heaps_high; i++) {
		n_open += heap_state(pool, i) == HEAP_OPEN && lease->heaps[i].member;
		n_quarantined += heap_state(pool, i) == HEAP_QUARANTINED && !lease->heaps[i].member;
	}
	for (const struct pool_member *m = pool->first; m; m = m->next)
		for (uint32_t i = m->first_heap; i && n_listed <= lease->n_heaps_high; i = lease->heaps[i].next)
			n_listed += lease->heaps[i].member == m;
	if (n_open == lease->n_heaps_open && n_listed == n_open && n_quarantined == lease->n_quarantined)
		return 0;
	fprintf(report, "heaps: %u open counted, %u found, %u listed; %u in quarantine counted, %u found\n",
		lease->n_heaps_open, n_open, n_listed, lease->n_quarantined, n_quarantined);
	return 1;
}

unsigned lease_check(struct pool *pool, FILE *report)
{
	const struct extent_map *map = &pool->map;
	unsigned n_faults = 0;
	uint32_t n = 0;

	if (!pool->lease.is_on)
		return 0;
	for (uint32_t id = 0; id < pool->slab_records.n_high; id++)
		if (slab_exists(pool, id)) {
			n++;
			n_faults += check_slab(pool, id, report);
		}
	if (n != map->n_leased || n != pool->slab_records.n) {
		fprintf(report, "slabs: %u counted, %u found, %u extents leased\n", pool->slab_records.n, n,
			map->n_leased);
		n_faults++;
	}
	for (uint32_t e = 0; map->n_pinned && e < map->n_high; e++)
		if (extent_state(map, e) == EXTENT_PINNED)
			n_faults += check_pinned(pool, e, report);
	n_faults += check_heaps(pool, report);
	if (!lease_is_sound(pool)) {
		fprintf(report, "leases are damaged: %s\n", pool->lease.why_damaged);
		n_faults++;
	}
	return n_faults;
}
