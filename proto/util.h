#pragma once
// SPDX-License-Identifier: MIT
/*
 * util - the few words that every layer uses: scope cleanup, holders, checked sizes, powers of two, plurals
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLEANUP(fn)    __attribute__((cleanup(fn), unused)) /* for what it does at its end, if for nothing else */
#define MUST_CHECK     __attribute__((warn_unused_result))
#define PRINTF(fmt, a) __attribute__((format(printf, fmt, a)))
#define N_ELEMENTS(a)  (sizeof(a) / sizeof((a)[0]))
/* The @type whose @field @at points to. */
#define HOLDER_OF(at, type, field) ((type *)(void *)((char *)(at)-offsetof(type, field)))

/** plural() - what a noun ends with behind @n */
static inline const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

/** range_fits() - whether [offset, offset + n_bytes) lies inside [0, limit_bytes); cannot wrap */
static inline bool range_fits(uint64_t offset, uint64_t n_bytes, uint64_t limit_bytes)
{
	return n_bytes <= limit_bytes && offset <= limit_bytes - n_bytes;
}

static inline bool is_power_of_two(uint64_t n)
{
	return n && !(n & (n - 1));
}

/** round_up() - @n up to a multiple of @to, a power of two; the caller has made sure that it does not wrap */
static inline uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) & ~(to - 1);
}

static inline uint64_t round_down(uint64_t n, uint64_t to)
{
	return n & ~(to - 1);
}

/** round_up_checked() - the same for any @n. Return: false if the result would not fit */
static inline bool round_up_checked(uint64_t n, uint64_t to, uint64_t *outp)
{
	if (__builtin_add_overflow(n, to - 1, &n))
		return false;
	*outp = n & ~(to - 1);
	return true;
}
