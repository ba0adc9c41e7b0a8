// SPDX-License-Identifier: MIT
/* The page around the drawing: what the SVG says below its map is in tables here, which can be copied and read aloud. */
#include <inttypes.h>
#include <string.h>

#include "ctl/units.h"
#include "ctl/viz_picture.h"

static void write_head(FILE *out, const struct viz_picture *picture)
{
	/* No script, nothing from elsewhere: the policy holds the page to it, wherever it is put. */
	fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta "
	      "http-equiv=\"Content-Security-Policy\" "
	      "content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n<meta name=\"viewport\" "
	      "content=\"width=device-width\"/>\n<title>Pool ",
	      out);
	viz_escape(out, picture->name);
	fprintf(out,
		"</title>\n<style>\n"
		"body{font:15px 'DejaVu Sans',Verdana,sans-serif;color:#222;background:#fff;max-width:%upx;"
		"margin:1.5em auto;padding:0 1em}\n",
		picture->width);
	fputs("h1{font-size:1.5em;margin:0}h2{font-size:1.05em;margin:1.2em 0 .4em}\n"
	      "time{color:#555}svg{display:block}svg.map{width:100%;height:auto;margin:1em 0}\n"
	      "table{border-collapse:collapse}td,th{padding:.2em 1.2em .2em 0;text-align:left;vertical-align:middle}\n"
	      ".r{text-align:right}.side{display:flex;flex-wrap:wrap;gap:0 3em}\n"
	      "@media print{body{max-width:none;margin:0;-webkit-print-color-adjust:exact;print-color-adjust:exact}}\n"
	      "</style>\n</head>\n<body>\n",
	      out);
}

static void write_map(FILE *out, const struct viz_picture *picture)
{
	int high = viz_rows_height(picture);

	fprintf(out,
		"<svg class=\"map\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" "
		"aria-label=\"Map of the pool by address\">\n",
		VIZ_WIDTH, high);
	viz_style(out, picture);
	viz_draw_map(out, picture, 0);
	fputs("</svg>\n", out);
}

static void write_legend(FILE *out, const struct viz_picture *picture)
{
	fputs("<h2>Who holds it</h2>\n<table>\n", out);
	for (size_t line = 0; line < viz_legend_size(picture); line++) {
		const char *class = viz_legend_class(picture, line);
		bool is_partly = !strcmp(class, "n");

		fprintf(out,
			"<tr><td><svg width=\"30\" height=\"16\"><rect class=\"%s\" x=\"1\" y=\"1\" width=\"28\" "
			"height=\"14\"/>%s</svg></td><td>",
			is_partly ? "f" : class,
			is_partly ? "<rect class=\"A n\" x=\"1\" y=\"9\" width=\"28\" height=\"6\"/>" : "");
		viz_legend_text(out, picture, line);
		fputs("</td></tr>\n", out);
	}
	fputs("</table>\n", out);
}

static void write_figures(FILE *out, const struct viz_picture *picture)
{
	char value[UNITS_TEXT_BYTES];

	fputs("<div><h2>Figures</h2>\n<table>\n", out);
	for (unsigned i = 0; i < VIZ_FIGURES; i++) {
		const char *name = viz_figure(picture, i, value);

		fprintf(out, "<tr><th>%s</th><td class=\"r\">%s</td></tr>\n", name, value);
	}
	fputs("</table></div>\n", out);
}

static void write_gaps(FILE *out, const struct viz_map *map)
{
	char text[UNITS_TEXT_BYTES];

	fprintf(out, "<div><h2>Gaps: %s</h2>\n<table>\n<tr><th class=\"r\">size</th><th>at</th></tr>\n",
		count_format(map->n_gaps, text));
	for (size_t i = 0; i < map->n_gaps_kept; i++)
		fprintf(out, "<tr><td class=\"r\">%s</td><td>%#" PRIx64 "</td></tr>\n",
			size_format(map->gaps[i].size, text), map->gaps[i].offset);
	if (map->n_gaps > map->n_gaps_kept)
		fprintf(out, "<tr><td class=\"r\">…</td><td>and %s more, smaller ones</td></tr>\n",
			count_format(map->n_gaps - map->n_gaps_kept, text));
	fputs("</table></div>\n", out);
}

void viz_html(FILE *out, const struct viz_picture *picture)
{
	char clock[64];

	write_head(out, picture);
	fputs("<h1>Pool ", out);
	viz_escape(out, picture->name);
	fprintf(out, "</h1>\n<time>%s</time>\n", viz_time(picture, clock, sizeof(clock)));
	write_map(out, picture);
	write_legend(out, picture);
	fputs("<div class=\"side\">\n", out);
	write_figures(out, picture);
	write_gaps(out, picture->map);
	fputs("</div>\n</body>\n</html>\n", out);
}
