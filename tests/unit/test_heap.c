// SPDX-License-Identifier: MIT
/* What heaps do to slots: step by step, by random steps, over a hostile segment, and by threads. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "heap_world.h"
#include "tests/lib/rnd.h"

#define N_LIVE 4000u

/* ---- single steps ---- */

static void test_alloc_gives_a_live_slot_of_its_class(void **state)
{
	struct setting *s = *state;

	for (uint64_t size = 1; size <= SIZE_CLASS_BYTES_MAX / 8; size += size / 3 + 1) {
		uint64_t offset = alloc(s, 1, size), bytes = 0, session = 0;

		assert_int_not_equal(offset, 0);
		assert_int_equal(word_at(s, offset), lease_live_of(1));
		assert_int_equal(heap_look(&s->heaps[1], offset, &bytes, &session), 0);
		assert_int_equal(bytes, size_class_bytes(size_class_of(size)));
		assert_int_equal(session, 101);
		assert_int_equal(grantor_free(&s->heaps[1], offset), 0);
		assert_int_equal(word_at(s, offset), lease_cached_by(1));
		assert_int_equal(alloc(s, 1, size), offset); /* the warm one first */
		assert_int_equal(grantor_free(&s->heaps[1], offset), 0);
	}
}

static void test_class_table_is_size_class(void **state)
{
	(void)state;
	for (uint64_t size = 1; size <= SIZE_CLASS_CUT_MAX; size++)
		assert_int_equal(heap_class_of(size), size_class_of(size));
}

static void test_free_twice_is_already(void **state)
{
	struct setting *s = *state;
	uint64_t small = alloc(s, 1, 64), large = alloc(s, 1, 100000);

	assert_int_equal(grantor_free(&s->heaps[1], small), 0);
	assert_int_equal(grantor_free(&s->heaps[1], small), -EALREADY);
	assert_int_equal(grantor_free(&s->heaps[2], small), -EALREADY);
	assert_int_equal(grantor_free(&s->heaps[1], large), 0);
	assert_int_equal(grantor_free(&s->heaps[1], large), -EALREADY);
	heap_flush(&s->heaps[1]);
	assert_int_equal(word_at(s, small), LEASE_FREE);
	assert_int_equal(grantor_free(&s->heaps[1], small), -EALREADY);
	assert_int_equal(grantor_free(&s->heaps[2], large), -EALREADY);
}

static void test_free_of_another_heaps_block_keeps_the_slot(void **state)
{
	struct setting *s = *state;
	uint64_t small = alloc(s, 1, 64), large = alloc(s, 1, 100000);

	assert_int_equal(grantor_free(&s->heaps[2], small), 0);
	assert_int_equal(word_at(s, small), lease_cached_by(2));
	assert_int_equal(alloc(s, 2, 64), small);
	assert_int_equal(grantor_free(&s->heaps[2], large), 0);
	assert_int_equal(word_at(s, large), lease_cached_by(2));
	assert_int_equal(alloc(s, 2, 100000), large);
	assert_int_equal(grantor_free(&s->heaps[1], small), 0);
	assert_int_equal(grantor_free(&s->heaps[1], large), 0);
}

static void test_the_last_popped_is_freed_once(void **state)
{
	struct setting *s = *state;
	uint64_t first = alloc(s, 1, 64), last = alloc(s, 1, 64);

	assert_int_equal(grantor_free(&s->heaps[1], last), 0);
	assert_int_equal(grantor_free(&s->heaps[1], last), -EALREADY);
	assert_int_equal(grantor_free(&s->heaps[1], first), 0); /* lies where the last lay */
	assert_int_equal(grantor_free(&s->heaps[1], last), -EALREADY);
	last = alloc(s, 1, 64);
	assert_int_equal(last, first);
	assert_int_equal(grantor_free(&s->heaps[2], last), 0);
	assert_int_equal(grantor_free(&s->heaps[1], last), -EALREADY);
	assert_int_equal(word_at(s, last), lease_cached_by(2));
	last = alloc(s, 1, 64);
	heap_flush(&s->heaps[1]);
	assert_int_equal(grantor_free(&s->heaps[1], last), 0);
	assert_int_equal(word_at(s, last), lease_cached_by(1));
}

