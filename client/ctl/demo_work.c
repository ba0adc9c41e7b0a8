// SPDX-License-Identifier: MIT
/*
 * Eight bytes at a time, so that moving the bytes, which the demo is about, is not lost beside counting them. A flag is
 * the high bit of a byte. All sums below stay within their byte, because they are made of seven bits.
 */
#include <assert.h>
#include <string.h>
#include <zlib.h>

#include "ctl/demo_work.h"
#include "proto/util.h"

#define EACH(byte) ((byte)*UINT64_C(0x0101010101010101))
#define HIGH	   EACH(0x80)

/* flags_equal() - which bytes of @x are @byte, one below 0x80 */
static inline uint64_t flags_equal(uint64_t x, uint64_t byte)
{
	uint64_t y = x ^ EACH(byte);

	return ~((y & ~HIGH) + ~HIGH) & ~y & HIGH;
}

/* flags_space() - which bytes of @x are a space, or 9 to 13: tab, newline, vertical tab, form feed, return */
static inline uint64_t flags_space(uint64_t x)
{
	uint64_t low = x & ~HIGH, at_least_9 = low + EACH(0x80 - 9), at_least_14 = low + EACH(0x80 - 14);

	return flags_equal(x, ' ') | (at_least_9 & ~at_least_14 & ~x & HIGH);
}

static inline unsigned n_flags(uint64_t flags)
{
	return (unsigned)((flags >> 7) * EACH(1) >> 56);
}

/* count_word() - one machine word of text; a shorter rest of the text is filled up with spaces */
static inline void count_word(struct tally *tally, uint64_t x)
{
	uint64_t spaces = flags_space(x);
	/* Little-endian: the byte before is the one below; below the first is how the last word of memory ended. */
	uint64_t space_before = spaces << 8 | (tally->ends_in_word ? 0 : 0x80);

	tally->n_lines += n_flags(flags_equal(x, '\n'));
	tally->n_words += n_flags(~spaces & space_before & HIGH);
	tally->ends_in_word = !(spaces >> 63);
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "count_word() takes the lowest byte as the first");

struct tally tally_of(const void *data, size_t n_bytes)
{
	struct tally tally = {.n_bytes = n_bytes};
	const uint8_t *at = data;
	size_t n = n_bytes;
	uint64_t x;

	if (!n_bytes)
		return tally;
	tally.crc = (uint32_t)crc32_z(0, data, n_bytes);
	x = EACH(' ');
	memcpy(&x, at, 1);
	tally.begins_in_word = !(flags_space(x) & 0x80);
	for (; n >= sizeof(x); n -= sizeof(x), at += sizeof(x)) {
		memcpy(&x, at, sizeof(x));
		count_word(&tally, x);
	}
	if (n) {
		x = EACH(' ');
		memcpy(&x, at, n);
		count_word(&tally, x);
		tally.ends_in_word = !(flags_space(x) >> (8 * n - 1) & 1);
	}
	return tally;
}

void tally_append(struct tally *sum, const struct tally *next)
{
	if (!next->n_bytes)
		return;
	if (!sum->n_bytes) {
		*sum = *next;
		return;
	}
	sum->n_words += next->n_words - (sum->ends_in_word && next->begins_in_word);
	sum->n_lines += next->n_lines;
	sum->crc = (uint32_t)crc32_combine(sum->crc, next->crc, (z_off_t)next->n_bytes);
	sum->n_bytes += next->n_bytes;
	sum->ends_in_word = next->ends_in_word;
}

bool tally_is_equal(const struct tally *a, const struct tally *b)
{
	return a->n_bytes == b->n_bytes && a->n_lines == b->n_lines && a->n_words == b->n_words && a->crc == b->crc;
}
