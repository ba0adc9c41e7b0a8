#pragma once
// SPDX-License-Identifier: MIT
/* heap_world - heaps over a lease segment in memory; the daemon's part is played by tests/lib/grantor.c */
#include <string.h>

#include "client/heap.h"
#include "tests/lib/grantor.h"
#include "tests/lib/test.h"

#define DATA_BYTES (UINT64_C(8) << 20)
#define N_HEAPS	   3u

struct setting {
	struct grantor grantor;
	struct heap heaps[N_HEAPS + 1]; /* by number; [0] is nobody */
};

static inline int setup(void **state)
{
	struct setting *setting = malloc(sizeof(*setting));

	assert_non_null(setting);
	grantor_init(&setting->grantor, DATA_BYTES, 128);
	for (uint32_t k = 1; k <= N_HEAPS; k++) {
		grantor_open(&setting->grantor, k, 100 + k);
		memset(&setting->heaps[k], 0xff, sizeof(setting->heaps[k]));
		heap_init(&setting->heaps[k], &setting->grantor.map, k, DATA_BYTES);
	}
	*state = setting;
	return 0;
}

static inline int teardown(void **state)
{
	struct setting *setting = *state;

	for (uint32_t k = 1; k <= N_HEAPS; k++)
		heap_deinit(&setting->heaps[k]);
	grantor_deinit(&setting->grantor);
	free(setting);
	return 0;
}

static inline uint32_t slots_of(uint32_t size_class)
{
	uint64_t n = (16u << 10) / size_class_bytes(size_class);

	return size_class >= SIZE_CLASS_CUT_N ? 1 : n < 4 ? 4 : (uint32_t)n;
}

static inline uint64_t alloc(struct setting *s, uint32_t k, uint64_t size)
{
	uint32_t size_class = size_class_of(size);

	return grantor_alloc(&s->grantor, &s->heaps[k], size_class, slots_of(size_class));
}

static inline uint16_t word_at(struct setting *s, uint64_t offset)
{
	uint32_t id;
	_Atomic uint16_t *word = grantor_word(&s->grantor, offset, &id);

	assert_non_null(word);
	return atomic_load(word);
}

#define HEAP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
