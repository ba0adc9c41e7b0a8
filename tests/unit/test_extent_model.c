// SPDX-License-Identifier: MIT
/*
 * The extent map against a sorted array, over a million random operations: after each, both must agree.
 *
 * What they disagree about is printed as a line "found: …" before the test fails; the mutants' runs look for it, so that a
 * crash is not taken for a finding.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "extent_reference.h"
#include "tests/lib/map.h"
#include "tests/lib/rnd.h"
#include "tests/lib/test.h"

#define N_OPERATIONS_LEAST 1000000u
#define N_OWNERS	   4u
#define N_LARGEST	   6u

struct kind { /* of maps */
	const char *name;
	uint64_t least_bytes, most_bytes; /* a map's own size is log-uniform between */
	uint64_t most_size;		  /* of a block; a map has its own most below this */
	uint32_t n_maps, n_steps;
	uint32_t compare_every;
};

static const struct kind kinds[] = {
	{"tiny", 16, 1 << 10, 1 << 9, 300, 700, 1},
	{"small", 2 << 10, 24 << 10, 2 << 10, 120, 2500, 1},
	{"medium", 128 << 10, 4 << 20, 64 << 10, 60, 6000, 32},
	{"huge", UINT64_C(1) << 33, UINT64_C(1) << 40, UINT64_C(1) << 36, 40, 6000,
	 32}, /* sparse, far beyond 32 bits */
};

static struct { /* over all maps */
	uint64_t n_operations;
	uint64_t n_sizes[64], n_alignments[64]; /* by the power of two */
	uint64_t n_takes, n_exhausted, n_exhausted_aligned;
	uint64_t n_merges[4]; /* by MERGED_* */
	uint64_t n_resizes, n_no_room;
	uint64_t n_owned, n_flagged, n_grown, n_found, n_not_found;
	uint32_t n_extents_most;
} histogram;

struct play {
	const struct kind *kind;
	uint32_t number, step, now_s;
	uint64_t most_size; /* of this map */
	uint64_t max_bytes;
	unsigned aligned_percent;
	bool is_filling; /* more takes than gives, for a while */
	struct rnd rnd;
	struct test_map world;
	struct extent_map *map;
	struct reference reference;
	struct extent_owner owners[N_OWNERS];
};

PRINTF(2, 3) _Noreturn static void found(struct play *play, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("found: ");
	vprintf(format, args);
	va_end(args);
	printf(" (%s map %u, step %u)\n", play->kind->name, play->number, play->step);
	if (play->reference.n <= 40)
		extent_map_dump(play->map, stdout);
	fflush(stdout);
	fail();
	abort(); /* fail() does not come back, but does not say so */
}

#define MUST(play, condition, ...)                  \
	do {                                        \
		if (!(condition))                   \
			found((play), __VA_ARGS__); \
	} while (0)

/* ---- looking ---- */

static void compare_whole(struct play *play)
{
	char what[160];

	if (extent_map_check(play->map, NULL)) {
		char *report = NULL;
		size_t n_bytes;
		FILE *file = open_memstream(&report, &n_bytes);

		extent_map_check(play->map, file);
		fclose(file);
		found(play, "by extent_map_check(): %.*s", (int)strcspn(report, "\n"), report);
	}
	MUST(play, !reference_compare(&play->reference, play->map, what), "%s", what);
	for (uint32_t i = 0; i < N_OWNERS; i++)
		MUST(play, !reference_compare_owner(&play->reference, play->map, i, &play->owners[i], what), "%s",
		     what);
}

