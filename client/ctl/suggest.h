#pragma once
// SPDX-License-Identifier: MIT
/*
 * suggest - what a person who mistyped a word probably meant
 */
#include <stddef.h>

/** edit_distance() - fewest insertions, deletions, substitutions and swaps of neighbours; words of over 64 bytes: a lot */
unsigned edit_distance(const char *a, const char *b);

/** the best so far of a series of words; {.word = …} to begin with */
struct suggestion {
	const char *word; /* that was mistyped */
	char best[72];	  /* empty: nothing is close enough */
	unsigned distance;
};

/** suggestion_offer() - take @candidate if it is close to the word and closer than the best so far */
void suggestion_offer(struct suggestion *suggestion, const char *candidate);
