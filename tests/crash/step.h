#pragma once
// SPDX-License-Identifier: MIT
/*
 * step - one operation of the engine, executed in a process of its own, and killed at each instruction that makes a difference
 *
 * That is, after which a byte of the ledger differs, or length, memory or name of an object. There the pool's objects are frozen as a
 * kill would leave them. Each frozen pool is recovered and looked at:
 *
 *   its books are sound, and what they grant is backed
 *   its picture is that of before or that of after the operation, and once it is the latter it stays so
 *   asking again, with the same request id, has the answer and the picture of a run that nobody killed
 *
 * Recovery is killed in the same way: at each instruction of the recovery of a pool in the middle of an operation.
 */
#include "picture.h"

#define SCENE_N_MEMBERS 3
#define SCENE_N_OFFSETS 80u
#define SCENE_REQUEST	PICTURE_REQUEST /* id of the operation's request */

struct answer {
	int r;
	bool moved;
	uint64_t offset, size, old_size;
	uint64_t offsets[SCENE_N_OFFSETS];
};

struct scene { /* what an operation is done to */
	struct world *world;
	struct pool *pool;
	struct pool_member *members[SCENE_N_MEMBERS]; /* uids WORLD_UID, WORLD_UID + 1, and WORLD_UID again */
	uint64_t sessions[SCENE_N_MEMBERS];
	uint64_t offsets[SCENE_N_OFFSETS]; /* left by prepare() for run() */
	uint64_t seed;			   /* of a random scene */
	struct answer answer;
};

enum {
	KIND_IN_STEPS = 1,  /* many operations: each block and answer is that of before or that of after */
	KIND_CREATES = 2,   /* there is no pool before: until there is, recovery refuses it with a sentence */
	KIND_DESTROYS = 4,  /* there is none after */
	KIND_NO_REPEAT = 8, /* it has no request id: whoever lost the answer does not ask again */
};

struct kind {
	const char *name;
	unsigned flags;
	unsigned n_states_least; /* fewer mean that the test does not see */
	struct pool_options options;
	void (*prepare)(struct scene *);
	void (*run)(struct scene *);
};

extern const struct kind kinds[];
extern const unsigned n_kinds;

struct step_count {
	uint64_t n_stops, n_states; /* of the process; and those that differ */
};

/** step_kind() - exits with 1 if it finds something wrong, 77 if a process cannot be traced here */
void step_kind(const struct kind *kind, uint64_t seed, bool recovery_too, struct step_count *operation,
	       struct step_count *recovery);