/* Of an eighth of the pool, a quarter goes at once. */
static void test_the_daemon_is_told_of_many_empty_slabs_only(void **state)
{
	struct setting *s = *state;
	uint64_t live[N_LIVE], few = DATA_BYTES / 16, bytes = 0, slot_bytes = size_class_bytes(size_class_of(4096));
	uint32_t ids[HEAP_RETURNS], n;

	for (uint64_t n_bytes = few; n_bytes <= 4 * few; n_bytes += 3 * few) {
		for (uint64_t i = 0; i < n_bytes / slot_bytes; i++) {
			live[i] = alloc(s, 1, 4096);
			assert_int_not_equal(live[i], 0);
		}
		for (uint64_t i = 0; i < n_bytes / slot_bytes; i++)
			assert_int_equal(grantor_free(&s->heaps[1], live[i]), 0);
		heap_flush(&s->heaps[1]);
		n = heap_returns(&s->heaps[1], ids);
		assert_int_equal(n != 0, n_bytes > few);
	}
	for (uint32_t i = 0; i < n; i++) {
		bytes += slots_of(size_class_of(4096)) * slot_bytes;
		assert_true(grantor_recall(&s->grantor, ids[i]));
	}
	assert_in_range(bytes, slot_bytes,
			4 * few - DATA_BYTES / 8 * 3 / 4 + slots_of(size_class_of(4096)) * slot_bytes);
	assert_int_equal(heap_returns(&s->heaps[1], ids), 0);
}

static void test_free_of_what_is_no_slot(void **state)
{
	struct setting *s = *state;
	uint64_t offset = alloc(s, 1, 80), id_base;
	uint32_t id;

	assert_non_null(grantor_word(&s->grantor, offset, &id));
	id_base = s->grantor.slabs[id].base;
	for (uint64_t inside = 1; inside < 80; inside++)
		assert_int_equal(grantor_free(&s->heaps[1], offset + inside), -EFAULT);
	/* the tail behind the last slot, and what lies outside every slab */
	for (uint64_t at = id_base + s->grantor.slabs[id].n_slots * UINT64_C(80); at < id_base + 16384; at += 8)
		assert_int_equal(grantor_free(&s->heaps[1], at), -EFAULT);
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t far = UINT64_C(1) << bit;

		if (far < id_base || far >= id_base + 16384)
			assert_int_equal(grantor_free(&s->heaps[1], far), HEAP_E_REQUEST);
		assert_int_equal(grantor_free(&s->heaps[1], DATA_BYTES + far), HEAP_E_REQUEST);
	}
	assert_int_equal(grantor_free(&s->heaps[1], 1), HEAP_E_REQUEST);
	assert_int_equal(grantor_free(&s->heaps[1], UINT64_MAX), HEAP_E_REQUEST);
	assert_int_equal(grantor_free(&s->heaps[1], DATA_BYTES - 1), HEAP_E_REQUEST);
	assert_int_equal(word_at(s, offset), lease_live_of(1));
}

static void test_pinned_and_the_pools_slots_are_the_daemons(void **state)
{
	struct setting *s = *state;
	uint64_t offset = alloc(s, 1, 64), bytes, session;

	assert_true(grantor_swap(&s->grantor, offset, lease_live_of(1), LEASE_PINNED));
	assert_int_equal(grantor_free(&s->heaps[1], offset), HEAP_E_REQUEST);
	assert_int_equal(heap_take(&s->heaps[2], offset, 101), HEAP_E_REQUEST);
	assert_int_equal(heap_look(&s->heaps[1], offset, &bytes, &session), HEAP_E_REQUEST);
	assert_true(grantor_swap(&s->grantor, offset, LEASE_PINNED, LEASE_POOLS));
	assert_int_equal(grantor_free(&s->heaps[2], offset), HEAP_E_REQUEST);
	assert_int_equal(word_at(s, offset), LEASE_POOLS);
}

