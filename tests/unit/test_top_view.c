// SPDX-License-Identifier: MIT
/* Screens of `top` from states made here: what is on them, at each size. */
#include <stdio.h>
#include <string.h>

#include "ctl/top_view.h"
#include "tests/lib/test.h"

#define N_POOLS 30

struct world {
	struct top_state state;
	struct top_look look;
	struct top_pool pools[N_POOLS];
	struct mempool_session_info sessions[2];
	struct top_screen screen;
};

static void pool_init(struct top_pool *pool, unsigned i)
{
	*pool = (struct top_pool){
		.info = {.id = 100 + i, .total = 1 << 20, .used = (uint64_t)i << 15},
		.is_open = true,
		.stats = {.total = 1 << 20, .used = (uint64_t)i << 15, .fragmentation = 1.0 / (i + 1)},
		.rates = {true, 1000.0 * (i % 7), 10.0 * (i % 7)},
	};
	snprintf(pool->info.name, sizeof(pool->info.name), "pool-%02u", i);
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	for (unsigned i = 0; i < N_POOLS; i++)
		pool_init(&world->pools[i], (i * 7 + 3) % N_POOLS); /* in no order */
	world->sessions[0] = (struct mempool_session_info){.pid = 4711,
							   .bytes = 3 << 20,
							   .blocks = 12,
							   .command = "evil\033[2J",
							   .pool = "pool-03",
							   .state = "active"};
	world->sessions[1] = (struct mempool_session_info){.pid = 17, .bytes = 16, .blocks = 1, .command = "tiny"};
	world->look = (struct top_look){
		.is_connected = true,
		.daemon = {.version = "9.8.7", .pid = 99, .uptime = 61, .instance = "mine"},
		.pools = world->pools,
		.n_pools = N_POOLS,
		.sessions = world->sessions,
		.n_sessions = 2,
		.n_all_sessions = 5,
	};
	world->state.unicode = true;
	strcpy(world->state.clock, "12:34:56");
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	top_screen_deinit(&world->screen);
	free(world);
	return 0;
}

/* draw() - the screen as text, characters beyond ASCII as '#'; until the next call */
static const char *draw(struct world *world, unsigned rows, unsigned columns)
{
	static char text[256 * 256];
	char *at = text;

	assert_int_equal(top_screen_resize(&world->screen, rows, columns), 0);
	top_draw(&world->screen, &world->state, &world->look);
	for (unsigned row = 0; row < rows; row++) {
		for (unsigned column = 0; column < columns; column++) {
			uint32_t character = world->screen.cells[row * columns + column].character;

			assert_true(character >= ' ' && character != 0x7f); /* nothing moves the cursor */
			*at++ = character < 0x7f ? (char)character : '#';
		}
		*at++ = '\n';
	}
	*at = '\0';
	return text;
}

static const char *line_of(const char *text, const char *word)
{
	static char line[512];
	const char *at = strstr(text, word), *begin = at;

	assert_non_null(at);
	while (begin > text && begin[-1] != '\n')
		begin--;
	snprintf(line, sizeof(line), "%.*s", (int)strcspn(begin, "\n"), begin);
	return line;
}

static void test_list_has_daemon_sums_pools_sessions_and_keys(void **state)
{
	struct world *world = *state;
	const char *text;

	top_order(&world->state, &world->look);
	text = draw(world, 24, 80);
	assert_non_null(strstr(line_of(text, "mempoold 9.8.7"), "pid 99, up 1m01s, instance mine"));
	assert_non_null(strstr(text, "12:34:56\n"));
	assert_non_null(strstr(text, "30 pools, 13.5M of 30M used; 5 sessions; "));
	assert_non_null(strstr(line_of(text, "pool-03"), "9.4%  0.25     3,000        30"));
	assert_non_null(strstr(text, "> pool-00"));
	assert_non_null(strstr(line_of(text, "4711"), "pool-03"));
	assert_non_null(strstr(line_of(text, "4711"), "3M          12  active"));
	assert_non_null(strstr(text, "evil?[2J"));
	assert_non_null(strstr(line_of(text, "tiny"), "(private)"));
	assert_non_null(strstr(text, " q quit  ## select pool  enter map  s sort: by name "));
	world->state.unicode = false;
	assert_non_null(strstr(draw(world, 24, 80), "j k"));
	assert_null(strchr(strstr(draw(world, 24, 80), "pool-00"), '\x80'));
}

static void test_columns_come_with_the_width(void **state)
{
	struct world *world = *state;
	static const struct {
		const char *title;
		unsigned from;
	} cases[] = {{"FRAG", 64}, {"FREE/S", 76}, {"GAPS", 90}, {"LARGEST GAP", 110}, {"BLOCKS  LARGEST", 130}};

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		assert_null(strstr(draw(world, 12, cases[i].from - 1), cases[i].title));
		assert_non_null(strstr(draw(world, 12, cases[i].from), cases[i].title));
	}
}

