// SPDX-License-Identifier: MIT
/* The map that pictures are made of, and the pictures: what they sum to, how large they become, what they escape. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl/viz_picture.h"
#include "tests/lib/rnd.h"
#include "tests/lib/test.h"

#define FIRST 4096

static struct viz_piece gap(uint64_t offset, uint64_t size)
{
	return (struct viz_piece){.offset = offset, .size = size};
}

static struct viz_piece block(uint64_t offset, uint64_t size, uint64_t owner)
{
	return (struct viz_piece){.offset = offset, .size = size, .used = size, .n_blocks = 1, .owner = owner};
}

static void add(struct viz_map *map, struct viz_piece piece)
{
	assert_int_equal(viz_map_add(map, &piece), 0);
}

/* the pieces are contiguous, and sum to what came in */
static void check_sums(const struct viz_map *map)
{
	uint64_t at = map->first, used = 0, idle = 0, n_blocks = 0;

	for (size_t i = 0; i < map->n_pieces; i++) {
		const struct viz_piece *piece = &map->pieces[i];

		assert_int_equal(piece->offset, at);
		assert_true(piece->size > 0 && piece->used + piece->idle <= piece->size);
		at += piece->size;
		used += piece->used;
		idle += piece->idle;
		n_blocks += piece->n_blocks;
	}
	assert_int_equal(at, map->end);
	assert_int_equal(used, map->used);
	assert_int_equal(idle, map->idle);
	assert_int_equal(n_blocks, map->n_blocks);
}

/* many() - @n extents of random lengths, a third of them gaps, of @n_owners */
static void many(struct viz_map *map, unsigned n, unsigned n_owners, uint64_t seed)
{
	struct rnd rnd;
	uint64_t at = FIRST;

	rnd_init(&rnd, seed);
	for (unsigned i = 0; i < n; i++) {
		uint64_t size = 16 * (1 + rnd_below(&rnd, 64));
		uint64_t kind = rnd_below(&rnd, 3);
		struct viz_piece piece = kind ? block(at, size, 1 + rnd_below(&rnd, n_owners)) : gap(at, size);

		if (kind == 2) {
			piece.used = size / 2;
			piece.idle = size - piece.used;
		}
		add(map, piece);
		at += size;
	}
	assert_int_equal(viz_map_settle(map), 0);
}

static char *draw(const struct viz_map *map, void (*how)(FILE *, const struct viz_picture *), const char *name,
		  const char *command, size_t *n_bytesp)
{
	struct viz_holder holder = {.session = 1, .pid = 17};
	struct mempool_stats stats = {.total = map->end - map->first};
	struct viz_picture picture = {
		.name = name, .width = VIZ_WIDTH, .map = map, .stats = &stats, .holders = &holder, .n_holders = 1};
	char *text = NULL;
	FILE *out = open_memstream(&text, n_bytesp);

	assert_non_null(out);
	snprintf(holder.command, sizeof(holder.command), "%s", command);
	how(out, &picture);
	assert_int_equal(fclose(out), 0);
	return text;
}

static uint64_t sum_of_sizes(const char *text)
{
	static const char key[] = "data-size=\"";
	uint64_t sum = 0, size;

	for (text = strstr(text, key); text; text = strstr(text + 1, key)) {
		assert_int_equal(sscanf(text + sizeof(key) - 1, "%" SCNu64, &size), 1);
		sum += size;
	}
	return sum;
}

static void test_few_extents_stay_as_they_are(void **state)
{
	struct viz_map map = {0};

	(void)state;
	add(&map, block(FIRST, 160, 3));
	add(&map, gap(FIRST + 160, 4096));
	add(&map, (struct viz_piece){FIRST + 4256, 8192, 64, 8128, 1, 5});
	add(&map, gap(FIRST + 12448, 16));
	add(&map, block(FIRST + 12464, 64, VIZ_POOL));
	assert_int_equal(viz_map_settle(&map), 0);
	assert_int_equal(map.n_pieces, 5);
	check_sums(&map);
	assert_int_equal(map.n_gaps, 2);
	assert_int_equal(map.gaps[0].size, 4096);
	assert_int_equal(map.gaps[1].offset, FIRST + 12448);
	assert_int_equal(map.n_owners, 3);
	assert_int_equal(map.owners[1].session, 5);
	assert_int_equal(map.owners[1].bytes, 8192);
	assert_int_equal(viz_map_rank(&map, 3), 2);
	assert_int_equal(viz_map_rank(&map, VIZ_POOL), 0);
	assert_int_equal(viz_map_rank(&map, 99), 3);
	viz_map_deinit(&map);
}

