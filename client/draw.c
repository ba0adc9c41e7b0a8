// SPDX-License-Identifier: MIT
/*
 * The pool's map for people: rows of cells, each as full as it is, lettered or coloured by who holds most of it; a scale, a legend, the
 * largest gaps, the figures. The daemon has summarised the map to the cells, so that a large pool draws as fast as a small one.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include "client/extents.h"

#define N_ROWS	      8u
#define N_HOLDERS     12u
#define N_GAPS	      6u
#define SCALE_COLUMNS 12u /* "     0x1000 " before each row; more where the last row needs it */

struct canvas {
	FILE *stream;
	const Mempool__Wire__VisualizeReply *picture;
	const struct mempool_pool *pool;
	uint32_t width;	  /* of all */
	uint32_t columns; /* cells in a row */
	int scale;	  /* columns of the offset before it */
	bool is_unicode, is_colored;
	bool is_lettered; /* letters tell the holders apart, for nothing else does */
};

struct size_text {
	char text[24];
};

static struct size_text size_text(uint64_t n_bytes)
{
	static const char units[] = " KMGTP";
	struct size_text out;
	double value = (double)n_bytes;
	size_t unit = 0;

	while (value >= 1024 && unit + 1 < sizeof(units) - 1) {
		value /= 1024;
		unit++;
	}
	if (unit)
		snprintf(out.text, sizeof(out.text), value < 10 ? "%.1f%c" : "%.0f%c", value, units[unit]);
	else
		snprintf(out.text, sizeof(out.text), "%" PRIu64, n_bytes);
	return out;
}

/* colours that the colour-blind tell apart too, of the 256-colour palette */
static int color_of(uint32_t holder)
{
	static const uint8_t colors[] = {244, 39, 208, 35, 199, 220, 99, 45, 160, 112, 171, 94, 30};

	return colors[holder % N_ELEMENTS(colors)];
}

static char letter_of(uint32_t holder)
{
	return holder ? (char)('A' + (holder - 1) % 26) : '?';
}

static void set_color(const struct canvas *canvas, uint32_t holder)
{
	if (canvas->is_colored)
		fprintf(canvas->stream, "\033[38;5;%dm", color_of(holder));
}

static void reset_color(const struct canvas *canvas)
{
	if (canvas->is_colored)
		fputs("\033[0m", canvas->stream);
}

/* ---- lines of words, broken where the width ends ---- */

static uint32_t n_columns(const char *text, size_t n)
{
	uint32_t columns = 0;

	for (size_t i = 0; i < n; i++)
		columns += (text[i] & 0xc0) != 0x80; /* bytes that begin a character */
	return columns;
}

/* @column: how far the line is already; what does not fit goes on below, @indent columns in. Ends the line. */
static void flow(const struct canvas *canvas, uint32_t column, int indent, const char *text)
{
	while (*text) {
		size_t n_spaces = strspn(text, " "), n = n_spaces + strcspn(text + n_spaces, " ");
		uint32_t columns = n_columns(text, n);

		if (column && column + columns > canvas->width && columns > n_spaces) {
			fprintf(canvas->stream, "\n%*s", indent, "");
			column = (uint32_t)indent;
			text += n_spaces;
			n -= n_spaces;
			columns -= (uint32_t)n_spaces;
		}
		fwrite(text, 1, n, canvas->stream);
		column += columns;
		text += n;
	}
	fputc('\n', canvas->stream);
}

static PRINTF(4, 5) void say(const struct canvas *canvas, uint32_t column, int indent, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	flow(canvas, column, indent, text);
}

/* ---- the map ---- */

static uint64_t cell_length(const struct canvas *canvas, uint64_t cell)
{
	const Mempool__Wire__VisualizeReply *picture = canvas->picture;
	uint64_t begin = cell * picture->cell_bytes, total = picture->stats->total;

	if (begin >= total)
		return 0;
	return total - begin < picture->cell_bytes ? total - begin : picture->cell_bytes;
}

/* Of a cell without a live block. */
static const char *glyph_of(const struct canvas *canvas, bool is_idle)
{
	if (canvas->is_unicode)
		return is_idle ? "╌" : "·";
	return is_idle ? "-" : ".";
}

