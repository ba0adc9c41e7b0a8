// SPDX-License-Identifier: MIT
/*
 * An actor is a coroutine on a stack of its own. Before each access it decides who goes on: a decision that a schedule was given, or
 * the first of those that are possible, which is itself; so a schedule has as few switches as it can.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "explore.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#define FORGET_STACK(stack) ASAN_UNPOISON_MEMORY_REGION(stack, STACK_BYTES)
#else
#define FORGET_STACK(stack) ((void)0)
#endif

void *__real_calloc(size_t n, size_t size);
void __real_free(void *p);

#define N_SEEN_FIRST (1u << 16)

enum {
	STACK_BYTES = 256 << 10,
	N_CHOICES = 4096
};

enum kind {
	RUN,
	KILL,
	CRASH
};

struct actor {
	ucontext_t context;
	uint8_t *stack;
	jmp_buf bottom; /* where it begins, */
	jmp_buf here;	/* and where it has stopped: without the system calls of swapcontext() */
	/* the rest begins with each schedule */
	jmp_buf place; /* where its request begins again */
	bool is_done, is_dead, is_killed_daemon, is_in_operation;
	const char *what; /* it will do when it goes on, */
	const volatile void *at;
	bool (*is_ready)(void); /* and when it can */
	uint64_t history, before_request;
	uint64_t outcomes; /* of its operations: all that its program remembers */
};

struct choice {
	uint8_t taken, n;
	uint8_t options[3 * N_ACTORS]; /* kind * N_ACTORS + actor */
};

enum lease_rule lease_test_without;

static const struct scenario *scenario;
static struct truth kept_truth;
static struct actor actors[N_ACTORS];
static struct actor outside;
static int current = NOBODY;
static int holder = NOBODY; /* whose request the daemon executes */
static unsigned n_kills, n_crashes;
static uint64_t daemon_past, geometry;
static bool is_geometry_known, is_tracing;
static const char *violation;
static struct search_result result;

static struct choice choices[N_CHOICES];
static uint32_t n_choices, n_given, n_steps;

/* ---- states that were seen ---- */

static uint64_t *seen;
static uint64_t n_seen, n_room;

static void seen_reset(void)
{
	__real_free(seen);
	n_seen = 0;
	n_room = N_SEEN_FIRST;
	seen = __real_calloc(n_room, sizeof(*seen));
	if (!seen)
		abort();
}

static bool insert(uint64_t hash)
{
	uint64_t at = hash & (n_room - 1);

	for (; seen[at]; at = (at + 1) & (n_room - 1))
		if (seen[at] == hash)
			return false;
	seen[at] = hash;
	return true;
}

static bool is_new(uint64_t hash)
{
	hash |= !hash;
	if (2 * n_seen > n_room) {
		uint64_t *old = seen, n = n_room;

		n_room *= 4;
		seen = __real_calloc(n_room, sizeof(*seen));
		if (!seen)
			abort();
		for (uint64_t i = 0; i < n; i++)
			if (old[i])
				insert(old[i]);
		__real_free(old);
	}
	if (!insert(hash))
		return false;
	n_seen++;
	return true;
}

uint64_t mix_bytes(uint64_t hash, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;
	uint64_t word;

	for (; n >= 8; at += 8, n -= 8) {
		memcpy(&word, at, 8);
		hash = mix(hash, word);
	}
	if (!n)
		return hash;
	word = 0;
	memcpy(&word, at, n);
	return mix(hash, word);
}

/* All that decides what can come: never what came. */
static uint64_t state(void)
{
	uint64_t hash = daemon_words();

	hash = mix(hash, daemon_past);
	hash = mix_bytes(hash, &truth, sizeof(truth));
	hash = mix(hash, n_kills + 16u * n_crashes + 256u * (unsigned)(holder + 1));
	for (int i = 0; i < N_ACTORS; i++) {
		hash = mix(hash, actors[i].history);
		hash = mix(hash, actors[i].is_done + 2u * actors[i].is_dead + 4u * actors[i].is_in_operation +
					 8u * (actors[i].is_ready != NULL));
	}
	return hash;
}

/* ---- choices ---- */

static void add(struct choice *choice, enum kind kind, int actor)
{
	choice->options[choice->n++] = (uint8_t)(kind * N_ACTORS + (unsigned)actor);
}

static void add_run(struct choice *choice, int actor)
{
	if (!actors[actor].is_done && !actors[actor].is_dead && (!actors[actor].is_ready || actors[actor].is_ready()))
		add(choice, RUN, actor);
}

static bool has_pending(void)
{
	for (int i = 0; i < N_ACTORS; i++)
		if (!actors[i].is_done && !actors[i].is_dead)
			return true;
	return false;
}

static bool is_at_commit(void)
{
	return holder == current && holder != NOBODY && actors[current].what && !strcmp(actors[current].what, "commit");
}