static void test_extents_that_do_not_join_are_refused(void **state)
{
	struct viz_map map = {0};
	struct viz_piece piece;

	(void)state;
	add(&map, block(FIRST, 160, 3));
	piece = gap(FIRST + 176, 16);
	assert_int_equal(viz_map_add(&map, &piece), -EINVAL);
	piece = gap(FIRST + 160, 0);
	assert_int_equal(viz_map_add(&map, &piece), -EINVAL);
	piece = gap(FIRST + 160, UINT64_MAX - 100);
	assert_int_equal(viz_map_add(&map, &piece), -EINVAL);
	piece = (struct viz_piece){FIRST + 160, 64, 60, 8, 1, 1};
	assert_int_equal(viz_map_add(&map, &piece), -EINVAL);
	assert_int_equal(map.end, FIRST + 160);
	viz_map_deinit(&map);
}

static void test_many_extents_become_cells_that_sum_up(void **state)
{
	(void)state;
	for (unsigned n = VIZ_PIECES - 1; n < 200000; n = n * 3 + 2) {
		struct viz_map map = {0};

		print_message("seed %u\n", n);
		many(&map, n, 5, n);
		assert_true(map.n_pieces <= VIZ_CELLS);
		assert_int_equal(map.n_extents, n);
		check_sums(&map);
		for (size_t i = 1; i < map.n_gaps_kept; i++)
			assert_true(map.gaps[i - 1].size >= map.gaps[i].size);
		viz_map_deinit(&map);
	}
}

static void test_a_cell_is_whose_most_of_it_is(void **state)
{
	struct viz_map map = {0};
	uint64_t at = FIRST;

	(void)state;
	for (unsigned i = 0; i < 3 * VIZ_CELLS;
	     i++) { /* of each 160 bytes 112 are session 2's; the last owners come and go */
		add(&map, block(at, 112, 2));
		add(&map, block(at + 112, 48, 100 + i % 50));
		at += 160;
	}
	assert_int_equal(viz_map_settle(&map), 0);
	for (size_t i = 0; i < map.n_pieces; i++)
		assert_int_equal(map.pieces[i].owner, 2);
	viz_map_deinit(&map);
}

static void test_one_large_extent_folds_what_came_before(void **state)
{
	struct viz_map map = {0};

	(void)state;
	for (unsigned i = 0; i < VIZ_PIECES + 1; i++)
		add(&map, block(FIRST + 16 * i, 16, 1));
	add(&map, gap(FIRST + 16 * (VIZ_PIECES + 1), UINT64_C(1) << 44));
	assert_int_equal(viz_map_settle(&map), 0);
	check_sums(&map);
	assert_int_equal(map.n_pieces, 2); /* the first cell, and what is free */
	viz_map_deinit(&map);
}

static void test_a_million_blocks_make_a_small_picture(void **state)
{
	struct viz_map map = {0};
	size_t n_bytes;
	char *text;

	(void)state;
	many(&map, 1000000, 40, 7);
	check_sums(&map);
	text = draw(&map, viz_svg, "many", "worker", &n_bytes);
	assert_in_range(n_bytes, 1000, 1 << 20);
	assert_int_equal(sum_of_sizes(text), map.end - map.first);
	free(text);
	text = draw(&map, viz_html, "many", "worker", &n_bytes);
	assert_in_range(n_bytes, 1000, 1 << 20);
	assert_int_equal(sum_of_sizes(text), map.end - map.first);
	free(text);
	viz_map_deinit(&map);
}

