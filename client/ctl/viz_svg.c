// SPDX-License-Identifier: MIT
/*
 * Rows of equal length, by address. A range that crosses the end of a row is drawn in parts; only its first part counts in the sums,
 * by having the data. A label is on the first part that has room for it.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ctl/units.h"
#include "ctl/viz_picture.h"
#include "proto/util.h"

#define MARGIN	  20
#define MAP_X	  112
#define MAP_WIDTH (VIZ_WIDTH - MAP_X - MARGIN)
#define ROW_HIGH  18
#define ROW_PITCH 21
#define N_LOOKS	  8  /* owners with a look of their own */
#define LINE	  19 /* between two lines of text */

/* The colours are Okabe and Ito's (2008), which the colour-blind tell apart; the patterns serve those who print in grey. */
static const struct look {
	const char *name; /* class */
	const char *color;
	const char *strokes; /* path, in a square of eight */
} looks[N_LOOKS] = {
	{"A", "#56b4e9", "M-2 2l4-4M0 8l8-8M6 10l4-4"},
	{"B", "#e69f00", "M-2 6l4 4M0 0l8 8M6-2l4 4"},
	{"C", "#009e73", "M0 2h8M0 6h8"},
	{"D", "#f0e442", "M2 0v8M6 0v8"},
	{"E", "#cc79a7", "M0 4h8M4 0v8"},
	{"F", "#d55e00", "M0 0l8 8M0 8l8-8"},
	{"G", "#0072b2", "M1 2h2M5 6h2"},
	{"H", "#b5a642", "M0 4l4-4l4 4M0 8l4-4l4 4"},
};

/* ---- text ---- */

/* utf8_length() - bytes of the valid character at @at that XML may have; 0: there is none */
static size_t utf8_length(const unsigned char *at)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = *at < 0x80 ? 1 : *at >> 5 == 6 ? 2 : *at >> 4 == 14 ? 3 : *at >> 3 == 30 ? 4 : 0;
	uint32_t c = n == 1 ? *at : *at & (0x7fu >> n);

	for (size_t i = 1; i < n; i++) {
		if (at[i] >> 6 != 2)
			return 0;
		c = c << 6 | (at[i] & 0x3fu);
	}
	if (!n || c < least[n] || c < ' ' || (c >= 0x7f && c < 0xa0) || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff ||
	    (c & 0xfffe) == 0xfffe)
		return 0;
	return n;
}

void viz_escape(FILE *out, const char *text)
{
	const unsigned char *at = (const unsigned char *)text;

	while (*at) {
		size_t n = utf8_length(at);

		if (*at == '&')
			fputs("&amp;", out);
		else if (*at == '<')
			fputs("&lt;", out);
		else if (*at == '>')
			fputs("&gt;", out);
		else if (*at == '"')
			fputs("&quot;", out);
		else if (*at == '\'')
			fputs("&#39;", out);
		else if (n)
			fwrite(at, 1, n, out);
		else
			fputc('?', out);
		at += n ? n : 1;
	}
}

const char *viz_time(const struct viz_picture *picture, char *out, size_t n_bytes)
{
	struct tm local;

	if (!localtime_r(&picture->taken, &local) || !strftime(out, n_bytes, "%Y-%m-%d %H:%M:%S %z", &local))
		snprintf(out, n_bytes, "%lld", (long long)picture->taken);
	return out;
}

static void summary(FILE *out, const struct viz_map *map, const struct mempool_stats *stats)
{
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES], c[UNITS_TEXT_BYTES], d[UNITS_TEXT_BYTES];
	uint64_t total = map->end - map->first;

	fprintf(out, "%s of %s used (%.1f %%) by %s block%s; ", size_format(map->used, a), size_format(total, b),
		100 * (double)map->used / (double)total, count_format(map->n_blocks, c), plural(map->n_blocks));
	fprintf(out, "%s free in %s gap%s, fragmentation %.2f", size_format(total - map->used - map->idle, a),
		count_format(map->n_gaps, d), plural(map->n_gaps), stats->fragmentation);
	if (map->idle)
		fprintf(out, "; %s idle in slabs", size_format(map->idle, a));
}

