// SPDX-License-Identifier: MIT
/*
 * A map that is recovered from a copy of its ledger, as a killed daemon left it: with what was committed, and without what was
 * not. (tests/crash kills between any two stores; here whole operations end before their commit, at random, many at once.)
 */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/lib/map.h"
#include "tests/lib/rnd.h"
#include "tests/lib/test.h"

#define TOTAL	 (256u << 10)
#define N_OWNERS 3u
#define N_BLOCKS 512u

static struct ledger_shape shape;

struct truth { /* all blocks, by index; zero: none */
	uint64_t words[4 * N_BLOCKS * 4];
	uint32_t n;
};

static void truth_read(struct truth *truth, const struct extent_map *map)
{
	memset(truth, 0, sizeof(*truth));
	assert_true(map->n_high <= N_BLOCKS * 4);
	for (uint32_t i = 0; i < map->n_high; i++) {
		const struct extent_record *record = extent_record(map, i);
		uint64_t *words = truth->words + 4 * (size_t)i;

		if (extent_state(map, i) != EXTENT_LIVE)
			continue;
		truth->n++;
		words[0] = extent_word(&record->where);
		words[1] = extent_word(&record->what) &
			   ((UINT64_C(1) << 56) - 1); /* flags come back with holds and names */
		words[2] = extent_word(&record->origin);
		words[3] = extent_word(&record->whose);
	}
}

/* ---- recovery of a copy ---- */

struct recovered {
	struct ledger ledger;
	struct extent_map map;
	struct extent_owner owners[N_OWNERS];
	uint32_t last_since;
	char why[160];
};

static int visit(void *arg, uint32_t extent)
{
	struct recovered *recovered = arg;

	assert_true(extent_since(&recovered->map, extent) >= recovered->last_since);
	recovered->last_since = extent_since(&recovered->map, extent);
	if (extent_owner(&recovered->map, extent) >= N_OWNERS)
		return 77;
	extent_map_hang(&recovered->map, extent, &recovered->owners[extent_owner(&recovered->map, extent)]);
	return 0;
}

static int copy_of(int fd)
{
	static uint8_t page[65536];
	int copy = memfd_create("copy", MFD_CLOEXEC);
	struct stat st;
	ssize_t n;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(ftruncate(copy, st.st_size), 0);
	for (off_t at = 0; (n = pread(fd, page, sizeof(page), at)) > 0; at += n)
		assert_int_equal(pwrite(copy, page, (size_t)n, at), n);
	return copy;
}

static int recover(struct recovered *recovered, int fd)
{
	int r;

	*recovered = (struct recovered){0};
	for (uint32_t i = 0; i < N_OWNERS; i++)
		recovered->owners[i].head = EXTENT_NONE;
	r = ledger_open(&recovered->ledger, fd, &shape);
	if (r) {
		close(fd);
		return r;
	}
	r = extent_map_recover(&recovered->map, &recovered->ledger, MAP_FIRST, TOTAL, 9, visit, recovered,
			       recovered->why, sizeof(recovered->why));
	if (r)
		ledger_deinit(&recovered->ledger);
	return r;
}

/* ---- random operations ---- */

struct play {
	struct test_map world;
	struct extent_owner owners[N_OWNERS];
	struct rnd rnd;
	uint32_t blocks[N_BLOCKS], n;
	uint32_t now_s;
};

static void take(struct play *play)
{
	uint32_t owner = (uint32_t)rnd_below(&play->rnd, N_OWNERS), extent;

	if (play->n == N_BLOCKS ||
	    extent_map_take(&play->world.map, 16 * (1 + rnd_below(&play->rnd, 80)), 16u << rnd_below(&play->rnd, 6), 0,
			    3, rnd_next(&play->rnd), play->now_s, &extent))
		return;
	if (rnd_below(&play->rnd, 10)) {
		extent_map_publish(&play->world.map, extent, owner, &play->owners[owner]);
		play->blocks[play->n++] = extent;
	} /* else it stays TAKEN, as if its pages were being backed, for ever */
}