static void compare_largest(struct play *play)
{
	uint32_t gaps[N_LARGEST], n_wanted = 1 + (uint32_t)rnd_below(&play->rnd, N_LARGEST);
	uint64_t sizes[N_LARGEST];
	uint32_t n = reference_largest(&play->reference, sizes, n_wanted);

	MUST(play, extent_map_largest_gap(play->map) == (n ? sizes[0] : 0),
	     "largest gap is %" PRIu64 ", should be %" PRIu64, extent_map_largest_gap(play->map), n ? sizes[0] : 0);
	MUST(play, extent_map_largest_gaps(play->map, gaps, n_wanted) == n, "not %u largest gaps", n);
	for (uint32_t i = 0; i < n; i++) {
		MUST(play, extent_size(play->map, gaps[i]) == sizes[i],
		     "largest gap %u is of %" PRIu64 ", not %" PRIu64, i, extent_size(play->map, gaps[i]), sizes[i]);
		for (uint32_t k = 0; k < i; k++)
			MUST(play, gaps[k] != gaps[i], "a gap is twice among the largest");
	}
}

/* whatever is at a random offset is found by it, with any hint */
static void compare_at(struct play *play)
{
	uint64_t first = play->reference.first_offset;
	uint64_t offset = first - 64 + rnd_below(&play->rnd, play->reference.total_bytes + 128);
	uint32_t at = reference_at(&play->reference, offset), extent;
	uint32_t hint = rnd_below(&play->rnd, 4) ? (uint32_t)rnd_below(&play->rnd, play->map->n_high + 8) : EXTENT_NONE;
	bool is_start;

	extent = extent_map_at(play->map, offset, hint);
	MUST(play, (extent == EXTENT_NONE) == (at == play->reference.n), "0x%" PRIx64 " is in no extent", offset);
	MUST(play, extent == EXTENT_NONE || extent_offset(play->map, extent) == play->reference.extents[at].offset,
	     "0x%" PRIx64 " is in another extent", offset);
	if (at < play->reference.n && rnd_below(&play->rnd, 2))
		offset = play->reference.extents[at].offset;
	is_start = at < play->reference.n && play->reference.extents[at].state == EXTENT_LIVE &&
		   play->reference.extents[at].offset == offset;
	extent = EXTENT_NONE;
	MUST(play, extent_map_find(play->map, offset, &extent) == (is_start ? 0 : EXTENT_E_NONE), "0x%" PRIx64 " %s",
	     offset, is_start ? "starts a block, but it was not found" : "starts no block, but one was found");
	MUST(play, extent == (is_start ? play->reference.extents[at].index : EXTENT_NONE),
	     "0x%" PRIx64 " finds another block", offset);
	*(is_start ? &histogram.n_found : &histogram.n_not_found) += 1;
}

/* ---- doing ---- */

/* a random block, by position; n of the reference if there is none near */
static uint32_t random_block(struct play *play)
{
	uint32_t n = play->reference.n, at = (uint32_t)rnd_below(&play->rnd, n);

	for (uint32_t i = 0; i < 3;
	     i++, at = (at + 1) % n) /* gaps do not touch, but for the last and the first, in a ring */
		if (play->reference.extents[at].state != EXTENT_GAP)
			return at;
	return n;
}

static uint64_t random_size(struct play *play)
{
	uint64_t largest = extent_map_largest_gap(play->map);

	if (largest && !rnd_below(&play->rnd, 40)) /* exactly what is there, or a granule beside */
		return largest + EXTENT_GRANULE * rnd_below(&play->rnd, 2);
	return round_down(rnd_log(&play->rnd, EXTENT_GRANULE, play->most_size), EXTENT_GRANULE);
}

static uint64_t random_alignment(struct play *play)
{
	if (rnd_below(&play->rnd, 100) >= play->aligned_percent)
		return EXTENT_GRANULE;
	return EXTENT_GRANULE << rnd_below(&play->rnd, 18); /* to 2 MiB */
}

static struct extent_owner *list_of(struct play *play, uint32_t owner)
{
	return owner == EXTENT_OWNER_NONE ? NULL : &play->owners[owner];
}

static uint32_t random_owner(struct play *play)
{
	uint32_t owner = (uint32_t)rnd_below(&play->rnd, N_OWNERS + 1);

	return owner == N_OWNERS ? EXTENT_OWNER_NONE : owner;
}

static void publish(struct play *play, uint32_t at)
{
	struct reference_extent *block = &play->reference.extents[at];

	block->owner = random_owner(play);
	block->state = EXTENT_LIVE;
	block->hung = ++play->reference.n_hung;
	extent_map_publish(play->map, block->index, block->owner, list_of(play, block->owner));
}