/* ---- looks ---- */

static const char *class_of(const struct viz_picture *picture, uint64_t owner)
{
	size_t rank = 0;

	if (owner == VIZ_POOL)
		return "P";
	for (size_t i = 0; i < picture->map->n_owners && rank < N_LOOKS; i++) {
		if (picture->map->owners[i].session == owner)
			return looks[rank].name;
		rank += picture->map->owners[i].session != VIZ_POOL; /* which has a look of its own */
	}
	return "X";
}

void viz_style(FILE *out, const struct viz_picture *picture)
{
	(void)picture;
	fputs("<defs>\n", out);
	for (unsigned i = 0; i < N_LOOKS; i++)
		fprintf(out,
			"<pattern id=\"p%s\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\"><rect "
			"width=\"8\" "
			"height=\"8\" fill=\"%s\"/><path d=\"%s\" stroke=\"#000\" stroke-opacity=\".4\" "
			"fill=\"none\"/></pattern>\n",
			looks[i].name, looks[i].color, looks[i].strokes);
	fputs("<pattern id=\"pI\" width=\"4\" height=\"4\" patternUnits=\"userSpaceOnUse\"><rect width=\"4\" "
	      "height=\"4\" "
	      "fill=\"#eee\"/><circle cx=\"2\" cy=\"2\" r=\".7\" fill=\"#777\"/></pattern>\n</defs>\n<style>\n",
	      out);
	for (unsigned i = 0; i < N_LOOKS; i++)
		fprintf(out, ".%s{fill:url(#p%s)}\n", looks[i].name, looks[i].name);
	fputs(".I{fill:url(#pI)}.P{fill:#666}.X{fill:#bbb}.f{fill:#fff}\n"
	      "rect{stroke:#333;stroke-width:.5}\n"
	      ".n{stroke:none}\n"
	      "text{font:12px 'DejaVu Sans',Verdana,sans-serif;fill:#222}\n"
	      ".o{font:11px 'DejaVu Sans Mono',monospace;text-anchor:end;fill:#555}\n"
	      ".l{font-size:10px;paint-order:stroke;stroke:#fff;stroke-width:2.5px;fill:#000}\n"
	      ".g{font-size:10px;fill:#666}\n"
	      ".h{font-weight:bold}.t{font-size:20px;font-weight:bold}.w{text-anchor:end;fill:#555}\n"
	      "</style>\n",
	      out);
}

/* ---- the map ---- */

struct rows {
	uint64_t first, row_bytes;
	int n;
};

static struct rows rows_of(const struct viz_map *map)
{
	uint64_t total = map->end - map->first, unit = 16;
	struct rows rows = {.first = map->first, .n = map->n_pieces <= 64 ? 12 : 24};

	rows.row_bytes = (total + (uint64_t)rows.n - 1) / (uint64_t)rows.n;
	while (unit * 16 <= rows.row_bytes) /* round addresses at the cost of a shorter last row */
		unit *= 2;
	rows.row_bytes = round_up(rows.row_bytes, unit);
	rows.n = (int)((total + rows.row_bytes - 1) / rows.row_bytes);
	return rows;
}

int viz_rows_height(const struct viz_picture *picture)
{
	return rows_of(picture->map).n * ROW_PITCH;
}

static void piece_title(FILE *out, const struct viz_picture *picture, const struct viz_piece *piece)
{
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES];

	fprintf(out, "<title>%#" PRIx64 ", %s: ", piece->offset, size_format(piece->size, a));
	if (!(piece->used + piece->idle))
		fputs("gap", out);
	else if (piece->used == piece->size && piece->n_blocks <= 1)
		fputs(class_of(picture, piece->owner), out);
	else
		fprintf(out, "%s, %s block%s, %.0f %% used", class_of(picture, piece->owner),
			count_format(piece->n_blocks, b), plural(piece->n_blocks),
			100 * (double)piece->used / (double)piece->size);
	fputs("</title>", out);
}

