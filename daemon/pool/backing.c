// SPDX-License-Identifier: MIT
/*
 * Unit i stands for [i * unit, (i + 1) * unit), less the first page of the segment and what lies beyond its end:
 *
 *   0    4096                                        segment_bytes
 *   |----|-----------|----------------|---- … ---|------|
 *         unit 0       unit 1                      last unit, cut short
 *
 * so that the kernel's st_blocks and backed_bytes are the same figure.
 */
#include "pool/backing.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNIT_MIN   4096u
#define UNIT_BIG   65536u		/* a page fault's worth of pages at once: 7 us */
#define BIG_BYTES  (UINT64_C(64) << 20) /* segments from here on use big units */
#define N_BITS_MAX (UINT64_C(1) << 23)	/* 1 MiB of bits, 0.1 ms to back them at create */
#define SLICE	   (UINT64_C(64) << 20) /* most that one fallocate takes: 7 ms, so that a failure is seen early */

uint32_t backing_unit_bytes(uint64_t segment_bytes_max)
{
	uint32_t unit = segment_bytes_max < BIG_BYTES ? UNIT_MIN : UNIT_BIG;

	while (segment_bytes_max / unit > N_BITS_MAX)
		unit *= 2;
	return unit;
}

static uint64_t n_units(uint64_t segment_bytes, uint32_t unit_bytes)
{
	return (segment_bytes + unit_bytes - 1) / unit_bytes;
}

uint32_t backing_n_words(uint64_t segment_bytes, uint32_t unit_bytes)
{
	return (uint32_t)((n_units(segment_bytes, unit_bytes) + 63) / 64);
}

int backing_init(struct backing *backing, struct ledger *ledger, struct budget *budget, int fd, uint32_t unit_bytes,
		 uint64_t segment_bytes)
{
	assert(is_power_of_two(unit_bytes) && unit_bytes >= UNIT_MIN && segment_bytes % UNIT_MIN == 0);
	if (ledger->tables[LEDGER_BACKED].n_backed < backing_n_words(segment_bytes, unit_bytes))
		return -ENOSPC;
	*backing = (struct backing){
		.ledger = ledger,
		.budget = budget,
		.fd = fd,
		.unit_bytes = unit_bytes,
		.segment_bytes = segment_bytes,
	};
	return 0;
}

/* ---- bits ---- */

static _Atomic uint64_t *word_of(const struct backing *backing, uint64_t unit)
{
	return (_Atomic uint64_t *)backing->ledger->tables[LEDGER_BACKED].base + unit / 64;
}

/* Relaxed: who reads a bit to rely on it has set it himself, or has the pool's mutex after the one who did. */
static uint64_t word_at(const struct backing *backing, uint64_t unit)
{
	return atomic_load_explicit(word_of(backing, unit), memory_order_relaxed);
}

static uint64_t unit_begin(const struct backing *backing, uint64_t unit)
{
	return unit ? unit * backing->unit_bytes : BACKING_FIRST;
}

static uint64_t unit_end(const struct backing *backing, uint64_t unit)
{
	uint64_t end = (unit + 1) * backing->unit_bytes;

	return end < backing->segment_bytes ? end : backing->segment_bytes;
}

/* The first unit from @unit on, below @end, whose bit is @value; @end if there is none. */
static uint64_t find_bit(const struct backing *backing, uint64_t unit, uint64_t end, bool value)
{
	uint64_t word;

	while (unit < end) {
		word = (value ? word_at(backing, unit) : ~word_at(backing, unit)) >> unit % 64;
		if (word) {
			unit += (uint64_t)__builtin_ctzll(word);
			return unit < end ? unit : end;
		}
		unit = (unit | 63) + 1;
	}
	return end;
}

static uint64_t range_bytes(const struct backing *backing, uint64_t unit, uint64_t end)
{
	return unit < end ? unit_end(backing, end - 1) - unit_begin(backing, unit) : 0;
}

static void count(struct backing *backing, uint64_t n_bytes)
{
	atomic_fetch_add_explicit(&backing->backed_bytes, n_bytes, memory_order_relaxed);
}

/* Return: bytes whose bits were not set before. */
static uint64_t set_bits(struct backing *backing, uint64_t unit, uint64_t end)
{
	uint64_t n_bytes = 0, bit;

	for (; unit < end; unit++) {
		bit = UINT64_C(1) << unit % 64;
		if (!(atomic_fetch_or_explicit(word_of(backing, unit), bit, memory_order_release) & bit))
			n_bytes += range_bytes(backing, unit, unit + 1);
	}
	count(backing, n_bytes);
	return n_bytes;
}

/* All of them are set. */
static void clear_bits(struct backing *backing, uint64_t unit, uint64_t end)
{
	count(backing, -range_bytes(backing, unit, end));
	for (; unit < end; unit++)
		atomic_fetch_and_explicit(word_of(backing, unit), ~(UINT64_C(1) << unit % 64), memory_order_release);
}

/* ---- back ---- */