static void test_every_size_is_drawn(void **state)
{
	struct world *world = *state;

	world->look.map = (char[]){"a map \033[38;5;39m\xe2\x96\x88\033[0m\nof two lines\n"};
	world->look.map_id = 100;
	world->state.selected = 100;
	for (int map = 0; map < 2; map++) {
		world->state.shows_map = map;
		for (unsigned rows = 0; rows < 60; rows += 1 + rows / 20) {
			for (unsigned columns = 0; columns < 220; columns += 1 + columns / 8)
				draw(world, rows, columns);
		}
	}
	world->look.n_pools = world->look.n_sessions = 0;
	world->state.shows_map = false;
	for (unsigned rows = 0; rows < 20; rows++)
		draw(world, rows, 80);
	assert_non_null(strstr(draw(world, 20, 80), "no pools yet"));
	assert_non_null(strstr(draw(world, 20, 80), "nobody has blocks"));
}

static void test_selection_is_seen_wherever_it_is(void **state)
{
	struct world *world = *state;

	top_order(&world->state, &world->look);
	for (unsigned i = 0; i < N_POOLS; i++) {
		char marked[16];

		snprintf(marked, sizeof(marked), "> pool-%02u", i);
		assert_non_null(strstr(draw(world, 12, 40), marked));
		assert_non_null(strstr(draw(world, 24, 80), marked));
		top_select(&world->state, &world->look, 1);
	}
	assert_string_equal(top_selected(&world->state, &world->look)->info.name, "pool-29"); /* the last stays */
	top_select(&world->state, &world->look, -1000);
	assert_string_equal(top_selected(&world->state, &world->look)->info.name, "pool-00");
}

static void test_order_is_kept_and_selection_stays_on_its_pool(void **state)
{
	struct world *world = *state;
	const struct top_pool *pools = world->look.pools;

	world->state.selected = 105;
	for (enum top_sort sort = TOP_BY_NAME; sort < TOP_SORT_N; sort++) {
		world->state.sort = sort;
		top_order(&world->state, &world->look);
		assert_int_equal(top_selected(&world->state, &world->look)->info.id, 105);
		for (unsigned i = 1; i < N_POOLS; i++) {
			if (sort == TOP_BY_NAME)
				assert_true(strcmp(pools[i - 1].info.name, pools[i].info.name) < 0);
			else if (sort == TOP_BY_USED)
				assert_true(pools[i - 1].info.used >= pools[i].info.used);
			else if (sort == TOP_BY_RATE)
				assert_true(pools[i - 1].rates.alloc >= pools[i].rates.alloc);
			else
				assert_true(pools[i - 1].stats.fragmentation >= pools[i].stats.fragmentation);
		}
	}
	world->state.selected = 9999; /* destroyed meanwhile */
	top_order(&world->state, &world->look);
	assert_int_equal(world->state.selected, pools[0].info.id);
	world->look.n_pools = 0;
	top_order(&world->state, &world->look);
	top_select(&world->state, &world->look, 1);
	assert_null(top_selected(&world->state, &world->look));
}

static void test_a_daemon_that_is_gone_is_said_and_the_pools_stay(void **state)
{
	struct world *world = *state;
	const char *text;

	world->look.is_connected = false;
	strcpy(world->look.trouble, "connect: nobody\tis there");
	text = draw(world, 24, 100);
	assert_non_null(strstr(text, "no daemon, reconnecting# (connect: nobody?is there)"));
	assert_non_null(strstr(text, "pool-03"));
	assert_true(world->screen.cells[3 * 100 + 2].attributes & TOP_DIM); /* but are not of now */
}

static void test_pools_that_are_not_ours_show_what_the_list_says(void **state)
{
	struct world *world = *state;

	for (unsigned i = 0; i < N_POOLS; i++)
		world->pools[i].is_open = false;
	assert_non_null(strstr(draw(world, 24, 80), "not ours"));
	world->state.shows_map = true;
	assert_non_null(strstr(draw(world, 24, 80), "is for those who may open it"));
}

static void test_map_has_its_colours_and_is_of_the_selected_pool(void **state)
{
	struct world *world = *state;
	const struct top_cell *cells;

	world->look.map = (char[]){"ab\033[38;5;39mc\033[0md\n\033[1mx\xc3\xa9\xff\n"};
	world->look.map_id = world->state.selected = 104;
	world->state.shows_map = true;
	draw(world, 24, 80);
	cells = &world->screen.cells[3 * 80];
	assert_int_equal(cells[1].color, 0);
	assert_int_equal(cells[2].character, 'c');
	assert_int_equal(cells[2].color, 39);
	assert_int_equal(cells[3].color, 0);
	assert_int_equal(cells[80].character, 'x');
	assert_int_equal(cells[81].character, 0xe9);
	assert_int_equal(cells[82].character, '?');
	world->state.selected = 105;
	assert_non_null(strstr(draw(world, 24, 80), "pool-05: its map comes with the next look"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_list_has_daemon_sums_pools_sessions_and_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_columns_come_with_the_width, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_size_is_drawn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_selection_is_seen_wherever_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order_is_kept_and_selection_stays_on_its_pool, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_daemon_that_is_gone_is_said_and_the_pools_stay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pools_that_are_not_ours_show_what_the_list_says, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map_has_its_colours_and_is_of_the_selected_pool, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
