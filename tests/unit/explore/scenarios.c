// SPDX-License-Identifier: MIT
/*
 * explore [SCENARIO]: all interleavings of all scenarios, or of one. Exit: 0: nothing is wrong in any; 1: something was found
 *
 * MEMPOOL_TEST_WITHOUT=RULE leaves a rule of the protocol out, by its number in enum lease_rule: then something must be found.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "explore.h"

enum { /* actors, and clients */
	A,
	B,
	C,
	D = C /* who only asks for what the daemon does by itself */
};

static bool a_is_over(void)
{
	return search_is_over(A);
}

static bool b_is_over(void)
{
	return search_is_over(B);
}

static bool d_is_over(void)
{
	return search_is_over(D);
}

/* Custody is open to any heap: one that has been told of a slab, by a grant of earlier. */
static void know(int client, uint32_t size_class, uint32_t id)
{
	heaps_grant(client, size_class, 1, &id);
}

/* Slab 0 is A's, B knows it, too. */
static void prepare_slab(void)
{
	act_lease(A, SMALL);
	know(B, SMALL, 0);
}

/* And a block of A's, of which B knows. */
static void prepare_block(void)
{
	act_lease(A, SMALL);
	truth.mail[0] = act_alloc(A, SMALL);
	know(B, SMALL, 0);
}

/* And two of them, by heaps that have had slots before and so have room for more: the short way of a free. */
static void prepare_warm(void)
{
	act_lease(A, SMALL);
	know(B, SMALL, 0);
	act_free(B, act_alloc(B, SMALL));
	act_flush(B);
	truth.mail[0] = act_alloc(A, SMALL);
	truth.mail[1] = act_alloc(A, SMALL);
	act_flush(A);
}

static void recall(void)
{
	daemon_recall(0, true);
}

static void end_a(void)
{
	search_wait(a_is_over);
	act_leave(A);
}

static void end_b(void)
{
	search_wait(b_is_over);
	act_leave(B);
}

/* ---- owner, foreign freer, recall ---- */

static void alloc_free(int client)
{
	act_free(client, act_alloc(client, SMALL));
}

static void a_alloc_free_flush(void)
{
	alloc_free(A);
	act_flush(A);
}

static void b_free_flush(void)
{
	act_free(B, truth.mail[0]);
	act_flush(B);
}

/* ---- refill, flush, recall; the id comes back ---- */

static void a_refill(void)
{
	uint64_t one = act_alloc(A, SMALL), two = act_alloc(A, SMALL);

	act_free(A, one);
	act_free(A, two);
}

static void b_refill(void)
{
	alloc_free(B);
}

static void b_other_shape(void)
{
	act_lease_alloc(B, OTHER);
}

static void a_free_flush(void)
{
	act_free(A, truth.mail[0]);
	act_flush(A);
}

static void b_free_other_flush(void)
{
	act_free(B, truth.mail[1]);
	act_flush(B);
}

/* ---- death ---- */

static void d_end_a_recall(void)
{
	end_a();
	recall();
}

static void b_take_free(void)
{
	if (!act_take(B, truth.mail[0], A))
		act_free(B, truth.mail[0]);
}

static void b_take(void)
{
	(void)!act_take(B, truth.mail[0], A);
}

static void b_free(void)
{
	act_free(B, truth.mail[0]);
}

static void a_flush(void)
{
	act_flush(A);
}

/* A program may free what it has not taken only if the owner lives until it has: here, until the free has seen the word. */
static bool b_has_seen(void)
{
	return !search_is_in_operation(B) || !strcmp(search_next(B), "word swap");
}

static bool a_may_end(void)
{
	return search_is_over(A) && b_has_seen();
}

static void c_end_a_begin_later(void)
{
	search_wait(a_may_end);
	act_leave(A);
	act_new_heap(C);
	act_lease_alloc(C, SMALL);
}

static void c_end_a_and_begin(void)
{
	end_a();
	act_new_heap(C);
	act_lease_alloc(C, SMALL);
}

/* ---- requests ---- */

static void a_retain_free(void)
{
	if (!act_retain(A, truth.mail[0]))
		act_free(A, truth.mail[0]);
}

static void c_free_by_request(void)
{
	act_free_by_request(C, truth.mail[0]);
}

static void b_free_twice(void)
{
	act_free_twice(B, truth.mail[0]);
}