static uint64_t first_unit(const struct backing *backing, uint64_t offset)
{
	return offset / backing->unit_bytes;
}

static uint64_t end_unit(const struct backing *backing, uint64_t end)
{
	return n_units(end, backing->unit_bytes);
}

uint64_t backing_missing(const struct backing *backing, uint64_t offset, uint64_t n_bytes, uint64_t enough)
{
	uint64_t end = end_unit(backing, offset + n_bytes), missing = 0, run;
	uint64_t unit = find_bit(backing, first_unit(backing, offset), end, false);

	while (unit < end && missing < enough) {
		run = find_bit(backing, unit, end, true);
		missing += range_bytes(backing, unit, run);
		unit = find_bit(backing, run, end, false);
	}
	return missing;
}

uint64_t backing_first_missing(const struct backing *backing, uint64_t offset, uint64_t n_bytes)
{
	uint64_t end = end_unit(backing, offset + n_bytes);
	uint64_t unit = find_bit(backing, first_unit(backing, offset), end, false);
	uint64_t begin = unit < end ? unit_begin(backing, unit) : offset + n_bytes;

	return begin > offset ? begin : offset;
}

static int allocate(int fd, uint64_t offset, uint64_t n_bytes)
{
	int r;

	if (!n_bytes) /* the first unit, if it is a page: nobody's, and nobody sets its bit but in books that are damaged */
		return 0;
	do {
		r = posix_fallocate(fd, (off_t)offset, (off_t)n_bytes);
	} while (r == EINTR);
	return r == ENOSPC ? BACKING_E_EXHAUSTED : -r;
}

/* Back the units [unit, end), none of which has its bit set; *creditp bytes were spent for them. */
static int back_run(struct backing *backing, uint64_t unit, uint64_t end, uint64_t *creditp)
{
	uint64_t step = SLICE > backing->unit_bytes ? SLICE / backing->unit_bytes : 1, slice_end, n_new;
	int r;

	for (; unit < end; unit = slice_end) {
		slice_end = end - unit < step ? end : unit + step;
		r = allocate(backing->fd, unit_begin(backing, unit), range_bytes(backing, unit, slice_end));
		if (r)
			return r;
		n_new = set_bits(backing, unit, slice_end);
		*creditp -= n_new < *creditp ? n_new : *creditp;
	}
	return 0;
}

int backing_ensure(struct backing *backing, uint64_t offset, uint64_t n_bytes)
{
	uint64_t end = end_unit(backing, offset + n_bytes), unit, run;
	uint64_t credit = backing_missing(backing, offset, n_bytes, UINT64_MAX);
	int r = 0;

	assert(range_fits(offset, n_bytes, backing->segment_bytes));
	if (!credit)
		return 0;
	if (budget_spend(backing->budget, backing->fd, credit)) /* for all of it, before the first page is touched */
		return BACKING_E_EXHAUSTED;
	unit = find_bit(backing, first_unit(backing, offset), end, false);
	while (!r && unit < end) {
		run = find_bit(backing, unit, end, true);
		r = back_run(backing, unit, run, &credit);
		unit = find_bit(backing, run, end, false);
	}
	budget_give_back(backing->budget, credit); /* a neighbour was faster, or the kernel refused */
	return r;
}

int backing_grow(struct backing *backing, uint64_t segment_bytes)
{
	uint64_t old = backing->segment_bytes, last = old / backing->unit_bytes, n_more;
	int r;

	assert(segment_bytes >= old && segment_bytes % UNIT_MIN == 0);
	if (old % backing->unit_bytes && word_at(backing, last) >> last % 64 & 1) {
		n_more = (last + 1) * backing->unit_bytes;
		n_more = (n_more < segment_bytes ? n_more : segment_bytes) - old;
		if (n_more && budget_spend(backing->budget, backing->fd, n_more))
			return BACKING_E_EXHAUSTED;
		r = n_more ? allocate(backing->fd, old, n_more) : 0;
		if (r) {
			budget_give_back(backing->budget, n_more);
			return r;
		}
		count(backing, n_more);
	}
	backing->segment_bytes = segment_bytes;
	return 0;
}

/* ---- punch ---- */

static void punch(int fd, uint64_t offset, uint64_t n_bytes)
{
	int r;

	/* Refused: the pages stay until the units are backed again, and nothing is wrong but their count. */
	do {
		r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)n_bytes);
	} while (r && errno == EINTR);
}

static uint64_t first_whole(const struct backing *backing, uint64_t offset)
{
	uint64_t unit = first_unit(backing, offset);

	return unit + (unit_begin(backing, unit) < offset);
}

/* The last unit may be cut short by the end of the segment: it is inside as a whole if that is. */
static uint64_t end_whole(const struct backing *backing, uint64_t end)
{
	return end >= backing->segment_bytes ? end_unit(backing, end) : first_unit(backing, end);
}

bool backing_has_whole(const struct backing *backing, uint64_t offset, uint64_t n_bytes)
{
	uint64_t end = end_whole(backing, offset + n_bytes);

	return find_bit(backing, first_whole(backing, offset), end, true) < end;
}

