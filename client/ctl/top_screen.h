#pragma once
// SPDX-License-Identifier: MIT
/* top_screen - the terminal behind `top`: ncurses, and nothing of it anywhere else */
#include "ctl/top_view.h"

enum top_key {
	TOP_KEY_NONE, /* no more are waiting */
	TOP_KEY_OTHER,
	TOP_KEY_QUIT,
	TOP_KEY_UP,
	TOP_KEY_DOWN,
	TOP_KEY_PAGE_UP,
	TOP_KEY_PAGE_DOWN,
	TOP_KEY_ENTER,
	TOP_KEY_SORT,
};

/** top_terminal_open() - take the screen over; it is given back at exit, too. Return: 0; -ENOTTY: TERM is not known */
int top_terminal_open(bool color) MUST_CHECK;
void top_terminal_close(void);
/** top_terminal_resized() - look how large the terminal is now, and fit @screen to it. Return: 0, -ENOMEM */
int top_terminal_resized(struct top_screen *screen) MUST_CHECK;
void top_terminal_show(const struct top_screen *screen);
enum top_key top_terminal_key(void);
