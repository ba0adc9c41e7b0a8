// SPDX-License-Identifier: MIT
/*
 * From above: the daemon, sums, pools (or the map of one), sessions with most bytes, keys. A column appears from a certain width of the
 * screen on; the list of pools scrolls so that the selected one is seen; what does not fit is cut.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/top_view.h"
#include "ctl/units.h"

#define TEXT_BYTES	  512
#define ROW_LIST	  3  /* headings; two lines about the daemon and an empty one above */
#define ROWS_FOR_SESSIONS 14 /* lower screens show pools only */
#define COLOR_USED	  39
#define COLOR_FULL	  160 /* from 90 % on */
#define COLOR_NEWS	  220

static const char *const sort_names[TOP_SORT_N] = {"name", "used", "rate", "fragmentation"};

/* ---- screen ---- */

int top_screen_resize(struct top_screen *screen, unsigned rows, unsigned columns)
{
	struct top_cell *cells = calloc((size_t)rows * columns + 1, sizeof(*cells));

	if (!cells)
		return -ENOMEM;
	free(screen->cells);
	*screen = (struct top_screen){rows, columns, cells};
	return 0;
}

void top_screen_deinit(struct top_screen *screen)
{
	free(screen->cells);
	*screen = (struct top_screen){0};
}

struct pen { /* where the next character goes, and how it looks */
	struct top_screen *screen;
	unsigned row, column;
	uint8_t color, attributes;
};

static void pen_put(struct pen *pen, uint32_t character)
{
	if (pen->row < pen->screen->rows && pen->column < pen->screen->columns)
		pen->screen->cells[(size_t)pen->row * pen->screen->columns + pen->column] =
			(struct top_cell){character, pen->color, pen->attributes};
	pen->column++;
}

/* pen_character() - decode one of our own texts, or of the library's. Return: behind it */
static const char *pen_character(struct pen *pen, const char *at)
{
	unsigned char first = (unsigned char)*at++;
	unsigned n = first < 0xc0 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
	uint32_t character = n ? first & (0x3fu >> n) : first;

	for (; n && ((unsigned char)*at & 0xc0) == 0x80; n--)
		character = character << 6 | ((unsigned char)*at++ & 0x3f);
	if (n || character < ' ' || (character >= 0x7f && character < 0xa0)) /* cut, or it would move the cursor */
		character = '?';
	pen_put(pen, character);
	return at;
}

static void pen_text(struct pen *pen, const char *text)
{
	while (*text)
		text = pen_character(pen, text);
}

