// SPDX-License-Identifier: MIT
/*
 * explore_lease - every interleaving of two heaps and the daemon over one small slab, by the code that is shipped
 *
 * Each access to a word, to custody or to a hint is a point where another may go on, or where a heap's process is killed. Actors are
 * coroutines; a schedule is a list of choices, tried depth first by running it again from the start. What an actor will do depends
 * only on what it has read, so a state is the segment and each actor's history of reads; one seen before is not gone on from.
 *
 * Checked: no slot is handed out while somebody has it, none is freed under its owner, a correct free is never refused, recall
 * takes no slab with a live or cached slot; at the end every word is explained, and custody is nobody's.
 *
 * explore_lease [RULE]: leaves rule number RULE of enum lease_rule out; then it must find a violation. Exit: 0 none, 1 found.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "tests/lib/lease_world.h"

enum lease_rule lease_test_without;

enum {
	A,
	B,
	DAEMON,
	N_ACTORS
};
enum {
	CLASS = 3,
	OTHER_CLASS = 5,
	N_SLOTS = 2,
	STACK_BYTES = 64 << 10,
	N_CHOICES = 512
};

#define SLOT_BYTES 64u

struct actor {
	ucontext_t context; /* where it begins */
	jmp_buf here;	    /* where it has stopped: without the system call of swapcontext() */
	bool is_begun;
	uint8_t *stack;
	const volatile void *at; /* what it will touch when it goes on */
	uint64_t history;
	bool is_done, is_dead;
};

static struct lease_world world;
static struct heap heaps[2];
static uint8_t *pristine;
static struct lease_world pristine_world;
static struct actor actors[N_ACTORS];
static jmp_buf scheduler;
static int current = -1;
static const char *violation;
static uint32_t scenario;

/* What is true whatever the words say. */
static uint8_t owner[N_SLOTS * 2]; /* of each 64 bytes: 1 + actor; 0: nobody */
static uint64_t mail;		   /* A's block for B */
static bool has_swept, has_died, was_recalled;

void lease_test_step(const char *what, const volatile void *at)
{
	(void)what;
	if (current < 0)
		return;
	actors[current].at = at;
	if (!_setjmp(actors[current].here))
		_longjmp(scheduler, 1);
}

static void found(const char *what)
{
	if (!violation)
		violation = what;
}

/* ---- what the actors do ---- */

static void mark(int actor, uint64_t offset, uint32_t bytes)
{
	uint32_t id;

	if (!lease_world_word(&world, offset, &id) || size_class_bytes(world.slabs[id].size_class) != bytes)
		found("a slot was handed out of a slab that is no more");
	for (uint64_t at = offset - world.map.first; at < offset - world.map.first + bytes; at += SLOT_BYTES) {
		if (at / SLOT_BYTES >= sizeof(owner))
			break;
		if (owner[at / SLOT_BYTES])
			found("a slot was handed out while somebody had it");
		owner[at / SLOT_BYTES] = (uint8_t)(1 + actor);
	}
}

static void unmark(uint64_t offset, uint32_t bytes)
{
	for (uint64_t at = offset - world.map.first; at < offset - world.map.first + bytes; at += SLOT_BYTES)
		if (at / SLOT_BYTES < sizeof(owner))
			owner[at / SLOT_BYTES] = 0;
}

static uint64_t alloc(int actor, uint32_t size_class)
{
	uint64_t offset;

	if (heap_alloc(&heaps[actor], size_class, &offset))
		return 0;
	mark(actor, offset, (uint32_t)size_class_bytes(size_class));
	return offset;
}

static void release(int actor, uint64_t offset, uint32_t size_class)
{
	if (!offset)
		return;
	unmark(offset, (uint32_t)size_class_bytes(size_class));
	if (heap_free(&heaps[actor], offset) && !has_died)
		found("a correct free was refused");
}

static void run_a(void)
{
	uint64_t two;

	mail = alloc(A, CLASS); /* from here on B's to free */
	if (scenario == 1) {
		two = alloc(A, CLASS);
		release(A, two, CLASS);
	}
	heap_flush(&heaps[A]);
}

static void run_b(void)
{
	uint64_t got = mail, mine;

	mail = 0;
	if (got) {
		if (owner[(got - world.map.first) / SLOT_BYTES])
			owner[(got - world.map.first) / SLOT_BYTES] = 1 + B;
		if (scenario == 3)
			(void)!heap_take(&heaps[B], got, 100 + A);
		release(B, got, CLASS);
	}
	if (scenario != 3) {
		mine = alloc(B, CLASS);
		release(B, mine, CLASS);
	}
	heap_flush(&heaps[B]);
}

static bool somebody_has(void)
{
	for (uint32_t i = 0; i < sizeof(owner); i++)
		if (owner[i])
			return true;
	return false;
}

static void recall(void)
{
	if (!lease_world_recall(&world, 0))
		return;
	if (somebody_has())
		found("recall took a slab in which somebody has a slot");
	was_recalled = true;
	(void)lease_world_grant(&world, 2, OTHER_CLASS, 1); /* the id comes back with another shape */
}