/* A second free that looks at the word only when it is a stranger's is beyond detection. */
static bool b_is_late(void)
{
	return search_is_over(B) || (search_is_in_operation(B) && !strcmp(search_next(B), "word swap"));
}

static void c_free_alloc(void)
{
	act_free_twice(C, truth.mail[0]);
	search_wait(b_is_late);
	act_alloc(C, SMALL);
}

static void prepare_nothing(void)
{
}

static void a_lease(void)
{
	act_free(A, act_lease_alloc(A, SMALL));
}

static void b_lease(void)
{
	act_lease_alloc(B, SMALL);
}

static void a_alloc(void)
{
	act_alloc(A, SMALL);
}

/* ---- large ones ---- */

static void prepare_large(void)
{
	act_lease(A, LARGE);
	act_free(A, act_alloc(A, LARGE));
}

static void a_large(void)
{
	act_free(A, act_alloc(A, LARGE));
	act_free(A, act_alloc(A, LARGE));
}

static void a_large_keep(void)
{
	act_alloc(A, LARGE);
}

/* Two slabs, whose slots the heap has in its magazine: as many as it may. */
static void prepare_two_large(void)
{
	uint64_t one, two;

	act_lease(A, LARGE);
	act_lease(A, LARGE);
	one = act_alloc(A, LARGE);
	two = act_alloc(A, LARGE);
	act_free(A, one);
	act_free(A, two);
}

/* And one more that is live. */
static void prepare_three_large(void)
{
	uint64_t one, two;

	act_lease(A, LARGE);
	act_lease(A, LARGE);
	act_lease(A, LARGE);
	truth.mail[0] = act_alloc(A, LARGE);
	two = act_alloc(A, LARGE);
	one = act_alloc(A, LARGE);
	act_free(A, one);
	act_free(A, two);
}

static void recall_both(void)
{
	daemon_recall(0, true);
	daemon_recall(1, true);
}

/*
 * The word of a slab that was taken is this heap's again, of another slab. What the heap remembers of the first still lies in its
 * magazine, and leaves it by an alloc, or by a flush of the older half when one more is freed.
 */
static void a_small_large(void)
{
	act_lease(A, SMALL);
	act_alloc(A, SMALL);
	act_alloc(A, LARGE);
}

static void a_small_flush_small(void)
{
	act_lease(A, SMALL);
	act_alloc(A, SMALL);
	act_free(A, truth.mail[0]);
	act_alloc(A, SMALL);
}

static void a_large_again(void)
{
	uint64_t one;

	act_lease(A, LARGE);
	one = act_alloc(A, LARGE);
	act_alloc(A, LARGE);
	act_free(A, one);
	act_alloc(A, LARGE);
}

static void b_large(void)
{
	act_lease_alloc(B, LARGE);
}

static void b_large_later(void)
{
	search_wait(d_is_over);
	act_lease_alloc(B, LARGE);
}

static void d_recall_both_end_a(void)
{
	recall_both();
	end_a();
}

/* ---- damage ---- */

static void prepare_hole(void)
{
	prepare_block();
	truth.has_hole = true;
}

static void d_hole_recall(void)
{
	daemon_zero_words(0);
	recall();
}

