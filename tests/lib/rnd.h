#pragma once
// SPDX-License-Identifier: MIT
/*
 * rnd - random numbers for tests and benchmarks: small, fast, and the same again for the same seed
 *
 * Source: xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2014), its state spread
 * over all bits by splitmix64 so that neighbouring seeds give unrelated sequences. Not for secrets.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proto/util.h"

struct rnd {
	uint64_t state; /* never 0 */
};

static inline void rnd_init(struct rnd *rnd, uint64_t seed)
{
	uint64_t z = seed + UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	z ^= z >> 31;
	rnd->state = z ? z : 1;
}

/** rnd_next() - 64 random bits */
static inline uint64_t rnd_next(struct rnd *rnd)
{
	rnd->state ^= rnd->state >> 12;
	rnd->state ^= rnd->state << 25;
	rnd->state ^= rnd->state >> 27;
	return rnd->state * UINT64_C(0x2545f4914f6cdd1d);
}

/** rnd_below() - a number in [0, n); @n at least 1. Even enough for tests: off by n / 2^64 */
static inline uint64_t rnd_below(struct rnd *rnd, uint64_t n)
{
	return (uint64_t)((unsigned __int128)rnd_next(rnd) * n >> 64);
}

/** rnd_log() - a number in [low, high], every power of two between them as likely as the next; @low at least 1 */
static inline uint64_t rnd_log(struct rnd *rnd, uint64_t low, uint64_t high)
{
	unsigned first = 63u - (unsigned)__builtin_clzll(low), last = 63u - (unsigned)__builtin_clzll(high);
	uint64_t base = UINT64_C(1) << (first + rnd_below(rnd, last - first + 1)), n = base + rnd_below(rnd, base);

	return n < low ? low : n > high ? high : n;
}

/**
 * rnd_seed_from_env_or_time() - the number in $MEMPOOL_TEST_SEED, else one of this nanosecond; printed, so that a failure
 * can be had again
 */
static inline uint64_t rnd_seed_from_env_or_time(void)
{
	const char *given = getenv("MEMPOOL_TEST_SEED");
	struct timespec now;
	uint64_t seed;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = given && *given ? strtoull(given, NULL, 0) : (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	printf("MEMPOOL_TEST_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	return seed;
}
