#pragma once
// SPDX-License-Identifier: MIT
/* intent - what the two halves of bench_intent have in common */
#include <stdint.h>

/** intent_run_pairs() - free one of @n_standing blocks and allocate another, many times. Return: ns of a pair */
typedef double (*intent_run)(uint32_t n_standing);
