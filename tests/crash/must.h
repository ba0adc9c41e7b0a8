#pragma once
// SPDX-License-Identifier: MIT
/* must - what the machine has to do for a test: if it does not, the test cannot go on, and that is no finding */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static inline void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "the test itself fails: %s: %m\n", what);
	exit(2);
}