/* Itself first. Nobody is killed when nobody has anything left to do. */
static void find_options(struct choice *choice)
{
	*choice = (struct choice){0};
	add_run(choice, current);
	if (is_at_commit()) { /* nobody sees it but the next daemon */
		add(choice, CRASH, holder);
		return;
	}
	for (int i = 0; i < N_ACTORS; i++)
		if (i != current)
			add_run(choice, i);
	for (int i = 0; i < N_ACTORS && has_pending(); i++)
		if (n_kills && scenario->kills & 1u << i && (!scenario->can_die || scenario->can_die()) &&
		    !actors[i].is_dead && !actors[i].is_done && holder != i)
			add(choice, KILL, i);
	if (n_crashes && holder != NOBODY)
		add(choice, CRASH, holder);
}

static void enter(int actor);

static void make_context(int actor)
{
	ucontext_t *context = &actors[actor].context;

	if (getcontext(context))
		abort();
	context->uc_stack.ss_sp = actors[actor].stack;
	context->uc_stack.ss_size = STACK_BYTES;
	makecontext(context, (void (*)(void))enter, 1, actor);
}

#ifdef WITH_ASAN /* which has to be told of stacks */
#define AT_BOTTOM(actor)   ((void)0)
#define find_bottom(actor) ((void)0)

static void rewind_to_bottom(int actor)
{
	FORGET_STACK(actors[actor].stack);
	make_context(actor);
}

static __attribute__((noinline)) void swap(struct actor *from, struct actor *to)
{
	swapcontext(&from->context, &to->context);
}
#else
/* What lies on a stack above its bottom is of no more use: so each schedule can begin there again. */
#define AT_BOTTOM(actor)                            \
	do {                                        \
		if (!_setjmp(actors[actor].bottom)) \
			_longjmp(outside.here, 1);  \
	} while (0)

static __attribute__((noinline)) void swap(struct actor *from, struct actor *to)
{
	if (!_setjmp(from->here))
		_longjmp(to->here, 1);
}

static __attribute__((noinline)) void find_bottom(int actor)
{
	make_context(actor);
	if (!_setjmp(outside.here))
		setcontext(&actors[actor].context);
}

static void rewind_to_bottom(int actor)
{
	memcpy(&actors[actor].here, &actors[actor].bottom, sizeof(jmp_buf));
}
#endif

static void switch_to(int actor)
{
	struct actor *from = &actors[current];

	if (actor == current)
		return;
	current = actor;
	swap(from, &actors[actor]);
}

static void leave(void)
{
	struct actor *from = &actors[current];

	current = NOBODY;
	swap(from, &outside);
}

static void take(uint8_t option)
{
	int actor = option % N_ACTORS;
	enum kind kind = option / N_ACTORS;

	if (is_tracing && kind != RUN)
		printf("    %c%s\n", 'A' + actor, kind == KILL ? " is killed" : ": the daemon is killed");
	if (kind == KILL) {
		n_kills--;
		actors[actor].is_dead = true;
		actors[actor].is_in_operation = false;
		actors[actor].is_ready = NULL;
		actors[actor].history = 0; /* nobody will act on what it knew */
		truth_dies(actor);
		return;
	}
	if (kind == CRASH) {
		n_crashes--;
		actors[actor].is_killed_daemon = true;
	}
	switch_to(actor);
}

/* On the stack of who is at work, or was. Returns when it is its turn again. */
static void decide(void)
{
	bool is_its_turn = false;

	while (!is_its_turn) {
		struct choice *choice = &choices[n_choices];
		uint8_t option;

		if (++n_steps > result.n_steps_max)
			result.n_steps_max = n_steps;
		truth_settle();
		if (n_choices >= n_given) {
			truth_check();
			if (violation || !is_new(state()))
				leave();
			find_options(choice);
			if (!choice->n && has_pending())
				search_found("all wait for each other");
			if (!choice->n)
				leave();
		}
		if (n_choices + 1 == N_CHOICES)
			abort();
		n_choices++;
		option = choice->options[choice->taken];
		is_its_turn = option / N_ACTORS != KILL;
		take(option);
	}
}

/* ---- what actors call ---- */

static uint64_t value_of(const struct actor *me)
{
	uint32_t value = 0;

	if (me->at)
		memcpy(&value, (const void *)(uintptr_t)me->at, strncmp(me->what, "word", 4) ? 4 : 2);
	return value;
}

void lease_test_step(const char *what, const volatile void *at)
{
	struct actor *me;

	if (current == NOBODY)
		return;
	me = &actors[current];
	me->what = what;
	me->at = at;
	if (at ? !daemon_is_seen(at, what) : !n_crashes && !strcmp(what, "commit"))
		return;
	decide();
	if (!is_geometry_known)
		geometry = daemon_geometry();
	is_geometry_known = holder != current; /* else it may change it now */
	me->history = mix(mix(me->history, value_of(me)), geometry);
	if (is_tracing)
		printf("    %c %s %x\n", 'A' + (int)(me - actors), what, (unsigned)value_of(me));
	if (me->is_killed_daemon) {
		me->is_killed_daemon = false;
		me->history = mix(me->history, CRASH); /* else two points where it was killed would look like one */
		FORGET_STACK(me->stack);	       /* the sanitizer clears that of the thread at a longjmp() */
		longjmp(me->place, 1);
	}
}

