#pragma once
// SPDX-License-Identifier: MIT
/*
 * size_class - rounded block sizes: what both sides take a size for
 *
 * 16 bytes apart up to 128; then eight to each doubling, so that at most an eighth of a slot is wasted. Classes up to
 * SIZE_CLASS_CUT_MAX are cut from slabs of many slots; larger ones are slabs of one.
 */
#include <stddef.h>
#include <stdint.h>

#define SIZE_CLASS_N	     128u
#define SIZE_CLASS_BYTES_MAX (UINT64_C(4) << 20) /* of the largest class */
#define SIZE_CLASS_CUT_MAX   (UINT64_C(32) << 10)
#define SIZE_CLASS_CUT_N     72u /* classes of slots up to that */

/** size_class_of() - the smallest class whose slots hold @size bytes; @size: 1 .. SIZE_CLASS_BYTES_MAX */
static inline uint32_t size_class_of(uint64_t size)
{
	uint64_t last = size - 1;
	unsigned exponent;

	if (size <= 128)
		return (uint32_t)(last >> 4);
	exponent = 63u - (unsigned)__builtin_clzll(last);
	return 8u + (exponent - 7u) * 8u + (uint32_t)(last >> (exponent - 3u) & 7u);
}

/** size_class_bytes() - of a slot; @size_class: 0 .. SIZE_CLASS_N - 1 */
static inline uint64_t size_class_bytes(uint32_t size_class)
{
	unsigned exponent;

	if (size_class < 8)
		return (size_class + 1u) * UINT64_C(16);
	exponent = 7u + (size_class - 8u) / 8u;
	return (UINT64_C(1) << exponent) + (((size_class - 8u) % 8u + 1u) * (UINT64_C(1) << (exponent - 3u)));
}