uint64_t backing_punch(struct backing *backing, uint64_t offset, uint64_t n_bytes, uint64_t slice_bytes)
{
	uint64_t unit = first_whole(backing, offset), end = end_whole(backing, offset + n_bytes), run, done = 0, most;

	while (done < slice_bytes && (unit = find_bit(backing, unit, end, true)) < end) {
		run = find_bit(backing, unit, end, false);
		most = (slice_bytes - done - 1) / backing->unit_bytes + 1;
		run = run - unit > most ? unit + most : run;
		n_bytes = range_bytes(backing, unit, run);
		clear_bits(backing, unit, run);
		punch(backing->fd, unit_begin(backing, unit), n_bytes);
		done += n_bytes;
		unit = run;
	}
	budget_give_back(backing->budget, done);
	return done;
}

unsigned backing_check(const struct backing *backing, FILE *report)
{
	uint64_t end = end_unit(backing, backing->segment_bytes), n_bytes = 0, unit = 0, run;
	uint64_t counted = atomic_load_explicit(&backing->backed_bytes, memory_order_relaxed);

	while ((unit = find_bit(backing, unit, end, true)) < end) {
		run = find_bit(backing, unit, end, false);
		n_bytes += range_bytes(backing, unit, run);
		unit = run;
	}
	if (n_bytes == counted)
		return 0;
	if (report)
		fprintf(report, "backing: %llu bytes counted, the bits say %llu\n", (unsigned long long)counted,
			(unsigned long long)n_bytes);
	return 1;
}

/* ---- after a restart ---- */

static uint64_t kernel_bytes(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

/* Back again what the bits say is there: the calls find most of it so. */
static int back_set_bits(struct backing *backing, uint64_t n)
{
	uint64_t unit = find_bit(backing, 0, n, true), end;
	int r = 0;

	for (; !r && unit < n; unit = find_bit(backing, end, n, true)) {
		end = find_bit(backing, unit, n, false);
		r = allocate(backing->fd, unit_begin(backing, unit), range_bytes(backing, unit, end));
	}
	return r;
}

static void punch_clear_bits(struct backing *backing, uint64_t n)
{
	uint64_t unit = find_bit(backing, 0, n, false), end;

	for (; unit < n; unit = find_bit(backing, end, n, false)) {
		end = find_bit(backing, unit, n, true);
		punch(backing->fd, unit ? unit_begin(backing, unit) : 0,
		      unit_end(backing, end - 1) - (unit ? unit_begin(backing, unit) : 0));
	}
}

/* Of a growth that never came to its commit. */
static void forget_bits_beyond(const struct backing *backing, uint64_t n)
{
	uint64_t end = (uint64_t)backing->ledger->tables[LEDGER_BACKED].n_backed * 64, unit = n;

	for (; (unit = find_bit(backing, unit, end, true)) < end; unit++)
		atomic_fetch_and_explicit(word_of(backing, unit), ~(UINT64_C(1) << unit % 64), memory_order_release);
}

/* @missingp: out: bytes that were not there and are again, charged to the budget. Return: 0; BACKING_E_EXHAUSTED; -errno */
static int mend_object(struct backing *backing, uint64_t n, uint64_t n_bytes, uint64_t *missingp)
{
	uint64_t kernel;
	struct stat st;
	int r;

	if (fstat(backing->fd, &st) ||
	    ((uint64_t)st.st_size != backing->segment_bytes && ftruncate(backing->fd, (off_t)backing->segment_bytes)))
		return -errno;
	kernel = kernel_bytes(backing->fd);
	*missingp = kernel < n_bytes ? n_bytes - kernel : 0;
	if (*missingp) {
		if (budget_spend(backing->budget, backing->fd, *missingp))
			return BACKING_E_EXHAUSTED;
		r = back_set_bits(backing, n);
		if (r) {
			budget_give_back(backing->budget, *missingp);
			return r;
		}
	}
	if (kernel_bytes(backing->fd) > n_bytes)
		punch_clear_bits(backing, n);
	return 0;
}

int backing_recover(struct backing *backing, struct ledger *ledger, struct budget *budget, int fd, uint32_t unit_bytes,
		    uint64_t segment_bytes)
{
	uint64_t n = n_units(segment_bytes, unit_bytes), n_bytes = 0, missing = 0;
	int r;

	r = backing_init(backing, ledger, budget, fd, unit_bytes, segment_bytes);
	if (r)
		return r;
	forget_bits_beyond(backing, n);
	for (uint64_t unit = 0; (unit = find_bit(backing, unit, n, true)) < n; unit++)
		n_bytes += range_bytes(backing, unit, unit + 1);
	if (fd >= 0)
		r = mend_object(backing, n, n_bytes, &missing);
	if (r)
		return r;
	atomic_store_explicit(&backing->backed_bytes, n_bytes, memory_order_relaxed);
	budget_take_over(budget, n_bytes - missing);
	return 0;
}