static void pen_print(struct pen *pen, const char *format, ...) PRINTF(2, 3);
static void pen_print(struct pen *pen, const char *format, ...)
{
	char text[TEXT_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	pen_text(pen, text);
}

/* pen_escape() - what follows ESC: a colour of the 256 or back to normal; others are skipped. Return: behind it */
static const char *pen_escape(struct pen *pen, const char *at)
{
	unsigned color;

	if (sscanf(at, "[38;5;%um", &color) == 1)
		pen->color = (uint8_t)color;
	else
		pen->color = 0;
	while (*at && *at != '\n' && !(*at >= '@' && *at <= '~' && *at != '['))
		at++;
	return *at && *at != '\n' ? at + 1 : at;
}

static const char *pen_line_of_terminal(struct pen *pen, const char *at)
{
	while (*at && *at != '\n')
		at = *at == '\033' ? pen_escape(pen, at + 1) : pen_character(pen, at);
	pen->color = 0;
	return *at ? at + 1 : at;
}

/* pen_right() - @text in a field of @width, at its right end */
static void pen_right(struct pen *pen, unsigned width, const char *text)
{
	pen_print(pen, "%*s", (int)width, text);
}

/* pen_left() - the same at its left end, cut if it is longer; names come from others */
static void pen_left(struct pen *pen, unsigned width, const char *text)
{
	unsigned end = pen->column + width;

	for (; *text && pen->column < end; text++)
		pen_put(pen, *text >= ' ' && *text <= '~' ? (uint32_t)*text : '?');
	while (pen->column < end)
		pen_put(pen, ' ');
}

/* ---- order and selection ---- */

static double rate_of(const struct top_pool *pool)
{
	return pool->rates.known ? pool->rates.alloc + pool->rates.free : 0;
}

static int compare(const struct top_pool *a, const struct top_pool *b, enum top_sort sort)
{
	double x = 0, y = 0;

	switch (sort) {
	case TOP_BY_USED:
		x = (double)a->info.used;
		y = (double)b->info.used;
		break;
	case TOP_BY_RATE:
		x = rate_of(a);
		y = rate_of(b);
		break;
	case TOP_BY_FRAGMENTATION:
		x = a->is_open ? a->stats.fragmentation : -1;
		y = b->is_open ? b->stats.fragmentation : -1;
		break;
	case TOP_BY_NAME:
	case TOP_SORT_N:
		break;
	}
	return x > y ? -1 : x < y ? 1 : strcmp(a->info.name, b->info.name);
}

static int compare_cb(const void *a, const void *b, void *sort)
{
	return compare(a, b, *(const enum top_sort *)sort);
}

static size_t index_of(const struct top_state *state, const struct top_look *look)
{
	for (size_t i = 0; i < look->n_pools; i++) {
		if (look->pools[i].info.id == state->selected)
			return i;
	}
	return 0;
}

const struct top_pool *top_selected(const struct top_state *state, const struct top_look *look)
{
	return look->n_pools ? &look->pools[index_of(state, look)] : NULL;
}

void top_select(struct top_state *state, const struct top_look *look, int by)
{
	long at = (long)index_of(state, look) + by, last = (long)look->n_pools - 1;

	if (look->n_pools)
		state->selected = look->pools[at < 0 ? 0 : at > last ? last : at].info.id;
}

void top_order(struct top_state *state, struct top_look *look)
{
	if (look->n_pools)
		qsort_r(look->pools, look->n_pools, sizeof(look->pools[0]), compare_cb, &state->sort);
	top_select(state, look, 0);
}

/* ---- pools ---- */

static void put_bar(struct pen *pen, double share, unsigned width, bool unicode)
{
	char bar[TEXT_BYTES];
	FILE *out = fmemopen(bar, sizeof(bar), "w");
	uint8_t color = pen->color;

	if (!out)
		return; /* no memory for a moment: a line without its bar */
	stats_bar(out, share, width, unicode);
	fclose(out);
	pen->color = share >= 0.9 ? COLOR_FULL : COLOR_USED;
	pen_text(pen, bar);
	pen->color = color;
}

enum column {
	COLUMN_NAME,
	COLUMN_TOTAL,
	COLUMN_BAR,
	COLUMN_PERCENT,
	COLUMN_BLOCKS,
	COLUMN_LARGEST,
	COLUMN_GAPS,
	COLUMN_FRAGMENTATION,
	COLUMN_SESSIONS,
	COLUMN_ALLOC,
	COLUMN_FREE,
};

static const struct {
	const char *title;
	unsigned width;	     /* with the space before it */
	unsigned from_width; /* of the screen: shown there and on wider ones */
} columns[] = {
	[COLUMN_NAME] = {"POOL", 0, 0}, /* has what is left */
	[COLUMN_TOTAL] = {"SIZE", 8, 56},
	[COLUMN_BAR] = {"USED", 0, 0}, /* a quarter of the screen, at most 40 */
	[COLUMN_PERCENT] = {"", 7, 0},
	[COLUMN_BLOCKS] = {"BLOCKS", 12, 130},
	[COLUMN_LARGEST] = {"LARGEST GAP", 13, 110},
	[COLUMN_GAPS] = {"GAPS", 9, 90},
	[COLUMN_FRAGMENTATION] = {"FRAG", 6, 64},
	[COLUMN_SESSIONS] = {"SESSIONS", 10, 130},
	[COLUMN_ALLOC] = {"ALLOC/S", 10, 0},
	[COLUMN_FREE] = {"FREE/S", 10, 76},
};

static unsigned bar_width(unsigned screen_columns)
{
	unsigned width = screen_columns / 4;

	return width > 40 ? 40 : width < 6 ? 6 : width;
}

static unsigned column_width(unsigned screen_columns, enum column column)
{
	unsigned left = screen_columns > 2 ? screen_columns - 2 : 0; /* the selection's mark */

	if (screen_columns < columns[column].from_width)
		return 0;
	if (column == COLUMN_BAR)
		return bar_width(screen_columns) + 1;
	if (column != COLUMN_NAME)
		return columns[column].width;
	for (unsigned i = COLUMN_NAME + 1; i < N_ELEMENTS(columns); i++) {
		unsigned width = column_width(screen_columns, i);

		left = left > width ? left - width : 0;
	}
	return left < 6 ? 6 : left > 40 ? 40 : left;
}

static const char *rate_text(const struct top_pool *pool, double rate, char *out)
{
	if (!pool->rates.known)
		return "-";
	return count_format((uint64_t)(rate + 0.5), out);
}

static void put_cell(struct pen *pen, const struct top_pool *pool, enum column column, unsigned width, bool unicode)
{
	const struct mempool_pool_info *info = &pool->info;
	double share = info->total ? (double)info->used / (double)info->total : 0;
	char text[UNITS_TEXT_BYTES];

	if (!pool->is_open && column > COLUMN_PERCENT) {
		pen_right(pen, width, column == COLUMN_ALLOC ? "not ours" : "");
		return;
	}
	switch (column) {
	case COLUMN_NAME:
		pen_left(pen, width, info->name);
		break;
	case COLUMN_TOTAL:
		pen_right(pen, width, size_format(info->total, text));
		break;
	case COLUMN_BAR:
		pen_text(pen, " ");
		put_bar(pen, share, width - 1, unicode);
		break;
	case COLUMN_PERCENT:
		pen_print(pen, "%*.1f%%", (int)width - 1, share * 100);
		break;
	case COLUMN_BLOCKS:
		pen_right(pen, width, count_format(pool->stats.allocations, text));
		break;
	case COLUMN_LARGEST:
		pen_right(pen, width, size_format(pool->stats.largest_free, text));
		break;
	case COLUMN_GAPS:
		pen_right(pen, width, count_format(pool->stats.gaps, text));
		break;
	case COLUMN_FRAGMENTATION:
		pen_print(pen, "%*.2f", (int)width, pool->stats.fragmentation);
		break;
	case COLUMN_SESSIONS:
		pen_right(pen, width, count_format(pool->stats.sessions, text));
		break;
	case COLUMN_ALLOC:
		pen_right(pen, width, rate_text(pool, pool->rates.alloc, text));
		break;
	case COLUMN_FREE:
		pen_right(pen, width, rate_text(pool, pool->rates.free, text));
		break;
	}
}

static void put_headings(struct pen *pen)
{
	unsigned screen_columns = pen->screen->columns;

	pen->attributes |= TOP_BOLD;
	pen_text(pen, "  ");
	for (unsigned i = 0; i < N_ELEMENTS(columns); i++) {
		unsigned width = column_width(screen_columns, i);

		if (width && i == COLUMN_BAR)
			pen_text(pen, " ");
		if (width && (i == COLUMN_NAME || i == COLUMN_BAR))
			pen_left(pen, width - (i == COLUMN_BAR), columns[i].title);
		else if (width)
			pen_right(pen, width, columns[i].title);
	}
	pen->attributes &= (uint8_t)~TOP_BOLD;
}

static void put_pool(struct pen *pen, const struct top_pool *pool, bool is_selected, bool unicode)
{
	unsigned screen_columns = pen->screen->columns;
	uint8_t before = pen->attributes;

	pen_text(pen, is_selected ? "> " : "  ");
	for (unsigned i = 0; i < N_ELEMENTS(columns); i++) {
		unsigned width = column_width(screen_columns, i);

		pen->attributes = before | (is_selected && i == COLUMN_NAME ? TOP_REVERSE : 0);
		if (width)
			put_cell(pen, pool, i, width, unicode);
	}
	pen->attributes = before;
}

/* put_pools() - in rows @from to before @end */
static void put_pools(struct pen *pen, const struct top_state *state, const struct top_look *look, unsigned end)
{
	size_t n_rows = end > pen->row + 1 ? end - pen->row - 1 : 0, selected = index_of(state, look), first = 0;

	put_headings(pen);
	if (selected >= n_rows && n_rows)
		first = selected - n_rows + 1;
	for (size_t i = first; i < look->n_pools && i - first < n_rows; i++) {
		pen->row++;
		pen->column = 0;
		put_pool(pen, &look->pools[i], i == selected, state->unicode);
	}
	if (!look->n_pools && n_rows) {
		pen->row++;
		pen->column = 2;
		pen_text(pen, "no pools yet; make one with 'mempoolctl create NAME --size 64M'");
	}
}

static void put_map(struct pen *pen, const struct top_state *state, const struct top_look *look, unsigned end)
{
	const struct top_pool *pool = top_selected(state, look);
	const char *at = look->map;

	if (!pool)
		pen_text(pen, "  no pool, no map");
	else if (!pool->is_open)
		pen_print(pen, "  the map of %s is for those who may open it", pool->info.name);
	else if (!at || look->map_id != pool->info.id)
		pen_print(pen, "  %s: its map comes with the next look", pool->info.name);
	else
		for (; *at && pen->row < end; pen->row++) {
			at = pen_line_of_terminal(pen, at);
			pen->column = 0;
		}
}

/* ---- what stands around them ---- */

static void put_sessions(struct pen *pen, const struct top_look *look, unsigned end)
{
	bool is_wide = pen->screen->columns >= 80;
	unsigned pool_width = pen->screen->columns >= 60 ? 20 : 0, command_width = pool_width ? 18 : 12;
	char bytes[UNITS_TEXT_BYTES], blocks[UNITS_TEXT_BYTES];

	pen->attributes |= TOP_BOLD;
	pen_print(pen, "%9s  ", "PID");
	pen_left(pen, command_width, "MOST BYTES");
	pen_left(pen, pool_width, "POOL");
	pen_print(pen, "%9s%s", "BYTES", is_wide ? "      BLOCKS  STATE" : "");
	pen->attributes &= (uint8_t)~TOP_BOLD;
	for (size_t i = 0; i < look->n_sessions && ++pen->row < end; i++) {
		const struct mempool_session_info *session = &look->sessions[i];

		pen->column = 0;
		pen_print(pen, "%9d  ", (int)session->pid);
		pen_left(pen, command_width, session->command);
		pen_left(pen, pool_width, session->pool[0] ? session->pool : "(private)");
		pen_right(pen, 9, size_format(session->bytes, bytes));
		if (is_wide) {
			pen_right(pen, 12, count_format(session->blocks, blocks));
			pen_text(pen, "  ");
			pen_left(pen, 8, session->state);
		}
	}
	if (!look->n_sessions && ++pen->row < end) {
		pen->column = 0;
		pen_text(pen, "           nobody has blocks");
	}
}

static void put_sums(struct pen *pen, const struct top_look *look)
{
	char used[UNITS_TEXT_BYTES], total[UNITS_TEXT_BYTES], alloc[UNITS_TEXT_BYTES], freed[UNITS_TEXT_BYTES];
	uint64_t used_bytes = 0, total_bytes = 0;
	double allocs = 0, frees = 0;

	for (size_t i = 0; i < look->n_pools; i++) {
		used_bytes += look->pools[i].info.used;
		total_bytes += look->pools[i].info.total;
		allocs += look->pools[i].rates.known ? look->pools[i].rates.alloc : 0;
		frees += look->pools[i].rates.known ? look->pools[i].rates.free : 0;
	}
	pen_print(pen, "%zu pool%s, %s of %s used; ", look->n_pools, plural(look->n_pools),
		  size_format(used_bytes, used), size_format(total_bytes, total));
	if (pen->screen->columns >= 60)
		pen_print(pen, "%zu session%s; ", look->n_all_sessions, plural(look->n_all_sessions));
	pen_print(pen, "%s alloc/s, %s free/s", count_format((uint64_t)(allocs + 0.5), alloc),
		  count_format((uint64_t)(frees + 0.5), freed));
}

static void put_head(struct pen *pen, const struct top_state *state, const struct top_look *look)
{
	char up[UNITS_TEXT_BYTES], line[TEXT_BYTES];
	unsigned width = pen->screen->columns, clock_width = (unsigned)strlen(state->clock);

	if (look->daemon.version[0])
		snprintf(line, sizeof(line), "mempoold %s, pid %d, up %s, instance %s", look->daemon.version,
			 (int)look->daemon.pid, age_format(look->daemon.uptime, up), look->daemon.instance);
	else
		snprintf(line, sizeof(line), "mempoold");
	pen->attributes = TOP_BOLD;
	pen_left(pen, width > clock_width + 1 ? width - clock_width - 1 : width, line);
	pen->attributes = 0;
	if (width > clock_width + 1)
		pen_print(pen, " %s", state->clock);
	pen->row = 1;
	pen->column = 0;
	if (look->is_connected) {
		put_sums(pen, look);
		return;
	}
	pen->attributes = TOP_BOLD;
	pen->color = COLOR_NEWS;
	pen_print(pen, "no daemon, reconnecting%s", state->unicode ? "…" : "...");
	pen->attributes = 0;
	pen->color = 0;
	if (look->trouble[0])
		pen_print(pen, " (%s)", look->trouble);
}

static void put_keys(struct pen *pen, const struct top_state *state)
{
	bool is_wide = pen->screen->columns >= 60;
	const char *arrows = state->unicode ? "↑↓" : "j k";

	pen->attributes = TOP_REVERSE;
	pen_print(pen, " q quit  %s %s  enter %s  s sort%s%s ", arrows, is_wide ? "select pool" : "pool",
		  state->shows_map ? "list" : "map", is_wide ? ": by " : "", is_wide ? sort_names[state->sort] : "");
	while (pen->column < pen->screen->columns)
		pen_put(pen, ' ');
	pen->attributes = 0;
}

/* rows_of_sessions() - with an empty one and the headings */
static unsigned rows_of_sessions(const struct top_screen *screen, const struct top_look *look)
{
	size_t n = look->n_sessions ? look->n_sessions : 1, most = screen->rows > 40 ? 12 : 5;

	return 2 + (unsigned)(n < most ? n : most);
}

void top_draw(struct top_screen *screen, const struct top_state *state, const struct top_look *look)
{
	struct pen pen = {.screen = screen};
	unsigned end = screen->rows ? screen->rows - 1 : 0; /* the keys' row */
	unsigned n_below = screen->rows < ROWS_FOR_SESSIONS ? 0 : rows_of_sessions(screen, look);

	for (size_t i = 0; i < (size_t)screen->rows * screen->columns; i++)
		screen->cells[i] = (struct top_cell){.character = ' '};
	put_head(&pen, state, look);
	pen = (struct pen){.screen = screen, .row = ROW_LIST, .attributes = look->is_connected ? 0 : TOP_DIM};
	if (state->shows_map) {
		put_map(&pen, state, look, end);
	} else {
		put_pools(&pen, state, look, end - n_below);
		if (n_below) {
			pen.row = pen.row + 2 < end - n_below + 1 ? pen.row + 2 : end - n_below + 1;
			pen.column = 0;
			put_sessions(&pen, look, end);
		}
	}
	pen = (struct pen){.screen = screen, .row = end};
	put_keys(&pen, state);
}
