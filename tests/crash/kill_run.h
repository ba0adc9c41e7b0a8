#pragma once
// SPDX-License-Identifier: MIT
/* kill_run - starts a daemon and workers, kills them at random moments, and accounts for every block */
#include "kill_model.h"
#include "kill_watch.h"
#include "tests/lib/daemon.h"

struct kill_plan {
	const char *name;
	unsigned n_cycles;
	unsigned n_workers, n_threads;
	unsigned gap_ops;			 /* a kill comes after 1 to this many operations */
	unsigned daemon_percent, worker_percent; /* of cycles that kill it; both at once where they overlap */
	unsigned stop_percent;			 /* of the daemon's ends that are asked for, by SIGTERM: an upgrade */
	unsigned audit_every;			 /* cycles between two audits; 0: only at the end */
	unsigned hungry_every;			 /* one cycle in so many fills the pools; 0: none */
	unsigned with_children; /* one incarnation in so many forks a child that outlives it; 0: none */
	bool with_pool_cycles;
	bool in_one_process; /* all workers are: none can be killed */
	bool mostly_slots;   /* few requests in between: else they order everything */
	bool may_be_full;    /* its pools are too small for all that is wanted */
	bool with_stopped;   /* the last worker is stopped by SIGSTOP from the first kill to the end */
	uint64_t shm_bytes;  /* /dev/shm is a mount of its own of this size; 0: the machine's */
	uint64_t pool_bytes;
};

struct kill_run {
	const struct kill_plan *plan;
	struct kill_model *model;
	struct daemon daemon;
	struct kill_watch watch;
	struct rnd rnd;
	pid_t pids[KILL_WORKERS];
	pid_t children[KILL_WORKERS]; /* forked by dead workers: they harm nothing */
	int life_fd;		      /* write end: closed, the children end */
	bool is_stopped;
	bool has_doubted_gift; /* since the last audit a receiver has died, whose sender lives */
	struct {
		uint64_t cycles, daemon_stops, daemon_kills, worker_kills, in_flight, aimed, in_update, n_in_flight;
		uint64_t kinds[KILL_KIND_N];	    /* in flight when the daemon was killed */
		uint64_t worker_kinds[KILL_KIND_N]; /* when a worker was */
		uint64_t had_owned, had_retained, had_sent, had_held,
			had_published; /* workers killed with such blocks */
		uint64_t audits, blocks_compared, slots_compared;
		uint64_t doubts, doubts_sure,
			doubts_found;		   /* blocks that the dead left in doubt; of them certain; there */
		uint64_t gifts_back, gifts_passed; /* whose receiver died taking them: the sender's still, or not */
		uint64_t gifts_of_both;		   /* whose sender is dead, too */
		uint64_t starts, restart_us, restart_us_most;
	} seen;
};

/** kill_run() - do what the plan says. Return: 0; 1 it failed, and everything was said; 77 skipped, and said why */
int kill_run(const struct kill_plan *plan, uint64_t seed);

/** kill_run_fail() - the driver found a fault. Return: -1 */
int kill_run_fail(struct kill_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** kill_audit() - no worker runs an operation: the daemon's books are the model, block by block (kill_audit.c). Return: 0, -1 */
int kill_audit(struct kill_run *run, const char *when);
/** kill_audit_end() - all have given all up: nothing is left, and the pools can be destroyed. Return: 0, -1 */
int kill_audit_end(struct kill_run *run);

/** kill_doubt() - a block that may be there (kill_bury.c). Return: to say more about it */
struct kill_doubt *kill_doubt(struct kill_model *model, uint64_t offset, uint64_t size);
/** kill_bury() - write down what a dead worker leaves: what was sure, what is in doubt (kill_bury.c) */
void kill_bury(struct kill_run *run, unsigned worker);
