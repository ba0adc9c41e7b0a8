// SPDX-License-Identifier: MIT
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ctl/terminal.h"
#include "ctl/units.h"

#define COLUMNS_MAX 10000 /* of $COLUMNS: beyond that it is a mistake */

bool terminal_is(int fd)
{
	return isatty(fd);
}

uint32_t terminal_width(int fd)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size;
	uint64_t n;

	if (!ioctl(fd, TIOCGWINSZ, &size) && size.ws_col)
		return size.ws_col;
	if (columns && !number_parse(columns, &n) && n && n <= COLUMNS_MAX)
		return (uint32_t)n;
	return TERMINAL_WIDTH_DEFAULT;
}

bool terminal_is_utf8(void)
{
	return !strcmp(nl_langinfo(CODESET), "UTF-8");
}

bool terminal_has_color(enum color_when when, int fd)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	if (no_color && *no_color) /* no-color.org: when present and not empty */
		return false;
	if (when != COLOR_AUTO)
		return when == COLOR_ALWAYS;
	return isatty(fd) && term && strcmp(term, "dumb");
}
