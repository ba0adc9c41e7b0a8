#pragma once
// SPDX-License-Identifier: MIT
/*
 * kill_model - what clients that may be killed at any moment surely hold, surely do not hold, and are just asking for
 *
 * Knows the public API's meaning, processes and shared memory; nothing of how the daemon or the library work.
 *
 * The model lies in memory that the driver of a test shares with its *workers*, and so outlives each of them. A worker is
 * a process with one session and several threads; killed, it comes back as its next *incarnation*, a new session. Each word is
 * written by one party: a thread writes its own blocks, operation and ring; the driver writes what is left of a worker that
 * it killed and reaped, before the next incarnation runs. Where two write, they use CAS, and the tag in the word tells
 * whether it is still about the same block.
 *
 *   op->kind = k  before each library call, op->kind = 0 after all that follows from its answer is written down: what a
 *                 killed thread's operation names (its blocks, its key, its message) is in doubt, all else is sure.
 *
 * Two nets catch a block that was handed out twice, while both have it: each granule of a pool has a *claim*, set when an
 * answer gave the block to somebody, and taken away before the request that gives it up; and each block is filled with a
 * pattern of its tag, and read again whenever it changes hands. Claims and counters order nothing (relaxed): where threads of one
 * process run, ThreadSanitizer is to see what orders their uses of one place, which is the library's business.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mempool/mempool.h"
#include "proto/util.h"
#include "tests/lib/rnd.h"

#define KILL_WORKERS  6
#define KILL_THREADS  12
#define KILL_BLOCKS   48 /* that one thread has at most */
#define KILL_BATCH    12
#define KILL_MAIL     8 /* messages that wait for one thread */
#define KILL_KEYS     2 /* names that one thread publishes under */
#define KILL_POOLS    2
#define KILL_RING     256
#define KILL_DOUBTS   65536
#define KILL_MIN_SIZE 16 /* of a block: its tag and its size */
#define KILL_MAX_SIZE (64u << 10)
#define KILL_GRANULE  16u

/* pools: blocks of the first end with their session; those of the second become the pool's */
enum {
	KILL_SESSION_POOL = 0,
	KILL_POOL_POOL = 1
};

enum kill_kind {
	KILL_IDLE = 0,
	KILL_ALLOC,
	KILL_FREE,
	KILL_REALLOC,
	KILL_ALLOC_BATCH,
	KILL_FREE_BATCH,
	KILL_RETAIN,
	KILL_TAKE,
	KILL_PUBLISH,
	KILL_UNPUBLISH,
	KILL_FIND,
	KILL_ACQUIRE,
	KILL_DROP,
	KILL_CREATE,
	KILL_RESIZE,
	KILL_DESTROY,
	KILL_LOOK, /* anything that only reads */
	KILL_KIND_N
};

enum kill_state { /* low bits of kill_block.word; the block's tag is above */
	KILL_NONE = 0,
	KILL_OWNED,  /* the session's */
	KILL_SENT,   /* the session's, until the receiver takes it */
	KILL_HELD,   /* another's, retained */
	KILL_PASSED, /* was sent and taken: retained, and what is in it is the new owner's business */
	KILL_LEFT,   /* the pool's: a dead incarnation's, of lifetime pool */
};
#define KILL_STATE_BITS 4u

struct kill_block {
	_Atomic uint64_t word; /* tag << KILL_STATE_BITS | enum kill_state */
	uint64_t offset;
	uint32_t size; /* as asked for */
	uint32_t pool;
	uint32_t n_retains; /* the session's own, beside its owner's hold */
	uint32_t is_taken;  /* from a sender who retains it */
};

struct kill_op { /* what a thread is asking for */
	_Atomic uint32_t kind;
	uint32_t pool;
	uint32_t n; /* blocks of it */
	uint32_t key;
	uint16_t blocks[KILL_BATCH]; /* places in the thread's table */
	uint32_t sizes[KILL_BATCH];  /* of blocks that may come to be */
	uint32_t n_sizes;
	uint32_t alignment; /* that they are asked for with; 0: none in particular */
};

struct kill_past { /* one operation that is over, for people */
	uint32_t kind, pool, size;
	int32_t result;
	uint64_t offset, at_op;
};

enum kill_mail_state { /* low bits of kill_mail.word; who wrote it is above, see kill_mail_word() */
	KILL_MAIL_EMPTY = 0,
	KILL_MAIL_WRITING,
	KILL_MAIL_FULL,
	KILL_MAIL_TAKING,
	KILL_MAIL_DOUBT, /* the receiver died taking it */
	KILL_MAIL_BACK,	 /* and it has turned out that the sender has it still: a gift, which he did not retain */
};