static void do_give(struct play *play, uint32_t at)
{
	struct reference_extent block = play->reference.extents[at];
	uint32_t extent, gap;
	unsigned merged;

	if (block.state == EXTENT_LIVE) /* as every free does */
		MUST(play, !extent_map_find(play->map, block.offset, &extent) && extent == block.index,
		     "0x%" PRIx64 " block is not found by its offset", block.offset);
	at = reference_give(&play->reference, at, play->now_s, &merged);
	gap = extent_map_give(play->map, block.index, list_of(play, block.owner), play->now_s);
	histogram.n_merges[merged]++;
	MUST(play,
	     extent_offset(play->map, gap) == play->reference.extents[at].offset &&
		     extent_size(play->map, gap) == play->reference.extents[at].size,
	     "0x%" PRIx64 " given back makes a gap of %" PRIu64 " bytes at 0x%" PRIx64 ", should be %" PRIu64
	     " at 0x%" PRIx64,
	     block.offset, extent_size(play->map, gap), extent_offset(play->map, gap), play->reference.extents[at].size,
	     play->reference.extents[at].offset);
}

static void do_take(struct play *play)
{
	uint64_t size = random_size(play), alignment = random_alignment(play);
	uint64_t bias = rnd_below(&play->rnd, 3) ? 0 : EXTENT_GRANULE * rnd_below(&play->rnd, 3);
	uint64_t origin = rnd_next(&play->rnd), best = reference_best(&play->reference, size), offset;
	uint32_t slack = (uint32_t)rnd_below(&play->rnd, size < 65536 ? size : 65536), extent = EXTENT_NONE, gap, at;
	bool fits = reference_fits(&play->reference, size, alignment, bias);
	int r = extent_map_take(play->map, size, alignment, bias, slack, origin, play->now_s, &extent);

	histogram.n_takes++;
	histogram.n_sizes[63 - __builtin_clzll(size)]++;
	histogram.n_alignments[63 - __builtin_clzll(alignment)]++;
	MUST(play, r == (fits ? 0 : EXTENT_E_EXHAUSTED),
	     "taking %" PRIu64 " bytes by %" PRIu64 " gives %d, should be %d", size, alignment, r,
	     fits ? 0 : EXTENT_E_EXHAUSTED);
	if (r) {
		MUST(play, extent == EXTENT_NONE, "a failed take has touched its result");
		histogram.n_exhausted++;
		histogram.n_exhausted_aligned += best != 0;
		return;
	}
	offset = extent_offset(play->map, extent);
	MUST(play, (offset + bias) % alignment == 0, "0x%" PRIx64 " is not aligned to %" PRIu64, offset, alignment);
	gap = reference_at(&play->reference, offset);
	MUST(play, gap < play->reference.n, "0x%" PRIx64 " handed out is outside", offset);
	/* best fit: to the byte, unless its alignment may have ruled the smallest gaps out */
	MUST(play, alignment > EXTENT_GRANULE || play->reference.extents[gap].size == best,
	     "%" PRIu64 " bytes are from a gap of %" PRIu64 ", the best has %" PRIu64, size,
	     play->reference.extents[gap].size, best);
	at = reference_take(&play->reference, offset, size, play->now_s);
	MUST(play, at < play->reference.n, "0x%" PRIx64 " handed out was not free", offset);
	play->reference.extents[at].index = extent;
	play->reference.extents[at].slack = slack;
	play->reference.extents[at].origin = origin;
	if (rnd_below(&play->rnd, 20))
		publish(play, at);
	else if (rnd_below(&play->rnd, 2)) /* no memory for its pages, say */
		do_give(play, at);
}