static void test_take_wants_the_senders_session(void **state)
{
	struct setting *s = *state;
	uint64_t offset = alloc(s, 1, 64);

	assert_int_equal(heap_take(&s->heaps[2], offset, 103), -ESTALE);
	assert_int_equal(word_at(s, offset), lease_live_of(1));
	assert_int_equal(heap_take(&s->heaps[2], offset, 101), 0);
	assert_int_equal(word_at(s, offset), lease_live_of(2));
	assert_int_equal(heap_take(&s->heaps[2], offset, 102), 0); /* its own already */
	assert_int_equal(heap_take(&s->heaps[3], offset, 101), -ESTALE);
	assert_int_equal(heap_take(&s->heaps[3], offset + 1, 101), -EFAULT);
	assert_int_equal(grantor_free(&s->heaps[2], offset), 0);
	assert_int_equal(heap_take(&s->heaps[3], offset, 102), -EALREADY);
}

static void test_flush_gives_every_slot_back(void **state)
{
	struct setting *s = *state;
	static uint64_t live[2000];

	for (uint32_t i = 0; i < 2000; i++)
		live[i] = alloc(s, 1, 48);
	for (uint32_t i = 0; i < 2000; i++)
		assert_int_equal(grantor_free(&s->heaps[1], live[i]), 0);
	heap_flush(&s->heaps[1]);
	for (uint32_t id = 0; id < s->grantor.n_slabs; id++)
		if (s->grantor.slabs[id].is_slab)
			assert_true(grantor_recall(&s->grantor, id));
	/* what it still remembers of them is gone: other classes and heaps get the ids */
	assert_int_not_equal(alloc(s, 2, 1000), 0);
	assert_int_not_equal(alloc(s, 1, 48), 0);
}

/* The daemon has ended a session that does not know it; another has its slots by now, and in the end its number. */
static void test_a_heap_whose_session_is_over_touches_nothing(void **state)
{
	struct setting *s = *state;
	uint64_t live[200], taken[200], large = alloc(s, 1, 100000), bytes;
	uint32_t size_class = size_class_of(64);

	for (unsigned i = 0; i < N_ELEMENTS(live); i++)
		live[i] = alloc(s, 1, 64);
	for (unsigned i = 0; i < N_ELEMENTS(live) / 2; i++) /* some cached, some live */
		assert_int_equal(grantor_free(&s->heaps[1], live[i]), 0);
	assert_int_equal(grantor_free(&s->heaps[1], large), 0);
	grantor_sweep(&s->grantor, 1);
	for (int reused = 0; reused < 2; reused++) {
		if (reused)
			grantor_open(&s->grantor, 1, 201);
		for (unsigned i = 0; i < N_ELEMENTS(taken) / 2; i++) /* orphans first: the same slots */
			taken[i] = alloc(s, 2, 64);
		heap_flush(&s->heaps[1]);
		while (heap_pop(&s->heaps[1], size_class))
			fail_msg("a heap that is over hands out a slot");
		assert_int_equal(heap_alloc(&s->heaps[1], size_class, &bytes), HEAP_E_REQUEST);
		assert_int_equal(heap_alloc(&s->heaps[1], size_class_of(100000), &bytes), HEAP_E_REQUEST);
		assert_int_equal(heap_free(&s->heaps[1], taken[0]), HEAP_E_REQUEST);
		assert_int_equal(heap_take(&s->heaps[1], taken[0], 102), HEAP_E_REQUEST);
		heap_refused(&s->heaps[1], size_class);
		assert_int_equal(heap_pop(&s->heaps[1], size_class), 0);
		for (unsigned i = 0; i < N_ELEMENTS(taken) / 2; i++) {
			assert_int_equal(word_at(s, taken[i]), lease_live_of(2));
			assert_int_equal(grantor_free(&s->heaps[2], taken[i]), 0);
		}
	}
}

