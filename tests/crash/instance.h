#pragma once
// SPDX-License-Identifier: MIT
/*
 * instance - one operation of the registry, executed in a process of its own, and killed at each
 * instruction that makes a difference
 *
 * As step.h has it of a pool, but with all objects of an instance: directory, ledgers, data and lease segments. Each state is
 * thawed under the names that the objects had, and started from:
 *
 *   the start is not refused, tells of no trouble, and leaves no object that nothing names
 *   the instance's picture is that of before or that of after the operation, and once it is the latter it stays so
 *   asking again, with the same request id, has the answer and the picture of a run that nobody killed
 *   no number of a session or pool is given twice
 */
#include "picture.h"

#define INSTANCE_REQUESTS 9u /* ids of requests up to here; the last is the operation's */
#define INSTANCE_SESSIONS 2u

struct instance_scene { /* what an operation is done to */
	struct registry_config config;
	struct registry *registry;
	uint64_t sessions[INSTANCE_SESSIONS];
	uint32_t slots[INSTANCE_SESSIONS];
	uint64_t n_given; /* the highest number of a session that was given so far */
	int r;
	uint64_t pool; /* answer */
};

enum {
	INSTANCE_IN_STEPS = 1,	/* many operations: each pool and session is that of before or that of after */
	INSTANCE_NO_REPEAT = 2, /* it has no request id: whoever lost the answer does not ask again */
	INSTANCE_STARTS = 4,	/* there is no registry before */
	INSTANCE_STOPS = 8,	/* there is none after */
	INSTANCE_RECOVERY = 16, /* the recovery of some of its states is stepped, too */
};

struct instance_kind {
	const char *name;
	unsigned flags;
	unsigned n_states_least; /* fewer mean that the test does not see */
	void (*prepare)(struct instance_scene *);
	void (*run)(struct instance_scene *);
};

extern const struct instance_kind instance_kinds[];
extern const unsigned n_instance_kinds;

struct instance_count {
	uint64_t n_stops, n_states; /* of the process; and those that differ */
};

/** instance_step() - exits with 1 if it finds something wrong, 77 if a process cannot be traced here */
void instance_step(const struct instance_kind *kind, struct instance_count *operation, struct instance_count *recovery);
