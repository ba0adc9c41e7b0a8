// SPDX-License-Identifier: MIT
/*
 * The extent map against a naive model: an array of what is live, searched from end to end. After each step on small maps, and
 * now and then on large ones, the map checks itself; each answer is compared with the model's. At the end the program says how often
 * each case came up, for a case that never comes up is not tested.
 *
 * With --expect-fault it is run on a map with a planted bug, and ends with 42 as soon as a check finds it.
 */
#include <inttypes.h>
#include <string.h>

#include "tests/lib/map.h"
#include "tests/lib/rnd.h"

#define N_OPERATIONS 1200000u
#define N_LIVE_MAX   4000u

struct live {
	uint64_t offset, size;
	uint32_t extent;
};

static struct {
	uint64_t n_takes, n_exhausted, n_gives, n_resizes, n_grows;
	uint64_t by_size[20], by_alignment[20];
	uint64_t merged[4]; /* none, left, right, both */
} seen;

static struct test_map t;
static struct live live[N_LIVE_MAX];
static uint32_t n_live;
static bool expects_fault;

static void fault(const char *what, uint64_t at)
{
	fprintf(stderr, "FAULT: %s at %#" PRIx64 "\n", what, at);
	exit(expects_fault ? 42 : 1);
}

static void require(bool is_true, const char *what, uint64_t at)
{
	if (!is_true)
		fault(what, at);
}

/* ---- the model ---- */

static bool overlaps_live(uint64_t offset, uint64_t size)
{
	for (uint32_t i = 0; i < n_live; i++)
		if (offset < live[i].offset + live[i].size && live[i].offset < offset + size)
			return true;
	return false;
}