struct part { /* of a piece, in one row */
	double x, width;
	int y;
};

/* draw_part() - the whole in the look of what is not used, then the used share from below, in the owner's */
static void draw_part(FILE *out, const struct viz_picture *picture, const struct viz_piece *piece,
		      const struct part *part, bool is_first)
{
	const char *owner = class_of(picture, piece->owner);
	double share = (double)piece->used / (double)piece->size, high = ceil(share * ROW_HIGH);
	const char *back = piece->used == piece->size ? owner : piece->idle ? "I" : "f";

	fprintf(out, "<rect class=\"%s\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\"", back, part->x, part->y,
		part->width, ROW_HIGH);
	if (is_first) {
		fprintf(out, " data-offset=\"%" PRIu64 "\" data-size=\"%" PRIu64 "\">", piece->offset, piece->size);
		piece_title(out, picture, piece);
		fputs("</rect>", out);
	} else {
		fputs("/>", out);
	}
	if (piece->used && piece->used < piece->size)
		fprintf(out, "<rect class=\"%s n\" x=\"%.1f\" y=\"%.0f\" width=\"%.1f\" height=\"%.0f\"/>", owner,
			part->x, part->y + ROW_HIGH - high, part->width, high);
	fputc('\n', out);
}

/* draw_label() - letter, and size where there is room. Return: whether anything fitted */
static bool draw_label(FILE *out, const struct viz_picture *picture, const struct viz_piece *piece,
		       const struct part *part)
{
	bool is_gap = !(piece->used + piece->idle);
	char size[UNITS_TEXT_BYTES], label[UNITS_TEXT_BYTES + 8];

	size_format(piece->size, size);
	if (is_gap)
		snprintf(label, sizeof(label), "%s", size);
	else
		snprintf(label, sizeof(label), "%s %s", class_of(picture, piece->owner), size);
	if (part->width < 7.0 * (double)strlen(label) + 4) {
		if (is_gap || part->width < 13)
			return false;
		snprintf(label, sizeof(label), "%s", class_of(picture, piece->owner));
	}
	fprintf(out, "<text class=\"%s\" x=\"%.1f\" y=\"%d\">%s</text>\n", is_gap ? "g" : "l", part->x + 3,
		part->y + 13, label);
	return true;
}

static void draw_piece(FILE *out, const struct viz_picture *picture, const struct rows *rows,
		       const struct viz_piece *piece, int y)
{
	uint64_t at = piece->offset - rows->first, end = at + piece->size;
	bool is_first = true, is_labelled = false;

	while (at < end) {
		uint64_t row = at / rows->row_bytes, column = at % rows->row_bytes, n = rows->row_bytes - column;
		double scale = (double)MAP_WIDTH / (double)rows->row_bytes;
		struct part part;

		if (n > end - at)
			n = end - at;
		part = (struct part){MAP_X + (double)column * scale, (double)n * scale, y + (int)row * ROW_PITCH};
		draw_part(out, picture, piece, &part, is_first);
		if (!is_labelled)
			is_labelled = draw_label(out, picture, piece, &part);
		is_first = false;
		at += n;
	}
}

int viz_draw_map(FILE *out, const struct viz_picture *picture, int y)
{
	struct rows rows = rows_of(picture->map);

	for (int row = 0; row < rows.n; row++)
		fprintf(out, "<text class=\"o\" x=\"%d\" y=\"%d\">%#" PRIx64 "</text>\n", MAP_X - 8,
			y + row * ROW_PITCH + 13, rows.first + (uint64_t)row * rows.row_bytes);
	for (size_t i = 0; i < picture->map->n_pieces; i++)
		draw_piece(out, picture, &rows, &picture->map->pieces[i], y);
	return y + rows.n * ROW_PITCH;
}

/* ---- legend ---- */

