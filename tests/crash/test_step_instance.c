// SPDX-License-Identifier: MIT
/*
 * test_step_instance [KIND, or in $MEMPOOL_STEP_KIND] - each kind of operation on an instance's directory, pools and sessions, and the
 * start of a daemon after it, killed at each instruction that makes a difference
 *
 * Exit: 0; 1 something is lost, doubled or half done ("found: …"); 77 no process can be traced here ("skipped: …").
 */
#include <inttypes.h>

#include "instance.h"
#include "must.h"

static struct instance_count total;

static void step_one(const struct instance_kind *kind)
{
	struct instance_count operation = {0}, recovery = {0};

	instance_step(kind, &operation, &recovery);
	printf("%-42s %7" PRIu64 " stops, %5" PRIu64 " states", kind->name, operation.n_stops, operation.n_states);
	if (recovery.n_states)
		printf("; starts after it %7" PRIu64 " stops, %5" PRIu64 " states", recovery.n_stops,
		       recovery.n_states);
	printf("\n");
	total.n_stops += operation.n_stops + recovery.n_stops;
	total.n_states += operation.n_states + recovery.n_states;
	if (operation.n_states < kind->n_states_least) {
		printf("found: %s has %" PRIu64 " states, at least %u were expected\n", kind->name, operation.n_states,
		       kind->n_states_least);
		exit(1);
	}
}

int main(int argc, char *argv[])
{
	const char *only = argc > 1 ? argv[1] : getenv("MEMPOOL_STEP_KIND");

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < n_instance_kinds; i++)
		if (!only || !strcmp(only, instance_kinds[i].name))
			step_one(&instance_kinds[i]);
	printf("%" PRIu64 " stops, %" PRIu64 " states, each started from and asked again\n", total.n_stops,
	       total.n_states);
	return 0;
}