static void do_resize(struct play *play, uint32_t at)
{
	struct reference_extent *block = &play->reference.extents[at];
	uint64_t room = extent_map_room_behind(play->map, block->index), old = block->size, size;
	uint32_t slack, index = block->index;
	struct extent_owner *list = list_of(play, block->owner);
	bool fits;
	int r;

	switch (rnd_below(&play->rnd, 4)) {
	case 0:
		size = old + room + EXTENT_GRANULE * rnd_below(&play->rnd, 2);
		break;
	case 1:
		size = old;
		break;
	default:
		size = random_size(play);
	}
	slack = (uint32_t)rnd_below(&play->rnd, size < 65536 ? size : 65536);
	fits = reference_resize(&play->reference, at, size, play->now_s);
	r = extent_map_resize(play->map, index, size, slack, list, play->now_s);
	MUST(play, r == (fits ? 0 : EXTENT_E_NO_ROOM), "from %" PRIu64 " to %" PRIu64 " bytes gives %d, should be %d",
	     old, size, r, fits ? 0 : EXTENT_E_NO_ROOM);
	if (fits)
		play->reference.extents[at].slack = slack; /* not by block: it may have moved */
	histogram.n_resizes++;
	histogram.n_no_room += !fits;
}

static void do_own(struct play *play, uint32_t at)
{
	struct reference_extent *block = &play->reference.extents[at];
	uint32_t from = block->owner;

	block->owner = random_owner(play);
	block->hung = ++play->reference.n_hung;
	extent_map_own(play->map, block->index, list_of(play, from), block->owner, list_of(play, block->owner));
	histogram.n_owned++;
}

static void do_set_flags(struct play *play, uint32_t at)
{
	struct reference_extent *block = &play->reference.extents[at];

	block->flags = (unsigned)rnd_below(&play->rnd, 4);
	extent_map_set_flags(play->map, block->index, block->flags);
	histogram.n_flagged++;
}

static void do_grow(struct play *play)
{
	uint64_t room = play->max_bytes - play->reference.total_bytes, n_bytes;

	if (!room)
		return;
	n_bytes = round_up(1 + rnd_below(&play->rnd, room / 4 + 1), EXTENT_GRANULE);
	if (n_bytes > room)
		n_bytes = room;
	MUST(play, !extent_map_grow(play->map, n_bytes, play->now_s), "cannot grow by %" PRIu64, n_bytes);
	reference_grow(&play->reference, n_bytes, play->now_s);
	histogram.n_grown++;
}

static void step(struct play *play)
{
	uint64_t dice = rnd_below(&play->rnd, 1000);
	uint32_t at = random_block(play);
	bool is_live = at < play->reference.n && play->reference.extents[at].state == EXTENT_LIVE;

	histogram.n_operations++;
	play->now_s += rnd_below(&play->rnd, 3) == 0;
	if (!rnd_below(&play->rnd, play->kind->n_steps / 6))
		play->is_filling = !play->is_filling;
	if (dice < (play->is_filling ? 620 : 200))
		do_take(play);
	else if (dice < 800 && at < play->reference.n)
		do_give(play, at);
	else if (dice < 870 && is_live)
		do_resize(play, at);
	else if (dice < 920 && is_live)
		do_own(play, at);
	else if (dice < 950 && is_live)
		do_set_flags(play, at);
	else if (dice < 960 && at < play->reference.n && !is_live)
		publish(play, at);
	else if (dice >= 999)
		do_grow(play);
	else
		compare_at(play);
}