/* the lines after the owners; the last ones only where there is such a thing */
enum {
	LEGEND_FREE,
	LEGEND_PARTLY,
	LEGEND_IDLE,
	LEGEND_END
};

static size_t n_owners_shown(const struct viz_picture *picture)
{
	return picture->map->n_owners < N_LOOKS + 2 ? picture->map->n_owners : N_LOOKS + 2;
}

size_t viz_legend_size(const struct viz_picture *picture)
{
	const struct viz_map *map = picture->map;

	return n_owners_shown(picture) + (map->idle			? LEGEND_END
					  : map->n_extents > VIZ_PIECES ? LEGEND_IDLE
									: LEGEND_PARTLY);
}

const char *viz_legend_class(const struct viz_picture *picture, size_t line)
{
	static const char *const classes[LEGEND_END] = {"f", "n", "I"};
	size_t n = n_owners_shown(picture);

	return line < n ? class_of(picture, picture->map->owners[line].session) : classes[line - n];
}

static void owner_text(FILE *out, const struct viz_picture *picture, const struct viz_owner *owner)
{
	const struct viz_holder *holder = NULL;
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES];

	for (size_t i = 0; i < picture->n_holders; i++) {
		if (picture->holders[i].session == owner->session)
			holder = &picture->holders[i];
	}
	fprintf(out, "%s  ", class_of(picture, owner->session));
	if (owner->session == VIZ_POOL) {
		fputs("the pool (published, or left by a session)", out);
	} else {
		if (holder)
			viz_escape(out, holder->command);
		fprintf(out, "%ssession %" PRIu64, holder && holder->command[0] ? ", " : "", owner->session);
		if (holder && holder->pid)
			fprintf(out, ", pid %d", holder->pid);
	}
	fprintf(out, ": %s block%s, %s", count_format(owner->n_blocks, a), plural(owner->n_blocks),
		size_format(owner->bytes - owner->idle, b));
	if (owner->idle)
		fprintf(out, "; %s idle", size_format(owner->idle, b));
}

void viz_legend_text(FILE *out, const struct viz_picture *picture, size_t line)
{
	size_t n = n_owners_shown(picture), n_all = picture->map->n_owners;

	if (line + 1 == n && n < n_all)
		fprintf(out, "X  %zu more sessions", n_all - n + 1);
	else if (line < n)
		owner_text(out, picture, &picture->map->owners[line]);
	else if (line - n == LEGEND_FREE)
		fputs("free", out);
	else if (line - n == LEGEND_PARTLY)
		fputs("partly used: as high as the share that is; the letter is of who holds most", out);
	else
		fputs("leased, idle: slots that a session may hand out without asking", out);
}

/* ---- figures ---- */

const char *viz_figure(const struct viz_picture *picture, unsigned i, char *value)
{
	const struct mempool_stats *stats = picture->stats;
	const struct {
		const char *name;
		uint64_t number;
		bool is_size;
	} figures[VIZ_FIGURES - 1] = {
		{"total", stats->total, true},
		{"used", stats->used, true},
		{"asked for", stats->requested, true},
		{"free", stats->free, true},
		{"largest gap", stats->largest_free, true},
		{"idle in slabs", stats->leased_idle, true},
		{"backed", stats->backed, true},
		{"peak used", stats->peak_used, true},
		{"blocks", stats->allocations, false},
		{"gaps", stats->gaps, false},
		{"sessions", stats->sessions, false},
		{"allocated so far", stats->alloc_total, false},
		{"freed so far", stats->free_total, false},
		{"refused so far", stats->failed_total, false},
	};

	if (i == VIZ_FIGURES - 1) {
		snprintf(value, UNITS_TEXT_BYTES, "%.2f", stats->fragmentation);
		return "fragmentation";
	}
	if (figures[i].is_size)
		size_format(figures[i].number, value);
	else
		count_format(figures[i].number, value);
	return figures[i].name;
}

/* ---- the whole ---- */

