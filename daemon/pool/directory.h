#pragma once
// SPDX-License-Identifier: MIT
/*
 * directory - the ledger of an instance: which pools and sessions there are, and what the last requests about pools were answered
 *
 * The truth that a restarted daemon begins with. A pool is there because its record counts: its objects are made before,
 * and removed after; so an object that no record names is nobody's. Numbers of sessions and pools are raised before
 * they are used, and never used again.
 *
 * Each record has one word, its id, that says whether it counts; it is filled before that word is stored. What changes a
 * pool's record and an answer together is one intent.
 *
 * Threads: none of its own; the registry's mutex is held around every call.
 */
#include "alloc/ledger.h"
#include "pool/segment.h"
#include "proto/name.h"

#define DIRECTORY_ANSWERS_N   128u /* of one session: as many requests as it has unanswered at most */
#define DIRECTORY_TOKEN_BYTES 16u

struct directory_session {
	uint64_t id;
	uint8_t token[DIRECTORY_TOKEN_BYTES]; /* who knows it may resume the session */
	uint32_t uid, gid;
	int32_t pid;
	uint32_t has_lock;  /* lock_object is the name of its liveness lock */
	uint64_t since_s;   /* since 1970 */
	uint64_t started;   /* of its process, in clock ticks since boot; 0: unknown */
	uint64_t pid_space; /* of the pid namespace in which the pid is meant; 0: unknown */
	char command[24];
	char lock_object[SEGMENT_NAME_BYTES];
};

enum {				 /* state of a session, stored to while it counts */
	DIRECTORY_LOCK_HELD = 1, /* it said that it holds the lock, and it did */
	DIRECTORY_ENDING = 2,	 /* executes nothing any more */
};

struct directory_pool {
	uint64_t id;
	uint64_t owner; /* of a private pool: the session it goes with; 0: none */
	uint64_t n_name_bytes;
	char name[NAME_BYTES_MAX]; /* n_name_bytes of it, for people: the pool's own ledger may be unreadable */
	char books[SEGMENT_NAME_BYTES], data[SEGMENT_NAME_BYTES];
	char lease[SEGMENT_NAME_BYTES]; /* as it was made; "": without. The pool's ledger knows better */
};

struct directory_answer { /* to a request about pools */
	int outcome;
	uint64_t pool;
};

struct directory_recovery { /* what one start brought back, for people */
	uint64_t time_s;
	uint64_t n_pools, n_blocks, n_bytes, n_sessions, n_refused;
	uint64_t took_us;
	uint64_t was_stopped; /* 1: the last daemon had been stopped; 0: it was killed */
};

struct directory {
	struct ledger ledger;
	uint32_t n_sessions_high, n_pools_high; /* records ever used */
	uint32_t session_hint, pool_hint;	/* below these, every record is in use */
};

#define DIRECTORY_NULL                \
	{                             \
		.ledger = LEDGER_NULL \
	}

/** directory_shape() - of every directory's ledger */
struct ledger_shape directory_shape(void);
/** directory_is_unmade() - nothing was ever in the object @fd: it is empty, or its daemon was killed while it made it */
bool directory_is_unmade(int fd);
/**
 * directory_open() - of the locked object @fd: new if it is unmade, else as a daemon of before left it
 * Ownership: @fd is the directory's if 0 is returned
 * Return: 0; LEDGER_E_*; -ENOSPC, -ENOMEM, -errno
 */
int directory_open(struct directory *directory, int fd) MUST_CHECK;
void directory_close(struct directory *directory);
/** directory_is_new() - no session and no pool was ever in it */
bool directory_is_new(const struct directory *directory);
/** directory_note_stop() - the daemon stops, having finished what it did; directory_take_stop() - whether the last one did, once */
void directory_note_stop(struct directory *directory);
bool directory_take_stop(struct directory *directory);

uint64_t directory_next_session(struct directory *directory);
uint64_t directory_next_pool(struct directory *directory);

/** directory_add_session() - @may_be_last: there need be no room for another. Return: 0, and its slot; -ENOSPC */
int directory_add_session(struct directory *directory, const struct directory_session *session, bool may_be_last,
			  uint32_t *slotp) MUST_CHECK;
void directory_set_session(struct directory *directory, uint32_t slot, unsigned state, bool is_on);
void directory_remove_session(struct directory *directory, uint32_t slot);
/** directory_session() - Return: false: none in this slot. @statep: out */
bool directory_session(const struct directory *directory, uint32_t slot, struct directory_session *out,
		       unsigned *statep);
uint64_t directory_count_sessions(const struct directory *directory);

/**
 * directory_add_pool(), directory_remove_pool() - with the answer to request @request of the session in @slot (0: of nobody), at once
 * Return: 0, and the record's index; -ENOSPC: no room: nothing changed
 */
int directory_reserve_pool(struct directory *directory, uint32_t *indexp) MUST_CHECK;
void directory_add_pool(struct directory *directory, uint32_t index, const struct directory_pool *pool, uint32_t slot,
			uint64_t request);
void directory_remove_pool(struct directory *directory, uint32_t index, uint32_t slot, uint64_t request);
/** directory_pool() - Return: false: none at this index */
bool directory_pool(const struct directory *directory, uint32_t index, struct directory_pool *out);

/** directory_answer() - a request that changed nothing, or whose effect was undone, was answered with @outcome */
void directory_answer(struct directory *directory, uint32_t slot, uint64_t request, int outcome);
/** directory_find_answer() - Return: true: it was answered before */
bool directory_find_answer(const struct directory *directory, uint32_t slot, uint64_t request,
			   struct directory_answer *answer);

/** directory_note_recovery(), directory_recoveries() - for people: the last of them, newest first. Return: how many were stored */
void directory_note_recovery(struct directory *directory, const struct directory_recovery *recovery);
uint64_t directory_n_recoveries(const struct directory *directory);
uint32_t directory_recoveries(const struct directory *directory, struct directory_recovery out[], uint32_t n_max);
