// SPDX-License-Identifier: MIT
/*
 * test_step [--long] [KIND, or in $MEMPOOL_STEP_KIND] - each kind of operation, and its recovery, killed at each instruction that makes a difference
 *
 * Exit: 0; 1 something is lost, doubled or half done ("found: …"); 77 no process can be traced here ("skipped: …").
 */
#include <inttypes.h>

#include "must.h"
#include "step.h"

#define N_RANDOM      12u /* scenes by chance */
#define N_RANDOM_LONG 2000u

static struct step_count total;
static uint64_t seed_base;

static void step_one(const struct kind *kind, uint64_t seed, bool recovery_too)
{
	struct step_count operation = {0}, recovery = {0};

	step_kind(kind, seed, recovery_too, &operation, &recovery);
	printf("%-42s %7" PRIu64 " instructions, %5" PRIu64 " states", kind->name, operation.n_instructions,
	       operation.n_states);
	if (recovery.n_states)
		printf("; its recovery %7" PRIu64 " instructions, %5" PRIu64 " states", recovery.n_instructions,
		       recovery.n_states);
	printf("\n");
	total.n_instructions += operation.n_instructions + recovery.n_instructions;
	total.n_states += operation.n_states + recovery.n_states;
	if (operation.n_states < kind->n_states_least) {
		printf("found: %s has %" PRIu64 " states, at least %u were expected\n", kind->name, operation.n_states,
		       kind->n_states_least);
		exit(1);
	}
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
	printf("%" PRIu64 " instructions, %" PRIu64 " states, each recovered and asked again\n", total.n_instructions,
	       total.n_states);
	return 0;
}
