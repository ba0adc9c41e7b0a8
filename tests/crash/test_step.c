// SPDX-License-Identifier: MIT
/*
 * test_step [--long] [KIND, or in $MEMPOOL_STEP_KIND] - each kind of operation, and its recovery, killed at each instruction that makes a difference
 *
 * Exit: 0; 1 something is lost, doubled or half done ("found: …"); 77 no process can be traced here ("skipped: …").
 */
#include <inttypes.h>

#include "must.h"
#include "step.h"
#include "stepper.h"

#define N_RANDOM      12u /* scenes by chance */
#define N_RANDOM_LONG 2000u

/* Traced, too, to see whether that comes to the same: some short ones. */
static const char *const traced_too[] = {"alloc",
					 "alloc refused",
					 "alloc guarded",
					 "free, merges both",
					 "free refused",
					 "release, the last of all",
					 "retain, once more",
					 "realloc, grows in place",
					 "publish under a name",
					 "resize",
					 "destroy"};

static struct step_count total;
static uint64_t n_traced, seed_base;

static bool is_traced_too(const struct kind *kind)
{
	for (size_t i = 0; i < N_ELEMENTS(traced_too); i++)
		if (!strcmp(kind->name, traced_too[i]))
			return true;
	return false;
}

static void step_traced(const struct kind *kind, uint64_t n_states_expected)
{
	struct step_count count = {0}, none = {0};

	stepper_trace(true);
	step_kind(kind, 0, false, &count, &none);
	stepper_trace(false);
	n_traced += count.n_stops;
	if (count.n_states == n_states_expected)
		return;
	printf("found: %s has %" PRIu64 " states by each instruction, %" PRIu64 " by its stores and calls\n",
	       kind->name, count.n_states, n_states_expected);
	exit(1);
}

static void step_one(const struct kind *kind, uint64_t seed, bool recovery_too)
{
	struct step_count operation = {0}, recovery = {0};

	step_kind(kind, seed, recovery_too, &operation, &recovery);
	printf("%-42s %7" PRIu64 " stops, %5" PRIu64 " states", kind->name, operation.n_stops, operation.n_states);
	if (recovery.n_states)
		printf("; its recovery %7" PRIu64 " stops, %5" PRIu64 " states", recovery.n_stops, recovery.n_states);
	printf("\n");
	total.n_stops += operation.n_stops + recovery.n_stops;
	total.n_states += operation.n_states + recovery.n_states;
	if (operation.n_states < kind->n_states_least) {
		printf("found: %s has %" PRIu64 " states, at least %u were expected\n", kind->name, operation.n_states,
		       kind->n_states_least);
		exit(1);
	}
	if (is_traced_too(kind))
		step_traced(kind, operation.n_states);
}

static void step_by_chance(const struct kind *kind, bool is_long)
{
	unsigned n = is_long ? N_RANDOM_LONG : N_RANDOM;

	printf("MEMPOOL_TEST_SEED=%" PRIu64 "\n", seed_base);
	for (unsigned i = 0; i < n; i++)
		step_one(kind, seed_base + i, i % 8 == 0);
}

int main(int argc, char *argv[])
{
	bool is_long = argc > 1 && !strcmp(argv[1], "--long");
	const char *only = argc > 1 + is_long ? argv[1 + is_long] : getenv("MEMPOOL_STEP_KIND");

	setvbuf(stdout, NULL, _IOLBF, 0);
	seed_base =
		getenv("MEMPOOL_TEST_SEED") ? strtoull(getenv("MEMPOOL_TEST_SEED"), NULL, 10) : (uint64_t)time(NULL);
	for (unsigned i = 0; i < n_kinds; i++) {
		if (only && strcmp(only, kinds[i].name))
			continue;
		if (!strcmp(kinds[i].name, "by chance"))
			step_by_chance(&kinds[i], is_long);
		else
			step_one(&kinds[i], 0, true);
	}
	printf("%" PRIu64 " stops, %" PRIu64 " states, each recovered and asked again; as many in %" PRIu64
	       " instructions that were traced\n",
	       total.n_stops, total.n_states, n_traced);
	return 0;
}
