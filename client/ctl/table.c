// SPDX-License-Identifier: MIT
/*
 * The table half of emit.h: cells in one array, row after row; widths are found when printing.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/emit.h"
#include "ctl/error.h"

#define COLUMNS_MAX 12
#define CELL_BYTES  128

struct table {
	bool bold;
	size_t n_columns;
	bool to_right[COLUMNS_MAX];
	size_t n_cells; /* headings included */
	size_t n_room;
	char (*cells)[CELL_BYTES];
};

static char *cell_new(struct table *table)
{
	if (table->n_cells == table->n_room) {
		size_t n_room = table->n_room ? 2 * table->n_room : 8 * COLUMNS_MAX;
		void *cells = reallocarray(table->cells, n_room, CELL_BYTES);

		if (!cells)
			error_no_memory();
		table->cells = cells;
		table->n_room = n_room;
	}
	return table->cells[table->n_cells++];
}

struct table *table_new(const char *columns, bool bold)
{
	struct table *table = calloc(1, sizeof(*table));

	if (!table)
		error_no_memory();
	table->bold = bold;
	while (*columns) {
		size_t n = strcspn(columns, "|");
		bool to_right = n && columns[n - 1] == '>';

		table->to_right[table->n_columns++] = to_right;
		snprintf(cell_new(table), CELL_BYTES, "%.*s", (int)(n - to_right), columns);
		columns += n + (columns[n] == '|');
	}
	return table;
}

void table_cell(struct table *table, const char *format, ...)
{
	char *cell = cell_new(table);
	va_list args;

	va_start(args, format);
	vsnprintf(cell, CELL_BYTES, format, args);
	va_end(args);
	/* A command's name is its owner's choice: it must not move the reader's cursor. */
	for (char *at = cell; *at; at++) {
		if (*at < ' ' || *at > '~')
			*at = '?';
	}
}

void table_print(const struct table *table, FILE *out)
{
	size_t widths[COLUMNS_MAX] = {0};

	for (size_t i = 0; i < table->n_cells; i++) {
		size_t n = strlen(table->cells[i]);

		if (n > widths[i % table->n_columns])
			widths[i % table->n_columns] = n;
	}
	for (size_t i = 0; i < table->n_cells; i++) {
		size_t column = i % table->n_columns;
		bool last = column == table->n_columns - 1;
		int width = (int)widths[column];

		if (!column && table->bold && i < table->n_columns)
			fputs("\033[1m", out);
		if (table->to_right[column])
			fprintf(out, "%*s", width, table->cells[i]);
		else
			fprintf(out, "%-*s", last ? 0 : width, table->cells[i]);
		if (last && table->bold && i < table->n_columns)
			fputs("\033[0m", out);
		fputs(last ? "\n" : "  ", out);
	}
}

struct table *table_free(struct table *table)
{
	if (table)
		free(table->cells);
	free(table);
	return NULL;
}