static void run_daemon(void)
{
	if (scenario == 2 && lease_world_swap(&world, world.map.first, lease_live_of(1), LEASE_PINNED) &&
	    lease_world_swap(&world, world.map.first, LEASE_PINNED, LEASE_FREE))
		unmark(world.map.first, SLOT_BYTES); /* pinned, and its last hold let go */
	recall();
	if (has_died) {
		/* a block lives and dies with the heap that its word names, whoever was told of it */
		for (uint32_t i = 0; i < N_SLOTS; i++) {
			uint32_t id;
			_Atomic uint16_t *word = lease_world_word(&world, world.map.first + i * SLOT_BYTES, &id);

			if (word && atomic_load(word) == lease_live_of(1))
				owner[i] = 0;
		}
		lease_world_sweep(&world, 1);
		has_swept = true;
	}
	recall();
}

/* ---- running a schedule ---- */

static void (*const runs[N_ACTORS])(void) = {run_a, run_b, run_daemon};

static void enter(int actor)
{
	runs[actor]();
	actors[actor].is_done = true;
	actors[actor].at = NULL;
	_longjmp(scheduler, 1);
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 29;
}

static uint64_t observe(const struct actor *actor)
{
	uint16_t word = 0;

	if (actor->at)
		memcpy(&word, (const void *)(uintptr_t)actor->at,
		       sizeof(word)); /* custody's and hints' low half say enough here */
	return word;
}

static void go_on(int actor)
{
	actors[actor].history = mix(actors[actor].history,
				    1 + observe(&actors[actor]) + ((uint64_t)mail << 20) + ((uint64_t)has_died << 60));
	current = actor;
	if (!_setjmp(scheduler)) {
		if (actors[actor].is_begun)
			_longjmp(actors[actor].here, 1);
		actors[actor].is_begun = true;
		setcontext(&actors[actor].context);
	}
	current = -1;
}

static uint64_t state_hash(void)
{
	uint64_t hash = mix(1, mail) ^ mix(2, has_died + 2u * has_swept + 4u * was_recalled);

	for (uint32_t i = 0; i < 4 * LEASE_WORDS_STEP; i++)
		hash = mix(hash, atomic_load_explicit(&world.map.words[i], memory_order_relaxed));
	for (uint32_t i = 0; i < 2; i++) {
		hash = mix(hash, atomic_load(&world.map.slabs[i].custody));
		hash = mix(hash, atomic_load(&world.map.slabs[i].has_free));
		hash = mix(hash, world.map.slabs[i].size_class + world.map.slabs[i].slot_bytes);
		hash = mix(hash, atomic_load(&world.map.heaps[i + 1].n_returned));
	}
	for (uint32_t i = 0; i < sizeof(owner); i++)
		hash = mix(hash, owner[i]);
	for (int i = 0; i < N_ACTORS; i++)
		hash = mix(hash, actors[i].history * 4 + actors[i].is_done + 2u * actors[i].is_dead);
	return hash;
}

static void reset(void)
{
	uint32_t ids[1] = {0};

	memcpy(world.base, pristine, world.n_bytes);
	memcpy(world.page_taken, pristine_world.page_taken, world.n_pages);
	memcpy(world.word_taken, pristine_world.word_taken, world.n_words / LEASE_WORDS_STEP);
	memcpy(world.slabs, pristine_world.slabs, sizeof(world.slabs[0]) * 2);
	for (int k = A; k <= B; k++) {
		heap_deinit(&heaps[k]);
		heap_init(&heaps[k], &world.map, 1 + (uint32_t)k, world.data_bytes);
		heap_grant(&heaps[k], CLASS, 1, ids); /* both know it: custody is open to any heap */
	}
	memset(owner, 0, sizeof(owner));
	mail = 0;
	has_swept = has_died = was_recalled = false;
	violation = NULL;
	for (int i = 0; i < N_ACTORS; i++) {
		uint8_t *stack = actors[i].stack;

		memset(&actors[i], 0, sizeof(actors[i]));
		actors[i].stack = stack;
		getcontext(&actors[i].context);
		actors[i].context.uc_stack.ss_sp = stack;
		actors[i].context.uc_stack.ss_size = STACK_BYTES;
		makecontext(&actors[i].context, (void (*)(void))enter, 1, i);
	}
}

/* All have ended: whatever a word says must be so. */
static void check_end(void)
{
	if (violation)
		return;
	for (uint32_t id = 0; id < 2; id++) {
		const struct world_slab *slab = &world.slabs[id];
		uint32_t custody = atomic_load(&world.map.slabs[id].custody);

		if (slab->is_slab && custody != LEASE_IDLE && (!has_died || has_swept))
			found("custody is stuck");
		for (uint32_t i = 0; slab->is_slab && i < slab->n_slots; i++) {
			uint16_t word = atomic_load(&world.map.words[slab->first_word + i]);
			uint32_t k = lease_heap_of(word);

			if (word == LEASE_FREE || (has_died && !has_swept))
				continue;
			if (!word)
				found("a word is 0");
			else if (has_died && k == 1)
				found("a word names a heap that is dead and swept");
			else if (lease_is_cached(word))
				found("a word says cached, and all magazines are flushed");
		}
	}
}

