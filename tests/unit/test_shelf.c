// SPDX-License-Identifier: MIT
/* Slabs that a heap was granted: which it looks into, and which it forgets. */
#include "heap_world.h"

static void test_slots_flushed_by_another_are_found_again(void **state)
{
	struct setting *s = *state;
	uint32_t n_slabs = 0, n_after = 0;
	static uint64_t live[2000];

	for (uint32_t round = 0; round < 50; round++) { /* 1 allocates, 2 frees */
		for (uint32_t i = 0; i < 2000; i++) {
			live[i] = alloc(s, 1, 64);
			assert_int_not_equal(live[i], 0);
		}
		for (uint32_t i = 0; i < 2000; i++)
			assert_int_equal(grantor_free(&s->heaps[2], live[i]), 0);
		for (uint32_t id = 0, *n = round ? &n_after : &n_slabs; id < s->grantor.n_slabs; id++)
			*n = id ? *n + s->grantor.slabs[id].is_slab : s->grantor.slabs[id].is_slab;
	}
	assert_in_range(n_after, n_slabs, n_slabs * 2); /* not more each round */
}

static uint32_t recall_all(struct setting *s)
{
	uint32_t n = 0;

	for (uint32_t id = 0; id < s->grantor.n_slabs; id++)
		n += grantor_recall(&s->grantor, id);
	return n;
}

/* The ids come back, to this heap and others, in this class and others: what a heap knows of is no more for that. */
static void test_a_shelf_keeps_no_recalled_slabs(void **state)
{
	struct setting *s = *state;
	static uint64_t live[2][1000];
	uint32_t n_most = 0, classes[] = {size_class_of(64), size_class_of(512)};

	for (uint32_t round = 0; round < 500; round++) {
		uint32_t n;

		for (uint32_t i = 0; i < N_ELEMENTS(live[0]); i++) {
			live[0][i] = alloc(s, 1 + round % 2, round % 3 ? 64 : 512);
			live[1][i] = alloc(s, 2 - round % 2, 64);
			assert_true(live[0][i] && live[1][i]);
		}
		for (uint32_t i = 0; i < N_ELEMENTS(live[0]); i++) {
			assert_int_equal(grantor_free(&s->heaps[1 + round % 2], live[0][i]), 0);
			assert_int_equal(grantor_free(&s->heaps[2 - round % 2], live[1][i]), 0);
		}
		heap_flush(&s->heaps[1]);
		heap_flush(&s->heaps[2]);
		n = recall_all(s);
		assert_int_not_equal(n, 0);
		n_most = n > n_most ? n : n_most;
	}
	for (uint32_t k = 1; k <= 2; k++)
		for (uint32_t i = 0; i < N_ELEMENTS(classes); i++)
			assert_in_range(s->heaps[k].shelves[classes[i]].n_slabs, 1, 2 * n_most);
}

/* Recalled and granted again before the heap has looked: it cannot know, and yet does not gather them. */
static void test_a_shelf_has_a_slab_that_is_granted_again_once(void **state)
{
	struct setting *s = *state;
	uint32_t size_class = size_class_of(64), id = grantor_grant(&s->grantor, 1, size_class, slots_of(size_class));

	for (uint32_t i = 0; i < 10000; i++) {
		heap_grant(&s->heaps[1], size_class, 1, &id);
		assert_true(grantor_recall(&s->grantor, id));
		assert_int_equal(grantor_grant(&s->grantor, 1, size_class, slots_of(size_class)), id);
	}
	assert_in_range(s->heaps[1].shelves[size_class].n_slabs, 1, 4);
	assert_int_not_equal(alloc(s, 1, 64), 0);
}

static void test_zero_words_are_never_taken(void **state)
{
	struct setting *s = *state;
	uint32_t id = grantor_grant(&s->grantor, 1, 3, 64);
	uint64_t offset;

	for (uint32_t i = 0; i < 64; i++)
		atomic_store(&s->grantor.map.words[s->grantor.slabs[id].first_word + i], 0);
	heap_grant(&s->heaps[1], 3, 1, &id);
	assert_int_equal(heap_alloc(&s->heaps[1], 3, &offset), HEAP_E_EMPTY);
	assert_int_equal(grantor_free(&s->heaps[1], s->grantor.slabs[id].base), HEAP_E_REQUEST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HEAP_TEST(test_slots_flushed_by_another_are_found_again),
		HEAP_TEST(test_a_shelf_keeps_no_recalled_slabs),
		HEAP_TEST(test_a_shelf_has_a_slab_that_is_granted_again_once),
		HEAP_TEST(test_zero_words_are_never_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