static void play_map(const struct kind *kind, uint32_t number, uint64_t seed)
{
	struct play *play = calloc(1, sizeof(*play));
	uint64_t first, total;

	assert_non_null(play);
	rnd_init(&play->rnd, seed);
	play->kind = kind;
	play->number = number;
	play->map = &play->world.map;
	play->max_bytes = round_up(rnd_log(&play->rnd, kind->least_bytes, kind->most_bytes), EXTENT_GRANULE);
	total = round_up(play->max_bytes - rnd_below(&play->rnd, play->max_bytes / 2), EXTENT_GRANULE);
	first = EXTENT_GRANULE * rnd_below(&play->rnd, 1024);
	play->most_size = rnd_log(&play->rnd, EXTENT_GRANULE, kind->most_size < total ? kind->most_size : total);
	play->aligned_percent = (unsigned)rnd_below(&play->rnd, 2) * (unsigned)rnd_below(&play->rnd, 50);
	play->is_filling = true;
	for (uint32_t i = 0; i < N_OWNERS; i++)
		play->owners[i] = (struct extent_owner){.head = EXTENT_NONE};
	memset(&play->world, 0xff, sizeof(play->world));
	assert_int_equal(test_map_init_at(&play->world, first, total, play->max_bytes), 0);
	reference_init(&play->reference, first, total);
	compare_whole(play);
	for (; play->step < kind->n_steps; play->step++) {
		step(play);
		intent_commit(&play->world.ledger);
		compare_largest(play);
		if (play->reference.n > histogram.n_extents_most)
			histogram.n_extents_most = play->reference.n;
		if (play->step % kind->compare_every == 0)
			compare_whole(play);
	}
	for (uint32_t at; (at = random_block(play)) < play->reference.n;) {
		do_give(play, at);
		intent_commit(&play->world.ledger);
	}
	compare_whole(play);
	MUST(play, play->map->n_gaps == 1 && play->map->free_bytes == play->reference.total_bytes,
	     "all given back is not one gap");
	test_map_deinit(&play->world);
	reference_deinit(&play->reference);
	free(play);
}

/* ---- what was played ---- */

static void print_powers(const char *what, const uint64_t counts[64], uint64_t n)
{
	static const char *const units[] = {"", "K", "M", "G", "T"};

	printf("%s:", what);
	for (unsigned i = 0; i < 50; i++)
		if (counts[i])
			printf(" %u%s %.1f %%", 1u << i % 10, units[i / 10], 100.0 * (double)counts[i] / (double)n);
	printf("\n");
}

static double percent_of(uint64_t n, uint64_t of)
{
	return of ? 100.0 * (double)n / (double)of : 0;
}

static void test_extent_map_is_as_the_reference(void **state)
{
	static const char *const names[4] = {"none", "left", "right", "both"};
	uint64_t seed = rnd_seed_from_env_or_time(), n_gives = 0;

	(void)state;
	for (uint32_t k = 0; k < N_ELEMENTS(kinds); k++)
		for (uint32_t i = 0; i < kinds[k].n_maps; i++)
			play_map(&kinds[k], i, seed + k * 1000 + i);

	printf("%" PRIu64 " operations: %" PRIu64 " takes, %" PRIu64 " resizes (%.1f %% without room), %" PRIu64
	       " handed over, %" PRIu64 " flagged, %" PRIu64 " grown, %" PRIu64
	       " looked up (%.1f %% starts of blocks)\n",
	       histogram.n_operations, histogram.n_takes, histogram.n_resizes,
	       percent_of(histogram.n_no_room, histogram.n_resizes), histogram.n_owned, histogram.n_flagged,
	       histogram.n_grown, histogram.n_found + histogram.n_not_found,
	       percent_of(histogram.n_found, histogram.n_found + histogram.n_not_found));
	printf("extents of one map: up to %u\n", histogram.n_extents_most);
	print_powers("sizes from", histogram.n_sizes, histogram.n_takes);
	print_powers("alignments", histogram.n_alignments, histogram.n_takes);
	printf("exhausted: %.1f %% of takes, %.1f %% by alignment alone\n",
	       percent_of(histogram.n_exhausted, histogram.n_takes),
	       percent_of(histogram.n_exhausted_aligned, histogram.n_takes));
	for (int i = 0; i < 4; i++)
		n_gives += histogram.n_merges[i];
	printf("merges:");
	for (int i = 0; i < 4; i++)
		printf(" %s %.1f %%", names[i], percent_of(histogram.n_merges[i], n_gives));
	printf("\n");

	assert_true(histogram.n_operations >= N_OPERATIONS_LEAST);
	assert_true(percent_of(histogram.n_exhausted, histogram.n_takes) > 1);
	assert_true(percent_of(histogram.n_no_room, histogram.n_resizes) > 1);
	for (int i = 0; i < 4; i++)
		assert_true(percent_of(histogram.n_merges[i], n_gives) > 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_extent_map_is_as_the_reference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