struct kill_mail {
	_Atomic uint64_t word; /* enum kill_mail_state | sender's worker << 8 | thread << 16 | incarnation << 32 */
	uint64_t tag, offset, session;
	uint64_t dead_session; /* of the receiver that left it in doubt */
	uint32_t size, block;  /* its place in the sender's table */
	uint32_t pool;
	uint32_t is_gift;    /* the sender retains nothing of it */
	uint32_t is_freeing; /* the receiver frees it as it is, and has not taken it first */
};

struct kill_key {
	_Atomic uint32_t state; /* 0 free, 1 in doubt, 2 published */
	uint32_t size;
	uint64_t offset;
	_Atomic uint64_t tag; /* of the last that was published, which others look at */
};
enum {
	KILL_KEY_FREE = 0,
	KILL_KEY_DOUBT,
	KILL_KEY_PUBLISHED
};

struct kill_thread {
	struct kill_op op;
	_Atomic uint32_t phase_done; /* the phase that it has come to the end of */
	uint32_t pool_in_doubt; /* a dead incarnation may have left the pool of its own that it creates and destroys */
	uint64_t n_serials;	/* of all incarnations */
	uint64_t n_past;
	struct kill_past past[KILL_RING];
	struct kill_block blocks[KILL_BLOCKS];
	struct kill_mail mail[KILL_MAIL];
	struct kill_key keys[KILL_KEYS];
};

struct kill_worker {
	_Atomic uint32_t incarnation; /* 1, 2, … */
	_Atomic uint32_t doomed;      /* the incarnation that is about to be killed */
	_Atomic uint64_t session;     /* 0: not connected yet */
	uint64_t old_session;  /* of the last incarnation that did anything, until its end has been seen; 0: it has */
	_Atomic int32_t child; /* pid of a forked child that does nothing but outlive; 0: none */
	struct kill_thread threads[KILL_THREADS];
};

struct kill_doubt {	  /* a block of the second pool that may be there, or not */
	uint64_t offset;  /* 0: unknown */
	uint64_t size;	  /* as asked for */
	uint64_t slot;	  /* bytes of the slot that it is in, if it is in one and its offset is unknown */
	uint32_t group;	  /* of those with the same, one at least is there; 0: in none */
	uint32_t is_sure; /* it is there, and only who has it was in doubt */
	uint32_t is_seen; /* by an audit: there is a block that this one explains */
	uint32_t is_used; /* and no other that explains it as well was counted for it */
};

enum kill_phase {
	KILL_RUN = 0,
	KILL_PAUSE,
	KILL_MAIL_OUT,
	KILL_FREE_ALL,
	KILL_END
};

struct kill_model {
	/* what the run is; written before the first worker */
	uint64_t seed;
	char socket[96];
	uint32_t n_workers, n_threads;
	uint64_t pool_bytes;
	uint32_t may_be_full;	   /* -ENOSPC is no fault */
	uint32_t mostly_slots;	   /* few sizes, and hardly any requests */
	uint32_t clients_die;	   /* some are killed */
	uint32_t with_pool_cycles; /* threads create and destroy pools of their own */
	uint32_t with_children;	   /* one incarnation in so many forks a child that outlives it; 0: none */
	int life_fd;		   /* reads EOF when the driver has ended */

	_Atomic uint64_t n_ops;	    /* that were begun, of all */
	_Atomic uint32_t wake_at;   /* futex word: n_ops, cut to 32 bits, at which the driver wants to be woken */
	_Atomic uint32_t is_woken;  /* futex word */
	_Atomic uint32_t up;	    /* futex word: starts of the daemon */
	_Atomic uint32_t phase;	    /* futex word: enum kill_phase, and above it a count that makes each one new */
	_Atomic uint32_t n_done;    /* futex word: changes when a thread comes to the end of a phase */
	_Atomic uint32_t is_hungry; /* large blocks are wanted: pools get full */
	_Atomic uint32_t is_failed;
	char failure[2048];
	_Atomic uint64_t n_full;	/* -ENOSPC seen */
	_Atomic uint64_t n_stale;	/* takes from senders that had died */
	_Atomic uint64_t n_inherited;	/* of them, of blocks that had become the pool's meanwhile */
	_Atomic uint64_t n_freed_gifts; /* freed by who they were sent to, some of them after their sender had died: */
	_Atomic uint64_t n_freed_of_dead;
	_Atomic uint64_t n_kinds[KILL_KIND_N];

	uint32_t n_doubts, n_groups;
	struct kill_doubt doubts[KILL_DOUBTS];
	struct kill_worker workers[KILL_WORKERS];
	_Atomic uint32_t claims[]; /* [KILL_POOLS][pool_bytes / KILL_GRANULE] */
};

struct kill_me { /* a thread of a worker, as it sees itself */
	struct kill_model *model;
	struct kill_worker *worker;
	struct kill_thread *thread;
	unsigned worker_index, thread_index;
	uint32_t incarnation;
	struct rnd rnd;
	struct mempool_client *client;
	struct mempool_pool *pools[KILL_POOLS];
};