static void draw_cell(const struct canvas *canvas, uint64_t cell)
{
	static const char *const shades[] = {"░", "▒", "▓", "█"};
	const Mempool__Wire__VisualizeReply *picture = canvas->picture;
	uint64_t used = picture->cell_used[cell], length = cell_length(canvas, cell);
	uint64_t idle = cell < picture->n_cell_idle ? picture->cell_idle[cell] : 0;
	uint32_t holder = cell < picture->n_cell_holder ? picture->cell_holder[cell] : 0;
	char letter = letter_of(holder);

	if (!used) {
		fputs(glyph_of(canvas, idle && idle >= length - idle), canvas->stream);
		return;
	}
	if (used < length - used && letter != '?')
		letter = (char)(letter + 'a' - 'A');
	set_color(canvas, holder);
	if (canvas->is_lettered)
		fputc(letter, canvas->stream);
	else
		fputs(shades[used >= length ? 3 : used * 3 / length], canvas->stream);
	reset_color(canvas);
}

static void draw_map(const struct canvas *canvas)
{
	const Mempool__Wire__VisualizeReply *picture = canvas->picture;
	uint64_t n_cells =
		picture->cell_bytes ? (picture->stats->total + picture->cell_bytes - 1) / picture->cell_bytes : 0;

	if (n_cells > picture->n_cell_used)
		n_cells = picture->n_cell_used;
	for (uint64_t cell = 0; cell < n_cells; cell++) {
		if (cell % canvas->columns == 0)
			fprintf(canvas->stream, "%s%#*" PRIx64 " ", cell ? "\n" : "", canvas->scale,
				picture->first + cell * picture->cell_bytes);
		draw_cell(canvas, cell);
	}
	fprintf(canvas->stream, "\n%*s ", canvas->scale, "");
	say(canvas, (uint32_t)canvas->scale + 1, canvas->scale + 1, "one cell = %s;  %s free  %s%s%s",
	    size_text(picture->cell_bytes).text, glyph_of(canvas, false),
	    picture->stats->leased_idle ? glyph_of(canvas, true) : "",
	    picture->stats->leased_idle ? " idle in slabs  " : "",
	    canvas->is_lettered ? "a < half used  A more" : "░▒▓ partly used  █ full");
}

/* ---- legend, gaps, figures ---- */

static void draw_swatch(const struct canvas *canvas, uint32_t holder)
{
	fputs("  ", canvas->stream);
	set_color(canvas, holder);
	if (canvas->is_lettered)
		fputc(letter_of(holder), canvas->stream);
	else
		fputs("█", canvas->stream);
	reset_color(canvas);
}

static void draw_holder(const struct canvas *canvas, uint32_t index)
{
	const Mempool__Wire__Holder *holder = canvas->picture->holders[index];
	char command[32], age[48] = "", who[96] = "the pool (published, or left by a session)";
	uint64_t now = (uint64_t)time(NULL);

	text_copy(command, sizeof(command), holder->command);
	if (holder->oldest && now >= holder->oldest)
		snprintf(age, sizeof(age), ", oldest %" PRIu64 " s", now - holder->oldest);
	draw_swatch(canvas, index + 1);
	if (holder->session)
		snprintf(who, sizeof(who), "%s (pid %d, session %" PRIu64 ")", command, holder->pid, holder->session);
	say(canvas, 3, 4, " %s: %" PRIu64 " block%s, %s%s", who, holder->blocks, plural(holder->blocks),
	    size_text(holder->bytes).text, age);
}

/* Cells of those beyond the legend, or who came while the map was drawn. */
static void draw_others(const struct canvas *canvas)
{
	const Mempool__Wire__VisualizeReply *picture = canvas->picture;

	for (size_t i = 0; i < picture->n_cell_used && i < picture->n_cell_holder; i++) {
		if (picture->cell_used[i] && !picture->cell_holder[i]) {
			draw_swatch(canvas, 0);
			fputs(" others\n", canvas->stream);
			return;
		}
	}
}

static void draw_gaps(const struct canvas *canvas)
{
	const Mempool__Wire__VisualizeReply *picture = canvas->picture;

	size_t n = 0;
	char text[512];

	n += (size_t)snprintf(text, sizeof(text), "gaps: %" PRIu64, picture->stats->gaps);
	for (size_t i = 0; i < picture->n_gaps && n < sizeof(text); i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s at %#" PRIx64, i ? ", " : ": ",
				      size_text(picture->gaps[i]->size).text, picture->gaps[i]->offset);
	if (picture->stats->gaps > picture->n_gaps && n < sizeof(text))
		snprintf(text + n, sizeof(text) - n, ", and %" PRIu64 " more", picture->stats->gaps - picture->n_gaps);
	flow(canvas, 0, 2, text);
}

