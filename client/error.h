#pragma once
// SPDX-License-Identifier: MIT
/* error - this thread's last failure as a sentence */
#include "proto/util.h"

/** error_set() - keep a sentence; Return: @error, a negative errno, so that a failure is one line */
int error_set(int error, const char *format, ...) PRINTF(2, 3);
/** error_warn() - keep a sentence beside success */
void error_warn(const char *sentence);

#define ERROR_SENTENCE_BYTES 768u

struct error_first { /* of many things done: the first failure is what they answer together; {0} to begin with */
	int error;
	char sentence[ERROR_SENTENCE_BYTES];
};

/** error_note() - one of them came to @r, 0 or a negative errno with its sentence set */
void error_note(struct error_first *first, int r);
/** error_give() - Return: 0, or the first failure, with its sentence set again */
int error_give(const struct error_first *first);
