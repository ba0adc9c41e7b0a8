#pragma once
// SPDX-License-Identifier: MIT
/*
 * viz_picture - a pool's map as SVG, or as a page around it; each one file that needs nothing else
 *
 * An owner has a colour, a pattern and a letter, so a picture is read without colours too, and from paper. Whatever others chose,
 * names of pools and commands, is escaped. Each range of the map is one rect with data-offset and data-size; those sum to the pool.
 */
#include <stdio.h>
#include <time.h>

#include "ctl/viz_map.h"
#include "mempool/mempool.h"

struct viz_holder { /* what a session is called */
	uint64_t session;
	int pid; /* 0: not known */
	char command[24];
};

struct viz_picture {
	const char *name;
	time_t taken;
	unsigned width; /* of the whole, in pixels: what is drawn is scaled to it */
	const struct viz_map *map;
	const struct mempool_stats *stats;
	const struct viz_holder *holders; /* [n_holders] */
	size_t n_holders;
};

void viz_svg(FILE *out, const struct viz_picture *picture);
void viz_html(FILE *out, const struct viz_picture *picture);

/* ---- what both have ---- */

#define VIZ_WIDTH 960 /* of the map, in its own units; pixels if nobody asks for another width */

/** viz_style() - patterns and classes, for the head of a drawing */
void viz_style(FILE *out, const struct viz_picture *picture);
/** viz_draw_map() - the rows, @y pixels below the top. Return: where they end */
int viz_draw_map(FILE *out, const struct viz_picture *picture, int y);
/** viz_rows_height() - what viz_draw_map() takes */
int viz_rows_height(const struct viz_picture *picture);

/** viz_legend_size() - lines of the legend; the owners first, then what else there is to see */
size_t viz_legend_size(const struct viz_picture *picture);
/** viz_legend_class() - class of a line's swatch */
const char *viz_legend_class(const struct viz_picture *picture, size_t line);
/** viz_legend_text() - escaped, to @out */
void viz_legend_text(FILE *out, const struct viz_picture *picture, size_t line);

#define VIZ_FIGURES 15
/** viz_figure() - the @i-th of the pool's figures. Return: its name; @value [UNITS_TEXT_BYTES] */
const char *viz_figure(const struct viz_picture *picture, unsigned i, char *value);

/** viz_time() - when it was taken. Return: @out [n_bytes] */
const char *viz_time(const struct viz_picture *picture, char *out, size_t n_bytes);

/** viz_escape() - @text for XML and HTML, inside elements and attributes; what no document may have becomes '?' */
void viz_escape(FILE *out, const char *text);