static void draw_head(const struct canvas *canvas)
{
	const Mempool__Wire__StatsReply *stats = canvas->picture->stats;

	uint64_t n_others = stats->sessions ? stats->sessions - 1 : 0; /* who looks has the pool open */

	say(canvas, 0, 2, "%s: %s of %s used (%.1f %%), %" PRIu64 " block%s, %" PRIu64 " other session%s",
	    canvas->pool->label, size_text(stats->used).text, size_text(stats->total).text,
	    stats->total ? 100.0 * (double)stats->used / (double)stats->total : 0.0, stats->allocations,
	    plural(stats->allocations), n_others, plural(n_others));
}

static void draw_figures(const struct canvas *canvas)
{
	const Mempool__Wire__StatsReply *stats = canvas->picture->stats;

	say(canvas, 0, 2, "free: %s, largest gap %s, fragmentation %.2f", size_text(stats->free).text,
	    size_text(stats->largest_free).text, stats->fragmentation);
	if (stats->leased_idle)
		say(canvas, 0, 2, "idle in slabs: %s, kept by sessions for their next blocks",
		    size_text(stats->leased_idle).text);
	say(canvas, 0, 2, "backed: %s; peak: %s; failed: %" PRIu64, size_text(stats->backed).text,
	    size_text(stats->peak_used).text, stats->failed_total);
}

static void draw(const struct canvas *canvas)
{
	draw_head(canvas);
	draw_map(canvas);
	for (uint32_t i = 0; i < canvas->picture->n_holders; i++)
		draw_holder(canvas, i);
	draw_others(canvas);
	draw_gaps(canvas);
	draw_figures(canvas);
}

/* ---- the call ---- */

static uint32_t scale_columns_of(const struct mempool_pool *pool)
{
	uint32_t n = (uint32_t)snprintf(NULL, 0, "%#" PRIx64 " ", pool->mapping->n_bytes);

	return n > SCALE_COLUMNS ? n : SCALE_COLUMNS;
}

static int draw_picture(struct mempool_pool *pool, FILE *stream, const struct mempool_visualize_options *options)
{
	Mempool__Wire__Visualize ask = MEMPOOL__WIRE__VISUALIZE__INIT;
	uint32_t width = options->width ? options->width : 80;
	uint32_t scale_columns = scale_columns_of(pool);
	struct canvas canvas = {
		.stream = stream,
		.pool = pool,
		.width = width,
		.columns = width > scale_columns + 8 ? width - scale_columns : 8,
		.scale = (int)scale_columns - 1,
		.is_unicode = options->format == MEMPOOL_FORMAT_UNICODE,
		.is_colored = options->color != 0,
	};
	struct call call;
	int r;
	REQUEST(request, VISUALIZE, visualize, ask);

	if (canvas.columns > 2000)
		canvas.columns = 2000; /* the daemon draws 16384 cells at most */
	SET(ask, pool, pool->id);
	SET(ask, cells, canvas.columns * N_ROWS);
	SET(ask, max_gaps, N_GAPS);
	SET(ask, max_holders, N_HOLDERS);
	r = client_call(pool->client, &request, pool->id, "visualize", &call);
	if (r)
		return r;
	canvas.picture =
		call.reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_VISUALIZE ? call.reply->visualize : NULL;
	if (!canvas.picture || !canvas.picture->stats) {
		r = error_set(-EPROTO, "visualize: the daemon answered without a map");
	} else {
		canvas.is_lettered = !canvas.is_unicode || (!canvas.is_colored && canvas.picture->n_holders > 1);
		draw(&canvas);
	}
	call_deinit(&call);
	return r;
}

int mempool_pool_visualize(struct mempool_pool *pool, FILE *stream, const struct mempool_visualize_options *options)
{
	struct mempool_visualize_options known = {.struct_size = sizeof(known)};
	int r;
	POOL_CALL(pool);

	if (pool_check_handle(pool, "visualize"))
		return -EINVAL;
	if (!stream)
		return error_set(-EINVAL, "visualize: no stream to draw to");
	r = options ? import_struct(&known, sizeof(known), options, options->struct_size, "visualize") : 0;
	if (r)
		return r;
	if ((unsigned)known.format > MEMPOOL_FORMAT_JSON || known.color > 1 || known.reserved || known.blocks > 1 ||
	    known.reserved2)
		return error_set(-EINVAL, "visualize: an option has a value that it cannot have");
	r = known.format == MEMPOOL_FORMAT_JSON ? extents_write_json(pool, stream, known.blocks)
						: draw_picture(pool, stream, &known);
	if (!r && known.blocks && known.format != MEMPOOL_FORMAT_JSON)
		r = extents_write_blocks(pool, stream);
	errno = 0;
	if (!r && (fflush(stream) || ferror(stream)))
		r = error_set(-EIO, "visualize: writing the stream: %s", strerror(errno ? errno : EIO));
	return r;
}