static void draw_legend(FILE *out, const struct viz_picture *picture, int y)
{
	fprintf(out, "<text class=\"h\" x=\"%d\" y=\"%d\">Who holds it</text>\n", MARGIN, y);
	for (size_t line = 0; line < viz_legend_size(picture); line++) {
		const char *class = viz_legend_class(picture, line);

		y += LINE;
		if (!strcmp(class, "n")) /* partly used */
			fprintf(out,
				"<rect class=\"f\" x=\"%d\" y=\"%d\" width=\"28\" height=\"14\"/><rect class=\"A n\" "
				"x=\"%d\" y=\"%d\" width=\"28\" height=\"6\"/>",
				MARGIN, y - 11, MARGIN, y - 3);
		else
			fprintf(out, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"28\" height=\"14\"/>", class, MARGIN,
				y - 11);
		fprintf(out, "<text x=\"%d\" y=\"%d\">", MARGIN + 36, y);
		viz_legend_text(out, picture, line);
		fputs("</text>\n", out);
	}
}

static void draw_gaps(FILE *out, const struct viz_picture *picture, int x, int y)
{
	const struct viz_map *map = picture->map;
	char size[UNITS_TEXT_BYTES];

	fprintf(out, "<text class=\"h\" x=\"%d\" y=\"%d\">Largest gaps</text>\n", x, y);
	for (size_t i = 0; i < map->n_gaps_kept; i++)
		fprintf(out, "<text x=\"%d\" y=\"%d\">%s at %#" PRIx64 "</text>\n", x, y + LINE * (int)(i + 1),
			size_format(map->gaps[i].size, size), map->gaps[i].offset);
	if (!map->n_gaps)
		fprintf(out, "<text x=\"%d\" y=\"%d\">none</text>\n", x, y + LINE);
}

static void draw_figures(FILE *out, const struct viz_picture *picture, int y)
{
	char value[UNITS_TEXT_BYTES];

	fprintf(out, "<text class=\"h\" x=\"%d\" y=\"%d\">Figures</text>\n", MARGIN, y);
	for (unsigned i = 0; i < VIZ_FIGURES; i++) {
		const char *name = viz_figure(picture, i, value);
		int x = MARGIN + (int)(i % 3) * 310, line = y + LINE * (1 + (int)i / 3);

		fprintf(out, "<text x=\"%d\" y=\"%d\">%s</text><text class=\"w\" x=\"%d\" y=\"%d\">%s</text>\n", x,
			line, name, x + 260, line, value);
	}
}

void viz_svg(FILE *out, const struct viz_picture *picture)
{
	size_t n_lines = viz_legend_size(picture), n_gaps = picture->map->n_gaps_kept;
	int legend_y = 80 + viz_rows_height(picture) + 22, figures_y, high;
	char clock[64];

	figures_y = legend_y + LINE * (int)((n_lines > n_gaps ? n_lines : n_gaps) + 2);
	high = figures_y + 6 * LINE + 8;
	fprintf(out,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" "
		"height=\"%.0f\" viewBox=\"0 0 %d %d\">\n<title>Pool ",
		picture->width, (double)high * picture->width / VIZ_WIDTH, VIZ_WIDTH, high);
	viz_escape(out, picture->name);
	fputs("</title>\n", out);
	viz_style(out, picture);
	fprintf(out,
		"<rect class=\"f n\" width=\"100%%\" height=\"100%%\"/>\n<text class=\"t\" x=\"%d\" y=\"34\">Pool ",
		MARGIN);
	viz_escape(out, picture->name);
	fprintf(out, "</text><text class=\"w\" x=\"%d\" y=\"34\">%s</text>\n<text x=\"%d\" y=\"60\">",
		VIZ_WIDTH - MARGIN, viz_time(picture, clock, sizeof(clock)), MARGIN);
	summary(out, picture->map, picture->stats);
	fputs("</text>\n", out);
	viz_draw_map(out, picture, 80);
	draw_legend(out, picture, legend_y);
	draw_gaps(out, picture, 680, legend_y);
	draw_figures(out, picture, figures_y);
	fputs("</svg>\n", out);
}
