#pragma once
// SPDX-License-Identifier: MIT
/* finding - what is wrong with a state is told, with where it is; and it is the end: what comes after could only follow from it */
#include "proto/util.h"

struct finding_place { /* what is being looked at */
	const char *what, *kind;
	unsigned state;
	const char *crash;	/* the sentence if the code under test crashes in this process */
	void (*clean_up)(void); /* before the end */
};

extern struct finding_place finding_place;

/** found() - prints "found: WHAT of KIND, state N: …" and exits with 1 */
_Noreturn void found(const char *format, ...) PRINTF(1, 2);
/** finding_catch_crashes() - they are found, too */
void finding_catch_crashes(void);