static void test_a_stopped_heaps_large_slot_can_be_taken_back(void **state)
{
	struct setting *s = *state;
	uint64_t offset = alloc(s, 1, 100000), other;
	uint32_t id;

	assert_int_equal(grantor_free(&s->heaps[1], offset), 0);
	assert_non_null(grantor_word(&s->grantor, offset, &id));
	assert_true(grantor_swap(&s->grantor, offset, lease_cached_by(1), LEASE_FREE));
	assert_true(grantor_recall(&s->grantor, id));
	other = alloc(s, 2, 100000);
	assert_int_equal(other, offset);
	assert_int_not_equal(alloc(s, 1, 100000), offset);
	assert_int_equal(word_at(s, other), lease_live_of(2));
}

/* Its word is another slab's by then, and says again that the slot is this heap's: another slot, of another size. */
static void test_a_large_slot_that_was_taken_back_is_not_found_again_by_its_word(void **state)
{
	struct setting *s = *state;
	uint64_t offset = alloc(s, 1, 100000), small = 0;
	uint32_t id;

	assert_int_equal(grantor_free(&s->heaps[1], offset), 0);
	assert_non_null(grantor_word(&s->grantor, offset, &id));
	assert_true(grantor_swap(&s->grantor, offset, lease_cached_by(1), LEASE_FREE));
	assert_true(grantor_recall(&s->grantor, id));
	for (unsigned i = 0; i < 10000 && small != offset; i++)
		small = alloc(s, 1, 64);
	assert_int_equal(small, offset);
	assert_int_equal(grantor_free(&s->heaps[1], small), 0);
	assert_int_not_equal(alloc(s, 1, 100000), offset);
	assert_int_equal(word_at(s, small), lease_cached_by(1));
	assert_int_equal(alloc(s, 1, 64), small);
}

static void test_pressure_empties_the_magazines(void **state)
{
	struct setting *s = *state;
	uint64_t one = alloc(s, 1, 64), two = alloc(s, 1, 100000);

	assert_int_equal(grantor_free(&s->heaps[1], one), 0);
	assert_int_equal(grantor_free(&s->heaps[1], two), 0);
	lease_hint_raise(&s->grantor.map.header->pressure);
	assert_int_not_equal(alloc(s, 1, 2000), 0); /* the next slow path */
	assert_int_equal(word_at(s, one), LEASE_FREE);
	assert_int_equal(word_at(s, two), LEASE_FREE);
}

static void test_a_destroyed_pool_is_stale(void **state)
{
	struct setting *s = *state;
	uint64_t offset;

	atomic_fetch_or(&s->grantor.map.header->flags, LEASE_DESTROYED);
	assert_int_equal(heap_alloc(&s->heaps[1], 3, &offset), -ESTALE);
}

/* ---- random sequences against a naive model ---- */

struct block {
	uint64_t offset, size;
	uint32_t heap;
};

