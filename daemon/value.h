#pragma once
// SPDX-License-Identifier: MIT
/*
 * value - numbers and choices as people write them in a configuration file
 *
 * Knows text; not which key a value belongs to. A value is taken whole or refused: no sign, no blanks, no fraction, and
 * nothing after the unit.
 */
#include <stdint.h>

#include "proto/util.h"

/* Each returns 0; -EINVAL: not written so; -ERANGE: written so, but too large for a number. */

int value_parse_count(const char *text, uint64_t *countp) MUST_CHECK;
/** value_parse_bytes() - "4096", "64K", "1G" (powers of 1024), or "50%" of /dev/shm */
int value_parse_bytes(const char *text, uint64_t *bytesp) MUST_CHECK;
/** value_parse_ms() - "250ms", "10s", "5m": a bare number would leave the unit to the reader */
int value_parse_ms(const char *text, uint64_t *msp) MUST_CHECK;
/** value_parse_mode() - octal, up to 0777 */
int value_parse_mode(const char *text, uint32_t *modep) MUST_CHECK;
/** value_parse_yes() - yes, true, on, 1; no, false, off, 0 */
int value_parse_yes(const char *text, bool *yesp) MUST_CHECK;
/** value_parse_choice() - @text is choices[*indexp], of a list that ends in NULL */
int value_parse_choice(const char *text, const char *const choices[], uint32_t *indexp) MUST_CHECK;

/**
 * value_nearest() - what somebody who wrote @text may have meant
 * @choices: ends in NULL
 *
 * Source:  optimal string alignment distance, at most 2 and less than half of the length.
 * Return:  one of @choices, or NULL.
 */
const char *value_nearest(const char *text, const char *const choices[]);