/* each cell differs from its neighbours, in owner and share: nothing can be joined */
static void test_the_worst_picture_is_small(void **state)
{
	struct viz_map map = {0};
	size_t n_bytes;
	char *text;

	(void)state;
	for (uint64_t i = 0; i < VIZ_CELLS; i++) {
		uint64_t at = (UINT64_C(1) << 45) + i * (UINT64_C(1) << 30);

		add(&map, (struct viz_piece){at, 1 << 30, (1 << 28) * (1 + i % 3), 1 << 26, 12345678, 1 + i % 8});
	}
	assert_int_equal(viz_map_settle(&map), 0);
	assert_int_equal(map.n_pieces, VIZ_CELLS);
	text = draw(&map, viz_svg, "worst", "worker", &n_bytes);
	assert_in_range(n_bytes, 1000, 1200000);
	assert_int_equal(sum_of_sizes(text), map.end - map.first);
	free(text);
	viz_map_deinit(&map);
}

static void test_what_others_chose_is_escaped(void **state)
{
	static const struct {
		const char *text, *escaped;
	} cases[] = {
		{"plain", "plain"},
		{"<script>alert('1')&\"", "&lt;script&gt;alert(&#39;1&#39;)&amp;&quot;"},
		{"na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80", "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80"},
		{"\x1b[31m\n\t\x7f", "?[31m???"},
		{"\xff\xc3(\xc0\xaf\xed\xa0\x80\xe2\x82",
		 "?\?(???????"},		   /* stray, cut, overlong, surrogate, cut at the end */
		{"\xef\xbf\xbf\xc2\x85", "?????"}, /* no characters of XML */
	};

	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		char *text = NULL;
		size_t n;
		FILE *out = open_memstream(&text, &n);

		assert_non_null(out);
		viz_escape(out, cases[i].text);
		assert_int_equal(fclose(out), 0);
		assert_string_equal(text, cases[i].escaped);
		free(text);
	}
}

static void test_a_hostile_command_stays_text(void **state)
{
	static void (*const ways[])(FILE *, const struct viz_picture *) = {viz_svg, viz_html};
	struct viz_map map = {0};

	(void)state;
	add(&map, block(FIRST, 160, 1));
	assert_int_equal(viz_map_settle(&map), 0);
	for (size_t i = 0; i < N_ELEMENTS(ways); i++) {
		size_t n_bytes;
		char *text = draw(&map, ways[i], "p", "</text><script>&\x01", &n_bytes);

		assert_null(strstr(text, "<script"));
		assert_non_null(strstr(text, "&lt;/text&gt;&lt;script&gt;&amp;?, session 1, pid 17: 1 block, 160"));
		free(text);
	}
	viz_map_deinit(&map);
}

static void test_letters_go_by_bytes_and_run_out(void **state)
{
	struct viz_map map = {0};
	uint64_t at = FIRST;
	size_t n_bytes;
	char *text;

	(void)state;
	add(&map, block(at, 1 << 20, VIZ_POOL)); /* has a letter of its own, and takes none */
	at += 1 << 20;
	for (unsigned i = 1; i <= 12; i++) {
		add(&map, block(at, 16 * i, i));
		at += 16 * i;
	}
	assert_int_equal(viz_map_settle(&map), 0);
	text = draw(&map, viz_svg, "p", "first", &n_bytes);
	assert_non_null(strstr(text, "P  the pool"));
	assert_non_null(strstr(text, "A  session 12: 1 block, 192"));
	assert_non_null(strstr(text, "H  session 5: "));
	assert_non_null(strstr(text, "X  4 more sessions"));
	free(text);
	viz_map_deinit(&map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_few_extents_stay_as_they_are),
		cmocka_unit_test(test_extents_that_do_not_join_are_refused),
		cmocka_unit_test(test_many_extents_become_cells_that_sum_up),
		cmocka_unit_test(test_a_cell_is_whose_most_of_it_is),
		cmocka_unit_test(test_one_large_extent_folds_what_came_before),
		cmocka_unit_test(test_a_million_blocks_make_a_small_picture),
		cmocka_unit_test(test_the_worst_picture_is_small),
		cmocka_unit_test(test_what_others_chose_is_escaped),
		cmocka_unit_test(test_a_hostile_command_stays_text),
		cmocka_unit_test(test_letters_go_by_bytes_and_run_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