/* No two live blocks overlap, each word says what the model says, and every C(k) is in k's magazine once. */
static void check(struct setting *s, const struct block *blocks, uint32_t n_blocks)
{
	uint32_t n_live = 0, n_cached = 0, n_words_live = 0, n_words_cached = 0;

	for (uint32_t i = 0; i < n_blocks; i++) {
		if (!blocks[i].offset)
			continue;
		n_live++;
		assert_int_equal(word_at(s, blocks[i].offset), lease_live_of(blocks[i].heap));
	}
	for (uint32_t k = 1; k <= N_HEAPS; k++) {
		uint64_t large = 0;

		for (uint32_t class = 0; class < SIZE_CLASS_N; class ++) {
			const struct magazine *m = &s->heaps[k].magazines[class];

			for (const struct heap_slot *slot = m->bottom; slot != m->top; slot++, n_cached++) {
				assert_int_equal(word_at(s, slot->offset), lease_cached_by(k));
				assert_int_equal(atomic_load(slot->word), lease_cached_by(k));
				large += class >= SIZE_CLASS_CUT_N ? size_class_bytes(class) : 0;
			}
		}
		assert_int_equal(large, s->heaps[k].large_bytes);
		assert_true(large <= s->heaps[k].large_limit + SIZE_CLASS_BYTES_MAX);
	}
	for (uint32_t id = 0; id < s->grantor.n_slabs; id++) {
		const struct grantor_slab *slab = &s->grantor.slabs[id];

		for (uint32_t i = 0; slab->is_slab && i < slab->n_slots; i++) {
			uint16_t word = atomic_load(&s->grantor.map.words[slab->first_word + i]);

			n_words_live += lease_is_live(word);
			n_words_cached += lease_is_cached(word) && word != LEASE_FREE;
			assert_true(lease_is_live(word) || lease_is_cached(word));
		}
		assert_int_equal(lease_custody_peek(&s->grantor.map.slabs[id].custody),
				 slab->is_slab ? LEASE_IDLE : LEASE_DAEMON);
	}
	/* equal numbers, each of the one found in the other: the same sets, and nothing twice */
	assert_int_equal(n_live, n_words_live);
	assert_int_equal(n_cached, n_words_cached);
}

static uint64_t random_size(struct rnd *rnd)
{
	return rnd_below(rnd, 40) ? rnd_log(rnd, 1, 2048) : rnd_log(rnd, 1, 200000);
}

static void random_step(struct setting *s, struct rnd *rnd, struct block *blocks)
{
	struct block *block = &blocks[rnd_below(rnd, N_LIVE)];
	uint32_t k = 1 + (uint32_t)rnd_below(rnd, N_HEAPS);

	switch (rnd_below(rnd, 100)) {
	case 0 ... 1:
		heap_flush(&s->heaps[k]);
		break;
	case 2 ... 4:
		(void)grantor_recall(&s->grantor, (uint32_t)rnd_below(rnd, s->grantor.n_slabs));
		break;
	case 5: /* k dies, and its number begins anew */
		heap_deinit(&s->heaps[k]);
		grantor_sweep(&s->grantor, k);
		for (uint32_t i = 0; i < N_LIVE; i++)
			if (blocks[i].heap == k)
				blocks[i] = (struct block){0};
		grantor_open(&s->grantor, k, 100 + k);
		heap_init(&s->heaps[k], &s->grantor.map, k, DATA_BYTES);
		break;
	case 6 ... 10:
		if (block->offset) {
			assert_int_equal(heap_take(&s->heaps[k], block->offset, 100 + block->heap), 0);
			block->heap = k;
		}
		break;
	case 11 ... 12:
		lease_hint_raise(&s->grantor.map.header->pressure);
		break;
	default:
		if (block->offset) {
			uint32_t by = rnd_below(rnd, 3) ? block->heap : k;

			assert_int_equal(grantor_free(&s->heaps[by], block->offset), 0);
			assert_int_equal(grantor_free(&s->heaps[k], block->offset), -EALREADY);
			*block = (struct block){0};
		} else {
			uint64_t size = random_size(rnd), offset = alloc(s, k, size);

			if (offset)
				*block = (struct block){offset, size, k};
		}
	}
}

static void test_random_steps_keep_the_books(void **state)
{
	static struct block blocks[N_LIVE];
	struct rnd rnd;

	rnd_init(&rnd, rnd_seed_from_env_or_time());
	memset(blocks, 0, sizeof(blocks));
	for (uint32_t i = 0; i < 200000; i++) {
		random_step(*state, &rnd, blocks);
		if (i % 512 < 4) /* all is read: not after each of so many */
			check(*state, blocks, N_LIVE);
	}
	check(*state, blocks, N_LIVE);
}