static int by_offset(const void *a, const void *b)
{
	const struct live *x = a, *y = b;

	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* whether a range of @size at an @alignment fits between what is live, found by looking everywhere */
static bool fits_somewhere(uint64_t size, uint64_t alignment, uint64_t bias)
{
	uint64_t from = MAP_FIRST, end = MAP_FIRST + t.map.total_bytes;

	qsort(live, n_live, sizeof(live[0]), by_offset);
	for (uint32_t i = 0; i <= n_live; i++) {
		uint64_t to = i < n_live ? live[i].offset : end, start = round_up(from + bias, alignment) - bias;

		if (start >= from && start < to && size <= to - start)
			return true;
		if (i < n_live)
			from = live[i].offset + live[i].size;
	}
	return false;
}

/* ---- operations ---- */

static void take(struct rnd *rnd)
{
	uint64_t most = t.map.total_bytes / 8 < 65536 ? t.map.total_bytes / 8 : 65536, size, alignment = 16, bias = 0;
	uint32_t extent = 0, slack;
	int r;

	size = 16 * rnd_log(rnd, 1, most / 16 + 1);
	if (!rnd_below(rnd, 4))
		alignment = UINT64_C(16) << rnd_below(rnd, 12);
	if (!rnd_below(rnd, 3))
		bias = 16;
	slack = (uint32_t)rnd_below(rnd, 16);
	seen.n_takes++;
	seen.by_size[63 - __builtin_clzll(size)]++;
	seen.by_alignment[63 - __builtin_clzll(alignment) - 4]++;
	r = extent_map_take(&t.map, size, alignment, bias, slack, 77, 1, &extent);
	if (r) {
		seen.n_exhausted++;
		require(r == EXTENT_E_EXHAUSTED, "take fails for another reason than a full pool", size);
		require(!fits_somewhere(size, alignment, bias), "take refuses what fits", size);
		return;
	}
	require((extent_offset(&t.map, extent) + bias) % alignment == 0, "block is not aligned",
		extent_offset(&t.map, extent));
	require(extent_size(&t.map, extent) == size, "block has another size", size);
	require(range_fits(extent_offset(&t.map, extent) - MAP_FIRST, size, t.map.total_bytes),
		"block outside the pool", size);
	require(!overlaps_live(extent_offset(&t.map, extent), size), "block handed out twice",
		extent_offset(&t.map, extent));
	extent_map_publish(&t.map, extent, 5, &t.owner);
	live[n_live++] = (struct live){extent_offset(&t.map, extent), size, extent};
}

static void give(struct rnd *rnd)
{
	uint32_t i = (uint32_t)rnd_below(rnd, n_live), found = 0, prev, next;
	bool left, right;

	require(!extent_map_find(&t.map, live[i].offset, &found) && found == live[i].extent, "block is not found",
		live[i].offset);
	require(extent_size(&t.map, found) == live[i].size, "block changed its size", live[i].offset);
	prev = extent_links(&t.map, found)->prev;
	next = extent_links(&t.map, found)->next;
	left = prev != EXTENT_NONE && extent_state(&t.map, prev) == EXTENT_GAP;
	right = next != EXTENT_NONE && extent_state(&t.map, next) == EXTENT_GAP;
	seen.merged[left + 2 * right]++;
	seen.n_gives++;
	extent_map_give(&t.map, found, &t.owner, 2);
	live[i] = live[--n_live];
}

static void resize(struct rnd *rnd)
{
	uint32_t i = (uint32_t)rnd_below(rnd, n_live);
	uint64_t size = 16 * rnd_log(rnd, 1, live[i].size / 8 + 1);
	int r = extent_map_resize(&t.map, live[i].extent, size, 0, &t.owner, 3);
	struct live kept = live[i];

	seen.n_resizes++;
	live[i].size = 0;
	if (!r)
		require(!overlaps_live(kept.offset, size), "resized into a neighbour", kept.offset);
	else
		require(r == EXTENT_E_NO_ROOM && size > kept.size, "resize refuses what fits", kept.offset);
	live[i] = kept;
	if (!r)
		live[i].size = size;
}

static void look(struct rnd *rnd)
{
	uint64_t at = MAP_FIRST + rnd_below(rnd, t.map.total_bytes), used = 0, largest = extent_map_largest_gap(&t.map);
	uint32_t extent = extent_map_at(&t.map, at, (uint32_t)rnd_below(rnd, 2 * N_LIVE_MAX)), found;

	require(extent != EXTENT_NONE && at - extent_offset(&t.map, extent) < extent_size(&t.map, extent),
		"another extent is said to be there", at);
	for (uint32_t i = 0; i < n_live; i++)
		used += live[i].size;
	require(t.map.free_bytes == t.map.total_bytes - used, "free bytes are miscounted", t.map.free_bytes);
	require(t.owner.n_blocks == n_live && t.owner.n_bytes == used, "an owner's blocks are miscounted", n_live);
	require(!largest || fits_somewhere(largest, 16, 0), "the largest gap is not there", largest);
	require(!fits_somewhere(largest + 16, 16, 0), "there is a larger gap", largest);
	require(extent_map_find(&t.map, at | 1, &found) == EXTENT_E_NONE, "a block at an odd offset", at);
}

static void check(void)
{
	if (!extent_map_check(&t.map, stderr))
		return;
	if (!expects_fault)
		extent_map_dump(&t.map, stderr);
	fault("the map's own check", 0);
}

/* One map from empty to empty. @n: operations */
static void run(struct rnd *rnd, uint64_t total_bytes, uint32_t n)
{
	uint32_t check_every = total_bytes <= 4096 ? 1 : 1 + (uint32_t)(total_bytes / 2048);
	uint64_t room = 64 * 160;

	if (test_map_init(&t, total_bytes, total_bytes + room)) {
		fprintf(stderr, "no memory for a map of %" PRIu64 "\n", total_bytes);
		exit(1);
	}
	n_live = 0;
	for (uint32_t i = 0; i < n; i++) {
		/* waves: fill up, then drain, so that full and empty maps are met */
		uint32_t bias = i / 512 % 2 ? 40 : 65, dice = (uint32_t)rnd_below(rnd, 100);

		if (dice >= 95 && n_live)
			resize(rnd);
		else if (dice < bias && n_live < N_LIVE_MAX)
			take(rnd);
		else if (n_live)
			give(rnd);
		if (!rnd_below(rnd, 2000) && room >= 160) {
			require(!extent_map_grow(&t.map, 160, 4), "grow fails", i);
			room -= 160;
			seen.n_grows++;
		}
		if (i % check_every == 0) {
			look(rnd);
			check();
		}
	}
	while (n_live)
		give(rnd);
	check();
	require(t.map.n_gaps == 1 && t.map.free_bytes == t.map.total_bytes, "an empty map is not one gap",
		t.map.n_gaps);
	test_map_deinit(&t);
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void print_histogram(void)
{
	static const char *const cases[] = {"none", "left", "right", "both"};

	printf("%" PRIu64 " takes (%.1f %% refused, the pool being full), %" PRIu64 " gives, %" PRIu64
	       " resizes, %" PRIu64 " growths\nsizes:",
	       seen.n_takes, percent(seen.n_exhausted, seen.n_takes), seen.n_gives, seen.n_resizes, seen.n_grows);
	for (int i = 4; i < 18; i++)
		printf(" %u+ %.1f%%", 1u << i, percent(seen.by_size[i], seen.n_takes));
	printf("\nalignments:");
	for (int i = 0; i < 12; i++)
		printf(" %u %.1f%%", 16u << i, percent(seen.by_alignment[i], seen.n_takes));
	printf("\nmerged with neighbours:");
	for (int i = 0; i < 4; i++)
		printf(" %s %.1f%%", cases[i], percent(seen.merged[i], seen.n_gives));
	printf("\n");
}

int main(int argc, char **argv)
{
	static const uint64_t totals[] = {16, 160, 1024, 4096, 65536, 1u << 20};
	struct rnd rnd;
	uint32_t n_done = 0;

	expects_fault = argc > 1 && !strcmp(argv[1], "--expect-fault");
	rnd_init(&rnd, rnd_seed_from_env_or_time());
	for (uint32_t round = 0; n_done < N_OPERATIONS; round++) {
		run(&rnd, totals[round % N_ELEMENTS(totals)] + 16 * rnd_below(&rnd, 8), 6000);
		n_done += 6000;
	}
	print_histogram();
	for (int i = 0; i < 4; i++)
		require(percent(seen.merged[i], seen.n_gives) > 1, "a case of merging is hardly tested", (uint64_t)i);
	require(percent(seen.n_exhausted, seen.n_takes) > 1, "full pools are hardly tested", 0);
	printf("%u operations, no fault\n", n_done);
	return 0;
}