static void change(struct play *play, uint32_t at)
{
	struct extent_map *map = &play->world.map;
	uint32_t extent = play->blocks[at], owner = extent_owner(map, extent), to;

	switch (rnd_below(&play->rnd, 4)) {
	case 0:
		extent_map_give(map, extent, &play->owners[owner], play->now_s);
		play->blocks[at] = play->blocks[--play->n];
		return;
	case 1:
		to = (uint32_t)rnd_below(&play->rnd, N_OWNERS);
		extent_map_own(map, extent, &play->owners[owner], to, &play->owners[to]);
		return;
	case 2:
		extent_map_set_flags(map, extent, (unsigned)rnd_below(&play->rnd, 4));
		return;
	default:
		(void)!extent_map_resize(map, extent, 16 * (1 + rnd_below(&play->rnd, 80)),
					 (uint32_t)rnd_below(&play->rnd, 16), &play->owners[owner], play->now_s);
	}
}

static void operate(struct play *play)
{
	play->now_s += rnd_below(&play->rnd, 3) == 0;
	if (play->n && rnd_below(&play->rnd, 2))
		change(play, (uint32_t)rnd_below(&play->rnd, play->n));
	else
		take(play);
}

static void expect(struct play *play, const struct truth *wanted)
{
	static struct truth found;
	struct recovered recovered;
	uint64_t n_blocks = 0;

	assert_int_equal(recover(&recovered, copy_of(play->world.ledger.fd)), 0);
	truth_read(&found, &recovered.map);
	assert_int_equal(found.n, wanted->n);
	assert_memory_equal(found.words, wanted->words, sizeof(found.words));
	assert_int_equal(extent_map_check(&recovered.map, stderr), 0);
	for (uint32_t i = 0; i < N_OWNERS; i++)
		n_blocks += recovered.owners[i].n_blocks;
	assert_int_equal(n_blocks, wanted->n);
	ledger_deinit(&recovered.ledger);
}

static void play_one(uint64_t seed)
{
	static struct truth before, after;
	struct play play = {.now_s = 100};

	rnd_init(&play.rnd, seed);
	for (uint32_t i = 0; i < N_OWNERS; i++)
		play.owners[i].head = EXTENT_NONE;
	assert_int_equal(test_map_init(&play.world, TOTAL, TOTAL), 0);
	for (int i = 0; i < 400; i++) {
		operate(&play);
		intent_commit(&play.world.ledger);
	}
	truth_read(&before, &play.world.map);
	expect(&play, &before);
	for (uint64_t i = rnd_below(&play.rnd, 24); i-- > 0;)
		operate(&play);
	expect(&play, &before); /* not committed: none of it has happened */
	truth_read(&after, &play.world.map);
	intent_commit(&play.world.ledger);
	expect(&play, &after);
	test_map_deinit(&play.world);
}

static void test_extent_recovers_what_was_committed_and_no_more(void **state)
{
	uint64_t seed = rnd_seed_from_env_or_time();

	(void)state;
	for (uint64_t i = 0; i < 300; i++)
		play_one(seed + i);
}

/* ---- books that cannot be ---- */

static struct test_map t;

static void two_blocks(uint32_t *a, uint32_t *b)
{
	assert_int_equal(test_map_init(&t, TOTAL, TOTAL), 0);
	assert_int_equal(extent_map_take(&t.map, 64, 16, 0, 0, 1, 1, a), 0);
	extent_map_publish(&t.map, *a, 0, &t.owner);
	assert_int_equal(extent_map_take(&t.map, 64, 16, 0, 0, 1, 1, b), 0);
	extent_map_publish(&t.map, *b, 0, &t.owner);
	intent_commit(&t.ledger);
}

static void expect_refused(int outcome, const char *word)
{
	struct recovered recovered;

	assert_int_equal(recover(&recovered, copy_of(t.ledger.fd)), outcome);
	if (word)
		assert_non_null(strstr(recovered.why, word));
	test_map_deinit(&t);
}