extern const char *const kill_kind_names[KILL_KIND_N];

/** kill_model_new() - in memory shared with all processes forked later; NULL: none, said on stderr. For the process's life */
struct kill_model *kill_model_new(uint64_t pool_bytes);

/** kill_fault() - the run has failed: the first sentence stays, and the driver is woken. Never returns in a worker */
_Noreturn void kill_fault(const struct kill_me *me, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** kill_pool_name() - of a common pool; kill_own_pool_name() - that one thread creates and destroys */
const char *kill_pool_name(unsigned pool);
void kill_own_pool_name(char name[static 32], unsigned worker, unsigned thread);
void kill_key_name(char name[static 32], unsigned worker, unsigned thread, unsigned key);

/* ---- operations ---- */

/** kill_begin() - @me is about to call the library. Blocks, sizes and offsets of the operation are set before */
void kill_begin(struct kill_me *me, enum kill_kind kind, unsigned pool);
/** kill_end() - all that follows from the answer is written down */
void kill_end(struct kill_me *me, uint64_t offset, uint64_t size, int result);

/* ---- patterns ---- */

void kill_fill(void *at, uint64_t tag, uint32_t size);
/** kill_bad_byte() - of the first @n_bytes of a block filled with @tag and @size; -1: none */
int64_t kill_bad_byte(const void *at, uint64_t tag, uint32_t size, uint32_t n_bytes);

/* ---- claims ---- */

/** kill_claim() - the block was given to @me: nobody else may have it */
void kill_claim(struct kill_me *me, unsigned pool, uint64_t offset, uint32_t size);
/** kill_unclaim() - it is about to be given up */
void kill_unclaim(struct kill_me *me, unsigned pool, uint64_t offset, uint32_t size);
/** kill_unclaim_left() - likewise, what an earlier @incarnation of the worker got, and may have been about to give up */
void kill_unclaim_left(struct kill_me *me, unsigned pool, uint64_t offset, uint32_t size, uint32_t incarnation);
/** kill_claim_key() - a block of @me is about to be published; @is_found: or was, by an earlier incarnation */
void kill_claim_key(struct kill_me *me, uint64_t offset, uint32_t size, unsigned key, bool is_found);
/** kill_unclaim_key() - it is about to cease to be the pool's; @is_lost: or never was */
void kill_unclaim_key(struct kill_me *me, uint64_t offset, uint32_t size, unsigned key, bool is_lost);

/* A tag tells who made the block: the same never comes again. */
static inline uint64_t kill_tag_make(unsigned worker, unsigned thread, uint32_t incarnation, uint64_t serial)
{
	return ((uint64_t)(worker + 1) << 56 | (uint64_t)thread << 52 | (uint64_t)(incarnation & 0xfffff) << 32 |
		(serial & 0xffffffff)) &
	       (UINT64_MAX >> KILL_STATE_BITS);
}

static inline uint32_t kill_tag_incarnation(uint64_t tag)
{
	return tag >> 32 & 0xfffff;
}

static inline unsigned kill_tag_worker(uint64_t tag)
{
	return (unsigned)(tag >> 56 & 0xf) - 1;
}

static inline unsigned kill_tag_thread(uint64_t tag)
{
	return tag >> 52 & 0xf;
}

static inline bool kill_is_dead(const struct kill_model *model, unsigned worker, uint32_t incarnation)
{
	return atomic_load(&model->workers[worker].incarnation) != incarnation ||
	       atomic_load(&model->workers[worker].doomed) == incarnation;
}

static inline enum kill_state kill_state(const struct kill_block *block)
{
	return (enum kill_state)(atomic_load(&block->word) & ((1u << KILL_STATE_BITS) - 1));
}

static inline uint64_t kill_tag(const struct kill_block *block)
{
	return atomic_load(&block->word) >> KILL_STATE_BITS;
}

static inline uint64_t kill_word(uint64_t tag, enum kill_state state)
{
	return tag << KILL_STATE_BITS | state;
}

static inline void kill_set(struct kill_block *block, uint64_t tag, enum kill_state state)
{
	atomic_store(&block->word, kill_word(tag, state));
}

static inline uint64_t kill_mail_word(unsigned worker, unsigned thread, uint32_t incarnation,
				      enum kill_mail_state state)
{
	return (uint64_t)incarnation << 32 | (uint64_t)thread << 16 | (uint64_t)worker << 8 | state;
}

/* ---- waiting ---- */

/** kill_wait() - while @word reads @value, for at most @ms. Return: false when the time is over */
bool kill_wait(_Atomic uint32_t *word, uint32_t value, int ms);
void kill_wake(_Atomic uint32_t *word);