/* Few slots and heaps, so that every step can be followed by a look at everything. */
static void test_random_steps_keep_the_books_each(void **state)
{
	static struct block blocks[N_LIVE];
	struct rnd rnd;

	rnd_init(&rnd, rnd_seed_from_env_or_time());
	memset(blocks, 0, sizeof(blocks));
	for (uint32_t i = 0; i < 3000; i++) {
		random_step(*state, &rnd, blocks);
		check(*state, blocks, N_LIVE);
	}
}

/* ---- a hostile segment ---- */

/* The guard page behind the segment and the sanitizers see what goes outside. */
static void test_random_bytes_crash_nothing(void **state)
{
	struct setting *s = *state;
	struct rnd rnd;
	uint64_t from = s->grantor.map.header->heaps_at;

	rnd_init(&rnd, rnd_seed_from_env_or_time());
	for (uint32_t round = 0; round < 40; round++) {
		uint64_t offsets[64] = {0};

		for (uint32_t i = 0; i < 20000; i++) {
			uint32_t k = 1 + (uint32_t)rnd_below(&rnd, N_HEAPS),
				 class = (uint32_t)rnd_below(&rnd, SIZE_CLASS_N);
			uint64_t *offset = &offsets[rnd_below(&rnd, 64)];
			uint64_t at = from + rnd_below(&rnd, s->grantor.n_bytes - from - 8), junk = rnd_next(&rnd);
			uint32_t id = (uint32_t)junk;

			if (round % 2) /* small numbers go further */
				junk &= UINT64_C(0x00ff000f00ff000f);
			memcpy(s->grantor.base + at, &junk, 1 + rnd_below(&rnd, 8));
			if (!rnd_below(&rnd, 4))
				memcpy(&s->grantor.map.slabs[rnd_below(&rnd, 8)], &junk, 8);
			switch (rnd_below(&rnd, 8)) {
			case 0:
				heap_grant(&s->heaps[k], class, 1, &id);
				id %= s->grantor.n_slabs;
				heap_grant(&s->heaps[k], class, 1, &id);
				break;
			case 1:
				(void)!heap_take(&s->heaps[k], rnd_below(&rnd, DATA_BYTES), rnd_below(&rnd, 104));
				break;
			case 2:
				(void)!heap_free(&s->heaps[k],
						 rnd_below(&rnd, 2) ? rnd_next(&rnd) : rnd_below(&rnd, DATA_BYTES));
				break;
			case 3:
				heap_flush(&s->heaps[k]);
				heap_refused(&s->heaps[k], class);
				break;
			case 4:
				lease_custody_give(&s->grantor.map.slabs[rnd_below(&rnd, s->grantor.n_slabs)].custody);
				break;
			case 5:
				(void)grantor_free(&s->heaps[k], *offset);
				*offset = 0;
				break;
			default:
				*offset = grantor_alloc(&s->grantor, &s->heaps[k], class, slots_of(class));
				assert_true(*offset < DATA_BYTES);
			}
		}
	}
}

static void test_a_bad_header_is_refused(void **state)
{
	struct setting *s = *state;
	struct lease_header good = *s->grantor.map.header, *header = s->grantor.map.header;
	struct lease_map map;
	struct rnd rnd;

	rnd_init(&rnd, rnd_seed_from_env_or_time());
	assert_int_equal(lease_map_attach(&map, s->grantor.base, s->grantor.n_bytes), 0);
	assert_int_equal(lease_map_attach(&map, s->grantor.base, s->grantor.n_bytes - LEASE_PAGE_BYTES), -EPROTO);
	assert_int_equal(lease_map_attach(&map, s->grantor.base, 64), -EPROTO);
	for (uint32_t i = 0; i < 100000; i++) {
		uint64_t junk = rnd_log(&rnd, 1, UINT64_MAX / 2);

		memcpy((uint8_t *)header + rnd_below(&rnd, sizeof(*header) - 8), &junk, 8);
		if (!lease_map_attach(&map, s->grantor.base, s->grantor.n_bytes)) { /* then all of it lies inside */
			assert_true((uint8_t *)(map.heaps + map.n_heaps) <= s->grantor.base + s->grantor.n_bytes);
			assert_true((uint8_t *)(map.pages + lease_map_pages(&map)) <=
				    s->grantor.base + s->grantor.n_bytes);
			assert_true((uint8_t *)(map.slabs + map.n_slabs) <= s->grantor.base + s->grantor.n_bytes);
			assert_true((uint8_t *)(map.words + map.n_words) <= s->grantor.base + s->grantor.n_bytes);
		}
		memcpy(header, &good, sizeof(good));
	}
}