void search_wait(bool (*is_ready)(void))
{
	struct actor *me = &actors[current];

	me->is_ready = is_ready;
	lease_test_step("wait", NULL);
	me->is_ready = NULL;
}

void search_begins(void)
{
	if (current == NOBODY)
		return;
	lease_test_step("begin", NULL);
	actors[current].is_in_operation = true;
}

void search_ends(uint64_t outcome)
{
	struct actor *me;

	if (current == NOBODY)
		return;
	me = &actors[current];
	me->is_in_operation = false;
	me->outcomes = mix(me->outcomes, outcome);
	me->history = mix(heaps_hash(current), me->outcomes);
}

bool search_is_in_operation(int actor)
{
	return actors[actor].is_in_operation;
}

bool search_is_mutex_free(void)
{
	return holder == NOBODY;
}

void search_request_begins(void)
{
	if (current == NOBODY)
		return;
	search_wait(search_is_mutex_free);
	holder = current;
	is_geometry_known = false;
	actors[current].before_request = actors[current].history;
	actors[current].history = mix(daemon_past, (uint64_t)current);
}

void search_request_ends(void)
{
	struct actor *me;

	if (current == NOBODY)
		return;
	me = &actors[current];
	lease_test_step("answer", NULL);
	holder = NOBODY;
	is_geometry_known = false;
	daemon_past = me->history;
	me->history = mix(me->before_request, daemon_past);
}

void *search_place(void)
{
	return &actors[current < 0 ? 0 : current].place;
}

int search_me(void)
{
	return current;
}

const char *search_next(int actor)
{
	return actors[actor].what;
}

bool search_is_dead(int actor)
{
	return actors[actor].is_dead;
}

bool search_is_over(int actor)
{
	return actors[actor].is_dead || actors[actor].is_done;
}

void search_found(const char *what)
{
	if (!violation)
		violation = what;
}

/* ---- a schedule ---- */

static void enter(int actor)
{
	AT_BOTTOM(actor);
	actors[actor].history = 1; /* it has begun */
	scenario->actors[actor]();
	actors[actor].is_done = true;
	actors[actor].is_in_operation = false;
	actors[actor].history = 0;
	decide();
	abort(); /* nobody goes back to who is done */
}

static void begin(void)
{
	memory_restore();
	truth = kept_truth;
	current = holder = NOBODY;
	n_kills = scenario->kills != 0;
	n_crashes = scenario->crashes;
	daemon_past = 0;
	is_geometry_known = false;
	violation = NULL;
	n_choices = n_steps = 0;
	for (int i = 0; i < N_ACTORS; i++) {
		struct actor *actor = &actors[i];

		memset((uint8_t *)actor + offsetof(struct actor, place), 0,
		       sizeof(*actor) - offsetof(struct actor, place));
		actor->is_done = !scenario->actors[i];
		rewind_to_bottom(i);
	}
}

static void run_schedule(void)
{
	int first = 0;

	begin();
	while (!scenario->actors[first])
		first++;
	current = first;
	result.n_schedules++;
	if (!n_given) {
		n_kills = 0;
		find_options(&choices[0]);
		n_kills = scenario->kills != 0;
	}
	n_choices = 1;
	current = choices[0].options[choices[0].taken];
	if (is_tracing)
		printf("    %c begins\n", 'A' + current);
	swap(&outside, &actors[current]);
	if (!violation && !has_pending()) {
		result.n_ends++;
		truth_check_end();
		if (scenario->finish && !violation)
			scenario->finish();
	}
}

static bool next_schedule(void)
{
	while (n_choices && choices[n_choices - 1].taken + 1 >= choices[n_choices - 1].n)
		n_choices--;
	if (!n_choices)
		return false;
	choices[n_choices - 1].taken++;
	n_given = n_choices;
	return true;
}

static void print_violation(void)
{
	n_given = n_choices;
	is_tracing = true;
	printf("found: %s: %s\n", scenario->name, violation);
	fflush(stdout);
	if (lease_test_without == LEASE_RULE_NONE) /* else it was to be found: nobody needs to see how */
		run_schedule();
}

static void make_stacks(void)
{
	for (int i = 0; i < N_ACTORS && !actors[i].stack; i++) {
		actors[i].stack = aligned_alloc(4096, STACK_BYTES);
		if (!actors[i].stack)
			abort();
		find_bottom(i);
	}
}

struct search_result search_run(const struct scenario *what)
{
	bool more = true;

	scenario = what;
	result = (struct search_result){0};
	make_stacks();
	seen_reset();
	memory_reset();
	heaps_forget();
	truth = (struct truth){.outlives = what->lifetime};
	daemon_init(what->lifetime);
	for (int i = 0; i < N_CLIENTS; i++)
		heaps_init(i, daemon_heap_number(i));
	what->prepare();
	memory_keep();
	kept_truth = truth;
	memset(choices, 0, sizeof(choices));
	n_given = 0;
	while (more) {
		run_schedule();
		if (violation) {
			result.violation = violation;
			print_violation();
			break;
		}
		more = next_schedule();
	}
	result.n_states = n_seen;
	return result;
}
