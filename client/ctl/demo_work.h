#pragma once
// SPDX-License-Identifier: MIT
/*
 * demo_work - what the demo's consumers compute of the bytes they are handed: CRC-32, lines, words
 *
 * A tally of a part can be appended to the tally of what is before it, whoever computed them, and gives the tally of
 * the whole: words that a border cuts in two count once.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tally { /* of some bytes in a row; {0}: of none. Travels through pipes */
	uint64_t n_bytes;
	uint64_t n_lines; /* newlines, as wc -l */
	uint64_t n_words; /* runs of other than ASCII white space, as wc -w in the C locale */
	uint32_t crc;	  /* CRC-32 as zlib, gzip and cksum -a crc32b have it */
	uint8_t begins_in_word;
	uint8_t ends_in_word;
	uint8_t reserved[2];
};

/** tally_of() - of data [n_bytes] */
struct tally tally_of(const void *data, size_t n_bytes);

/** tally_append() - @sum becomes the tally of its bytes and @next's behind them */
void tally_append(struct tally *sum, const struct tally *next);

bool tally_is_equal(const struct tally *a, const struct tally *b);
