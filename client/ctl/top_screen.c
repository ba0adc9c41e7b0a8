// SPDX-License-Identifier: MIT
#define NCURSES_WIDECHAR 1
#include <curses.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ctl/top_screen.h"

#define ESCAPE_MS 25 /* between Esc and the rest of a key's sequence; a person is slower */

static bool has_color;

void top_terminal_close(void)
{
	if (stdscr && !isendwin())
		endwin();
}

int top_terminal_open(bool color)
{
	if (!newterm(NULL, stdout, stdin))
		return -ENOTTY;
	atexit(top_terminal_close); /* memory can run out anywhere */
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	set_escdelay(ESCAPE_MS);
	curs_set(0);
	has_color = color && has_colors();
	if (has_color) {
		start_color();
		use_default_colors();
		for (short i = 1; i < 256 && i < COLOR_PAIRS; i++)
			init_pair(i, COLORS >= 256 ? i : (short)(1 + i % 6), -1); /* with eight: none that is black */
	}
	return 0;
}

int top_terminal_resized(struct top_screen *screen)
{
	struct winsize size;

	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_row && size.ws_col)
		resizeterm(size.ws_row, size.ws_col);
	return top_screen_resize(screen, (unsigned)LINES, (unsigned)COLS);
}

static void show_cell(const struct top_cell *cell)
{
	attr_t attributes = (cell->attributes & TOP_BOLD ? A_BOLD : 0) |
			    (cell->attributes & TOP_REVERSE ? A_REVERSE : 0) | (cell->attributes & TOP_DIM ? A_DIM : 0);
	wchar_t text[2] = {(wchar_t)cell->character};
	cchar_t character;

	if (setcchar(&character, text, attributes, has_color ? (short)cell->color : 0, NULL) == OK)
		add_wch(&character); /* that the last cell of the screen cannot be passed is not an error here */
}

void top_terminal_show(const struct top_screen *screen)
{
	for (unsigned row = 0; row < screen->rows; row++) {
		move((int)row, 0);
		for (unsigned column = 0; column < screen->columns; column++)
			show_cell(&screen->cells[(size_t)row * screen->columns + column]);
	}
	refresh();
}

enum top_key top_terminal_key(void)
{
	switch (getch()) {
	case ERR:
		return TOP_KEY_NONE;
	case 'q':
	case 'Q':
		return TOP_KEY_QUIT;
	case 'k':
	case KEY_UP:
		return TOP_KEY_UP;
	case 'j':
	case KEY_DOWN:
		return TOP_KEY_DOWN;
	case KEY_PPAGE:
		return TOP_KEY_PAGE_UP;
	case KEY_NPAGE:
		return TOP_KEY_PAGE_DOWN;
	case '\r':
	case '\n':
	case KEY_ENTER:
		return TOP_KEY_ENTER;
	case 's':
		return TOP_KEY_SORT;
	}
	return TOP_KEY_OTHER;
}