static const struct scenario scenarios[] = {
	{"large: alloc, recall, the id in another shape", prepare_large, {a_large, b_other_shape, recall}},
	{"large: alloc, recall", prepare_large, {a_large_keep, NULL, recall}},
	{"large: alloc, two recalled, a word again", prepare_two_large, {a_small_large, NULL, recall_both}},
	{"large: flush, two recalled, a word again", prepare_three_large, {a_small_flush_small, NULL, recall_both}},
	{"large: alloc, two recalled, the class again", prepare_two_large, {a_large_again, NULL, recall_both}},
	{"large: a word again, death",
	 prepare_two_large,
	 {a_small_large, b_large_later, d_recall_both_end_a},
	 .kills = 1u << A},
	{"a hole in the segment", prepare_hole, {NULL, NULL, d_hole_recall}},
	{"owner, foreign free, recall", prepare_block, {a_alloc_free_flush, b_free_flush, recall}},
	{"owner, foreign free, recall, the short way", prepare_warm, {a_free_flush, b_free_other_flush, recall}},
	{"first fill, recall, the id in another shape", prepare_slab, {a_refill, b_other_shape, recall}},
	{"refill, refill, recall", prepare_slab, {a_refill, b_refill, recall}},
	{"flush, refill, recall", prepare_block, {a_free_flush, b_refill, recall}},
	{"death in a refill", prepare_slab, {a_alloc_free_flush, b_refill, d_end_a_recall}, .kills = 1u << A},
	{"death in a flush", prepare_block, {a_free_flush, b_refill, d_end_a_recall}, .kills = 1u << A},
	{"death of a foreign freer", prepare_block, {a_alloc_free_flush, b_free_flush, end_b}, .kills = 1u << B},
	{"death of an owner, the short way", prepare_warm, {a_free_flush, b_free_other_flush, end_a}, .kills = 1u << A},
	{"death of a foreign freer, the short way",
	 prepare_warm,
	 {a_free_flush, b_free_other_flush, end_b},
	 .kills = 1u << B},
	{"take against death", prepare_block, {a_alloc_free_flush, b_take_free, end_a}, .kills = 1u << A},
	{"take against death, blocks outlive",
	 prepare_block,
	 {a_alloc_free_flush, b_take_free, end_a},
	 .kills = 1u << A,
	 .lifetime = 1},
	{"foreign free, death, its number again",
	 prepare_block,
	 {a_flush, b_free, c_end_a_begin_later},
	 .kills = 1u << A,
	 .can_die = b_has_seen},
	{"foreign free the short way, death, its number again",
	 prepare_warm,
	 {a_flush, b_free, c_end_a_begin_later},
	 .kills = 1u << A,
	 .can_die = b_has_seen},
	{"take, death, its number again", prepare_block, {a_flush, b_take, c_end_a_and_begin}, .kills = 1u << A},
	{"retain, foreign free", prepare_block, {a_retain_free, b_free, recall}},
	{"retain, foreign free the short way", prepare_warm, {a_retain_free, b_free, recall}},
	{"retain, foreign free, the daemon killed", prepare_block, {a_retain_free, b_free}, .crashes = 1},
	{"free by request, refill, recall", prepare_block, {a_alloc_free_flush, b_refill, c_free_by_request}},
	{"free by request, the daemon killed", prepare_block, {NULL, b_refill, c_free_by_request}, .crashes = 1},
	{"two foreign frees of one block", prepare_block, {NULL, b_free_twice, c_free_alloc}},
	{"two foreign frees of one block, one the short way", prepare_warm, {NULL, b_free_twice, c_free_alloc}},
	{"leases", prepare_nothing, {a_lease, b_lease, recall}},
	{"leases, the daemon killed", prepare_nothing, {a_lease, b_lease}, .crashes = 1},
	{"refill, recall, the daemon killed twice", prepare_slab, {a_alloc, NULL, recall}, .crashes = 2},
	{"large: a word again, the daemon killed", prepare_two_large, {a_small_large, NULL, recall_both}, .crashes = 1},
	{"large: the class again, the daemon killed",
	 prepare_two_large,
	 {a_large_again, NULL, recall_both},
	 .crashes = 1},
	{"large: alloc, recall, its word again", prepare_two_large, {a_small_large, b_large, recall}},
	{"death, the daemon killed",
	 prepare_block,
	 {a_alloc_free_flush, b_take_free, end_a},
	 .kills = 1u << A,
	 .crashes = 1},
};

int main(int argc, char **argv)
{
	const char *without = getenv("MEMPOOL_TEST_WITHOUT");
	uint64_t n_schedules = 0, n_states = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	lease_test_without = without ? (enum lease_rule)atoi(without) : LEASE_RULE_NONE;
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		struct search_result result;

		if (argc > 1 && strcmp(argv[1], scenarios[i].name))
			continue;
		result = search_run(&scenarios[i]);
		n_schedules += result.n_schedules;
		n_states += result.n_states;
		printf("%-50s %9llu schedules %9llu states %7llu ends, %u steps at most\n", scenarios[i].name,
		       (unsigned long long)result.n_schedules, (unsigned long long)result.n_states,
		       (unsigned long long)result.n_ends, result.n_steps_max);
		if (result.violation)
			return 1;
	}
	printf("%llu schedules, %llu states: nothing found\n", (unsigned long long)n_schedules,
	       (unsigned long long)n_states);
	return 0;
}