/* ---- threads ---- */

#define N_MAIL 512u

struct worker {
	struct setting *setting;
	uint32_t heap;
	uint64_t seed;
	uint64_t n_done;
	bool failed;
};

static _Atomic uint64_t mail[N_MAIL]; /* blocks on their way to whoever takes them out */
static pthread_mutex_t grantor = PTHREAD_MUTEX_INITIALIZER;
static uint32_t *stamps; /* [DATA_BYTES / 16]: by the holder of the block alone; TSan sees two */

static uint64_t alloc_locked(struct worker *worker, uint32_t size_class)
{
	struct heap *heap = &worker->setting->heaps[worker->heap];
	uint64_t offset = heap_pop(heap, size_class);
	uint32_t id, n;

	if (offset)
		return offset;
	if (!heap_alloc(heap, size_class, &offset))
		return offset;
	n = heap_wants(heap, size_class);
	if (n) {
		pthread_mutex_lock(&grantor);
		id = grantor_grant(&worker->setting->grantor, worker->heap, size_class, slots_of(size_class));
		pthread_mutex_unlock(&grantor);
		if (id == UINT32_MAX)
			heap_refused(heap, size_class);
		else
			heap_grant(heap, size_class, 1, &id);
	}
	return heap_alloc(heap, size_class, &offset) ? 0 : offset;
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct rnd rnd;

	rnd_init(&rnd, worker->seed);
	for (uint32_t i = 0; i < 100000 && !worker->failed; i++) {
		uint64_t mine = rnd_below(&rnd, 8) ? alloc_locked(worker, (uint32_t)rnd_below(&rnd, 24)) : 0, other;

		if (mine) {
			stamps[mine / 16]++;
			worker->n_done++;
		}
		other = atomic_exchange_explicit(&mail[rnd_below(&rnd, N_MAIL)], mine, memory_order_acq_rel);
		if (other) {
			stamps[other / 16]++;
			worker->failed |= grantor_free(&worker->setting->heaps[worker->heap], other) != 0;
		}
		if (!rnd_below(&rnd, 2000))
			heap_flush(&worker->setting->heaps[worker->heap]);
		if (!rnd_below(&rnd, 500)) {
			pthread_mutex_lock(&grantor);
			(void)grantor_recall(&worker->setting->grantor, (uint32_t)rnd_below(&rnd, 128));
			pthread_mutex_unlock(&grantor);
		}
	}
	return NULL;
}

