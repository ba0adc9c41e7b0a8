#pragma once
// SPDX-License-Identifier: MIT
/*
 * terminal - what stands behind an output: how wide, which characters, whether colours
 */
#include <stdbool.h>
#include <stdint.h>

enum color_when {
	COLOR_AUTO, /* on a terminal, unless TERM is dumb; $NO_COLOR turns off all of them */
	COLOR_ALWAYS,
	COLOR_NEVER,
};

#define TERMINAL_WIDTH_DEFAULT 80

bool terminal_is(int fd);
/** terminal_width() - columns of the terminal at @fd, else of $COLUMNS, else 80 */
uint32_t terminal_width(int fd);
/** terminal_is_utf8() - whether the locale's characters are UTF-8; setlocale() was called */
bool terminal_is_utf8(void);
bool terminal_has_color(enum color_when when, int fd);
