// SPDX-License-Identifier: MIT
/* kill_load [PLAN [CYCLES]] - real daemons and real clients killed under load; every block is accounted for */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kill_run.h"

#ifdef MEMPOOL_TEST_SLOW /* a sanitizer is in everything */
#define CYCLES(n) ((n) / 10)
#else
#define CYCLES(n) (n)
#endif

static const struct kill_plan plans[] = {
	{
		.name = "daemon",
		.n_cycles = CYCLES(500),
		.n_workers = 2,
		.n_threads = 10,
		.gap_ops = 600,
		.daemon_percent = 100,
		.audit_every = 50,
		.with_pool_cycles = true,
		.pool_bytes = 64u << 20,
	},
	{
		.name = "client",
		.n_cycles = CYCLES(750),
		.n_workers = 4,
		.n_threads = 2,
		.gap_ops = 250,
		.worker_percent = 100,
		.audit_every = 75,
		.with_children = 5,
		.with_pool_cycles = true,
		.pool_bytes = 64u << 20,
	},
	{
		.name = "both",
		.n_cycles = CYCLES(300),
		.n_workers = 4,
		.n_threads = 3,
		.gap_ops = 800,
		.daemon_percent = 60,
		.worker_percent = 70,
		.audit_every = 50,
		.with_children = 5,
		.with_pool_cycles = true,
		.pool_bytes = 64u << 20,
	},
	{
		.name = "stopped",
		.n_cycles = CYCLES(100),
		.n_workers = 3,
		.n_threads = 3,
		.gap_ops = 800,
		.daemon_percent = 60,
		.worker_percent = 70,
		.with_stopped = true,
		.with_pool_cycles = true,
		.pool_bytes = 64u << 20,
	},
	{
		.name = "upgrade",
		.n_cycles = CYCLES(60),
		.n_workers = 2,
		.n_threads = 6,
		.gap_ops = 1000,
		.daemon_percent = 100,
		.stop_percent = 80,
		.with_pool_cycles = true,
		.pool_bytes = 64u << 20,
	},
	{
		.name = "full",
		.n_cycles = CYCLES(100),
		.n_workers = 3,
		.n_threads = 4,
		.gap_ops = 1500,
		.daemon_percent = 70,
		.worker_percent = 50,
		.audit_every = 25,
		.with_pool_cycles = true,
		.shm_bytes = 3u << 20,
		.pool_bytes = 64u << 20,
	},
	{
		.name = "tight", /* pools that are full now and then: what is idle is recalled */
		.n_cycles = CYCLES(150),
		.n_workers = 3,
		.n_threads = 4,
		.gap_ops = 1500,
		.daemon_percent = 50,
		.worker_percent = 50,
		.audit_every = 25,
		.with_pool_cycles = true,
		.may_be_full = true,
		.hungry_every = 4,
		.pool_bytes = 3u << 20,
	},
	{
		.name = "together", /* sessions of one process, for a sanitizer that compares addresses */
		.n_cycles = CYCLES(100),
		.n_workers = 3,
		.n_threads = 3,
		.gap_ops = 20000,
		.daemon_percent = 100,
		.stop_percent = 20,
		.audit_every = 20,
		.with_pool_cycles = true,
		.in_one_process = true,
		.mostly_slots = true,
		.may_be_full = true,
		.pool_bytes = 2u << 20,
	},
};

int main(int argc, char *argv[])
{
	const char *name = argc > 1 ? argv[1] : plans[0].name;

	for (size_t i = 0; i < N_ELEMENTS(plans); i++) {
		struct kill_plan plan = plans[i];

		if (strcmp(name, plan.name))
			continue;
		if (argc > 2)
			plan.n_cycles = (unsigned)strtoul(argv[2], NULL, 0);
		return kill_run(&plan, rnd_seed_from_env_or_time());
	}
	fprintf(stderr, "usage: kill_load [PLAN [CYCLES]]; plans:");
	for (size_t i = 0; i < N_ELEMENTS(plans); i++)
		fprintf(stderr, " %s", plans[i].name);
	fprintf(stderr, "\n");
	return 2;
}