static void test_extent_overlap_is_refused(void **state)
{
	uint32_t a, b;

	(void)state;
	two_blocks(&a, &b);
	intent_store(&extent_record(&t.map, a)->what, UINT64_C(80) | (uint64_t)EXTENT_LIVE << 48);
	expect_refused(EXTENT_E_DAMAGED, "overlap");
}

static void test_extent_out_of_bounds_is_refused(void **state)
{
	uint32_t a, b;

	(void)state;
	two_blocks(&a, &b);
	intent_store(&extent_record(&t.map, b)->where, MAP_FIRST + TOTAL - 48);
	expect_refused(EXTENT_E_DAMAGED, "outside");
	two_blocks(&a, &b);
	intent_store(&extent_record(&t.map, b)->where, MAP_FIRST - 16);
	expect_refused(EXTENT_E_DAMAGED, "outside");
	two_blocks(&a, &b);
	intent_store(&extent_record(&t.map, b)->where, (MAP_FIRST + 128) | UINT64_C(65) << 48);
	expect_refused(EXTENT_E_DAMAGED, "slack");
	two_blocks(&a, &b);
	intent_store(&extent_record(&t.map, b)->what, UINT64_C(64) | (uint64_t)EXTENT_STATE_N << 48);
	expect_refused(EXTENT_E_DAMAGED, "does not know");
	two_blocks(&a, &b);
	intent_store(&extent_record(&t.map, b)->whose, N_OWNERS);
	expect_refused(77, NULL);
}

static void test_ledger_of_another_kind_is_refused(void **state)
{
	uint32_t a, b;

	(void)state;
	two_blocks(&a, &b);
	t.ledger.header->version++;
	expect_refused(LEDGER_E_VERSION, NULL);
	two_blocks(&a, &b);
	t.ledger.header->magic ^= 1;
	expect_refused(LEDGER_E_FOREIGN, NULL);
	two_blocks(&a, &b);
	t.ledger.header->file_bytes += 4096;
	expect_refused(LEDGER_E_DAMAGED, NULL);
	two_blocks(&a, &b);
	assert_int_equal(ftruncate(t.ledger.fd, 100), 0);
	expect_refused(LEDGER_E_DAMAGED, NULL);
	two_blocks(&a, &b);
	assert_int_equal(ftruncate(t.ledger.fd, 0), 0);
	expect_refused(LEDGER_E_FOREIGN, NULL);
	two_blocks(&a, &b);
	atomic_store(&t.ledger.header->n_backed[LEDGER_EXTENTS], t.ledger.tables[LEDGER_EXTENTS].n_max + 1);
	expect_refused(LEDGER_E_DAMAGED, NULL);
	two_blocks(&a, &b);
	atomic_store(&t.ledger.header->n_noted, t.ledger.tables[LEDGER_INTENT].n_backed + 1);
	expect_refused(LEDGER_E_DAMAGED, NULL);
}

static void test_intent_that_leads_elsewhere_is_refused(void **state)
{
	static const uint64_t places[] = {0, 8, 12, 4095, UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 40};
	uint32_t a, b;

	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(places); i++) {
		two_blocks(&a, &b);
		intent_set(&t.ledger, &extent_record(&t.map, a)->origin, 5);
		intent_store(&((struct intent_entry *)ledger_at(&t.ledger, LEDGER_INTENT, 0))->at, places[i]);
		expect_refused(LEDGER_E_DAMAGED, NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_extent_recovers_what_was_committed_and_no_more),
		cmocka_unit_test(test_extent_overlap_is_refused),
		cmocka_unit_test(test_extent_out_of_bounds_is_refused),
		cmocka_unit_test(test_ledger_of_another_kind_is_refused),
		cmocka_unit_test(test_intent_that_leads_elsewhere_is_refused),
	};

	extent_map_shape(&shape, TOTAL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