/* ---- depth first ---- */

#define N_SEEN (1u << 24)
static uint64_t *seen;
static uint64_t n_states, n_schedules;

static bool is_new(uint64_t hash)
{
	uint64_t at = hash % N_SEEN;

	hash |= !hash;
	for (; seen[at]; at = (at + 1) % N_SEEN)
		if (seen[at] == hash)
			return false;
	seen[at] = hash;
	n_states++;
	return true;
}

struct choice {
	uint8_t taken, n;
	uint8_t options[N_ACTORS + 1];
};

static struct choice choices[N_CHOICES];
static uint32_t n_choices;

enum {
	KILL_A = N_ACTORS
};

static void options(struct choice *choice)
{
	*choice = (struct choice){0};
	for (uint8_t i = 0; i < N_ACTORS; i++)
		if (!actors[i].is_done && !actors[i].is_dead)
			choice->options[choice->n++] = i;
	if (scenario == 0 && !actors[A].is_done && !actors[A].is_dead && !actors[DAEMON].is_done)
		choice->options[choice->n++] = KILL_A;
}

static void take(uint8_t option)
{
	if (option != KILL_A) {
		go_on(option);
		return;
	}
	actors[A].is_dead = true;
	has_died = true;
}

/* One schedule: the choices so far again, then the first of each new one, until all is done or a state is known. */
static void run_schedule(uint32_t n_given)
{
	reset();
	n_choices = 0;
	for (;;) {
		struct choice *choice = &choices[n_choices];
		bool is_given = n_choices < n_given;

		if (!is_given)
			options(choice);
		if (!choice->n) {
			check_end();
			return;
		}
		take(choice->options[choice->taken]);
		n_choices++;
		if (violation || n_choices == N_CHOICES)
			return;
		/* the last given choice is a new one, too */
		if (n_choices >= n_given && !is_new(state_hash()))
			return;
	}
}

static void print_schedule(void)
{
	printf("violation: %s\nschedule:", violation);
	for (uint32_t i = 0; i < n_choices; i++)
		printf(" %c", "ABDK"[choices[i].options[choices[i].taken]]);
	printf("\n");
}

/* Return: whether a violation was found */
static bool explore(void)
{
	uint32_t n_given = 0;

	memset(seen, 0, N_SEEN * sizeof(*seen));
	memset(choices, 0, sizeof(choices));
	for (;;) {
		run_schedule(n_given);
		n_schedules++;
		if (violation) {
			print_schedule();
			return true;
		}
		while (n_choices && choices[n_choices - 1].taken + 1 >= choices[n_choices - 1].n)
			n_choices--;
		if (!n_choices)
			return false;
		choices[n_choices - 1].taken++;
		n_given = n_choices;
	}
}

static void set_up(void)
{
	lease_world_init(&world, 8 * LEASE_PAGE_BYTES, 2);
	lease_world_open(&world, 1, 100 + A);
	lease_world_open(&world, 2, 100 + B);
	(void)!lease_world_grant(&world, 1, CLASS, N_SLOTS);
	pristine = malloc(world.n_bytes);
	seen = calloc(N_SEEN, sizeof(*seen));
	pristine_world = world;
	pristine_world.page_taken = malloc(world.n_pages);
	pristine_world.word_taken = malloc(world.n_words / LEASE_WORDS_STEP);
	if (!pristine || !seen || !pristine_world.page_taken || !pristine_world.word_taken)
		abort();
	memcpy(pristine, world.base, world.n_bytes);
	memcpy(pristine_world.page_taken, world.page_taken, world.n_pages);
	memcpy(pristine_world.word_taken, world.word_taken, world.n_words / LEASE_WORDS_STEP);
	for (int i = 0; i < N_ACTORS; i++) {
		actors[i].stack = malloc(STACK_BYTES);
		if (!actors[i].stack)
			abort();
	}
	for (int k = A; k <= B; k++)
		heap_init(&heaps[k], &world.map, 1 + (uint32_t)k, world.data_bytes);
}

int main(int argc, char **argv)
{
	bool is_found = false;

	lease_test_without = argc > 1 ? (enum lease_rule)atoi(argv[1]) : LEASE_RULE_NONE;
	set_up();
	for (scenario = 0; scenario < 4 && !is_found; scenario++) {
		n_states = n_schedules = 0;
		is_found = explore();
		printf("scenario %u: %llu schedules, %llu states\n", scenario, (unsigned long long)n_schedules,
		       (unsigned long long)n_states);
		fflush(stdout);
	}
	return is_found;
}
