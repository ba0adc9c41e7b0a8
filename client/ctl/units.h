#pragma once
// SPDX-License-Identifier: MIT
/*
 * units - sizes, counts and ages, as people write and read them
 *
 * Knows text and numbers; not where they come from nor how a refusal is shown.
 */
#include <stddef.h>
#include <stdint.h>

#define UNITS_TEXT_BYTES 32 /* holds whatever the functions below write */

/**
 * size_parse() - "4096", "64K", "1.5G", "2MiB": units are K, M, G and T, powers of 1024, in either case
 * @sizep: out: bytes, rounded down; untouched on refusal
 *
 * Return: NULL, or why it is refused, as the rest of a sentence about the text.
 */
const char *size_parse(const char *text, uint64_t *sizep);

/** size_format() - "812", "64K", "1.5G": exact where no digit is shown after the point. Return: @out [UNITS_TEXT_BYTES] */
const char *size_format(uint64_t size, char *out);

/** count_format() - "1,048,576". Return: @out [UNITS_TEXT_BYTES] */
const char *count_format(uint64_t count, char *out);

/** age_format() - "7s", "4m12s", "3h05m", "12d04h". Return: @out [UNITS_TEXT_BYTES] */
const char *age_format(uint64_t seconds, char *out);

/** number_parse() - decimal, or hexadecimal after 0x; nothing around it. Return: NULL, or why not, as size_parse() */
const char *number_parse(const char *text, uint64_t *numberp);