static void test_threads_share_a_pool(void **state)
{
	struct setting *s = *state;
	struct worker workers[N_HEAPS];
	pthread_t threads[N_HEAPS];
	struct block none[1] = {{0}};
	uint64_t seed = rnd_seed_from_env_or_time();

	stamps = calloc(DATA_BYTES / 16, sizeof(*stamps));
	assert_non_null(stamps);
	for (uint32_t i = 0; i < N_HEAPS; i++) {
		workers[i] = (struct worker){.setting = s, .heap = i + 1, .seed = seed + i};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (uint32_t i = 0; i < N_HEAPS; i++) {
		pthread_join(threads[i], NULL);
		assert_false(workers[i].failed);
		assert_int_not_equal(workers[i].n_done, 0);
	}
	for (uint32_t i = 0; i < N_MAIL; i++)
		if (mail[i])
			assert_int_equal(grantor_free(&s->heaps[1], mail[i]), 0);
	memset((void *)mail, 0, sizeof(mail));
	check(s, none, 1);
	for (uint32_t k = 1; k <= N_HEAPS; k++)
		heap_flush(&s->heaps[k]);
	for (uint32_t id = 0; id < s->grantor.n_slabs; id++)
		if (s->grantor.slabs[id].is_slab)
			assert_true(grantor_recall(&s->grantor, id));
	free(stamps);
}

/* A block, from a thread that has used it to one that gets it next. */
struct relay {
	struct setting *setting;
	uint64_t offset;
	uint32_t stamp;
	_Atomic bool is_given; /* relaxed: it orders nothing, so that TSan sees whether the words do */
};

static void *use_and_give(void *arg)
{
	struct relay *relay = arg;
	struct heap *heap = &relay->setting->heaps[1];

	relay->stamp++;
	if (grantor_free(heap, relay->offset))
		return relay;
	heap_flush(heap);
	atomic_store_explicit(&relay->is_given, true, memory_order_relaxed);
	return NULL;
}

static void relay_block(struct setting *s, uint32_t bytes)
{
	struct relay relay = {.setting = s, .offset = alloc(s, 1, bytes)};
	uint32_t size_class = size_class_of(bytes), id;
	uint64_t got = 0;
	pthread_t thread;
	void *failed;

	assert_non_null(grantor_word(&s->grantor, relay.offset, &id));
	heap_grant(&s->heaps[2], size_class, 1, &id); /* it does no harm: custody is anybody's */
	assert_int_equal(pthread_create(&thread, NULL, use_and_give, &relay), 0);
	while (!atomic_load_explicit(&relay.is_given, memory_order_relaxed))
		sched_yield();
	for (unsigned i = 0; i < slots_of(size_class) && got != relay.offset; i++)
		assert_int_equal(heap_alloc(&s->heaps[2], size_class, &got), 0);
	assert_int_equal(got, relay.offset);
	relay.stamp++; /* of who has it now */
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	assert_int_equal(relay.stamp, 2);
}

static void test_words_order_what_is_done_to_their_slots(void **state)
{
	relay_block(*state, 64);     /* given by a store, */
	relay_block(*state, 100000); /* and by a CAS */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HEAP_TEST(test_alloc_gives_a_live_slot_of_its_class),
		HEAP_TEST(test_class_table_is_size_class),
		HEAP_TEST(test_free_twice_is_already),
		HEAP_TEST(test_free_of_another_heaps_block_keeps_the_slot),
		HEAP_TEST(test_the_last_popped_is_freed_once),
		HEAP_TEST(test_the_daemon_is_told_of_many_empty_slabs_only),
		HEAP_TEST(test_free_of_what_is_no_slot),
		HEAP_TEST(test_pinned_and_the_pools_slots_are_the_daemons),
		HEAP_TEST(test_take_wants_the_senders_session),
		HEAP_TEST(test_flush_gives_every_slot_back),
		HEAP_TEST(test_a_heap_whose_session_is_over_touches_nothing),
		HEAP_TEST(test_a_stopped_heaps_large_slot_can_be_taken_back),
		HEAP_TEST(test_a_large_slot_that_was_taken_back_is_not_found_again_by_its_word),
		HEAP_TEST(test_pressure_empties_the_magazines),
		HEAP_TEST(test_a_destroyed_pool_is_stale),
		HEAP_TEST(test_random_steps_keep_the_books),
		HEAP_TEST(test_random_steps_keep_the_books_each),
		HEAP_TEST(test_random_bytes_crash_nothing),
		HEAP_TEST(test_a_bad_header_is_refused),
		HEAP_TEST(test_words_order_what_is_done_to_their_slots),
		HEAP_TEST(test_threads_share_a_pool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
