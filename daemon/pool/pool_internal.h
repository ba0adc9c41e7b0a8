#pragma once
// SPDX-License-Identifier: MIT
/*
 * pool_internal - what the files of the pool share
 *
 *   make.c        a new pool; recover.c: one that a daemon of before left
 *   pool.c        life, the mutex, growth
 *   member.c      join and leave
 *   block.c       alloc, free, publish, take: what requests do to blocks; realloc.c
 *   ownership.c   whose a block is: lists, charges, the end of a block
 *   hold.c        retains
 *   result.c      answers kept, so that no request is executed twice; recent.c: the last operations, for people
 *   block_name.c  names of blocks
 *   cursor.c      walks over the map that let go of the mutex on the way
 *   picture.c     what is shown; explain.c: the sentence of a full pool
 *   decay.c       pages given back
 *   check.c       the books verified and printed
 *   lease.h       leases: a dozen files of their own
 */
#include <assert.h>
#include <time.h>

#include "alloc/intent.h"
#include "pool/lease.h"
#include "pool/pool.h"

#define POOL_OWNER	 (EXTENT_OWNER_NONE - 1) /* owner number of what is the pool's */
#define POOL_MEMBERS_MAX 65536u			 /* sessions with the pool open; simply picked */
#define POOL_HOLDS_MAX	 (1u << 24)		 /* retained blocks, each counted once a session; simply picked */
#define POOL_NAMES_MAX	 (1u << 22)		 /* simply picked */
#define POOL_BATCHES_MAX (1u << 22)		 /* simply picked */
#define POOL_FREED_N	 1024u			 /* freed offsets remembered; simply picked */
#define POOL_NONE	 UINT32_MAX		 /* no record */
#define POOL_NOTES	 32u			 /* words that one operation on one block changes, and more */

/*
 * ---- records in the ledger ----
 *
 * Each has one word that says whether it counts, stored to by intent_set(). A new record is filled first, and that word
 * stored last; what is beside it is only ever changed while the record does not count. A record that was given back is not
 * taken again in the same operation: taking the operation back would bring it to life with another's fields.
 */

enum member_state {
	MEMBER_UNUSED = 0,
	MEMBER_ACTIVE,
	MEMBER_ENDING, /* its blocks and retains are being dropped; whatever is left of them then still has to be */
};

struct member_record {
	uint64_t session;
	uint64_t since_s;
	uint32_t uid;
	int32_t pid;
	_Atomic uint64_t state; /* enum member_state: whether it counts */
	uint32_t unused_next;	/* derived */
	uint32_t reserved;
	char command[24];
};

struct hold_record {	    /* one session retains one block, n times */
	_Atomic uint64_t n; /* 0: the record is unused */
	uint32_t extent;
	uint32_t member;
	uint32_t block_prev, block_next;   /* derived: holds of one block; of an unused one, block_next is the next */
	uint32_t member_prev, member_next; /* derived: holds of one member */
};

struct result_record {		 /* what one request was answered */
	_Atomic uint64_t id;	 /* of the request; 0: none; RESULT_UNDER_WAY: a batch that has got so far */
	_Atomic uint64_t what;	 /* bits 0-31 outcome; 32-63 first record of its offsets, or POOL_NONE */
	_Atomic uint64_t offset; /* of the block; of a batch of frees: the first that failed */
	_Atomic uint64_t size;	 /* of the block; of a batch: how many are done */
	_Atomic uint64_t old_size;
	_Atomic uint64_t
		flags; /* bits 0-31 RESULT_MOVED, or of a batch of frees how many failed; 32-39 what was asked */
};

struct result_ring { /* of one member, same index: request @id in slot @id % POOL_RESULTS_N */
	struct result_record records[POOL_RESULTS_N];
};

struct batch_record { /* offsets of one batch, in a chain. It counts if a result leads to it */
	uint64_t offsets[14];
	uint32_t n;
	uint32_t next; /* POOL_NONE; of an unused one: the next of those */
};

struct recent_record {	  /* one operation */
	uint64_t time_ns; /* CLOCK_REALTIME */
	uint64_t session;
	uint64_t offset, size;
	int32_t pid;
	int16_t outcome; /* as its function's; a negative errno too */
	uint16_t what;	 /* enum recent_what */
};

struct name_record {
	_Atomic uint64_t n_bytes; /* 0: the record is unused */
	uint64_t hash;		  /* derived */
	uint8_t name[NAME_BYTES_MAX];
	uint32_t extent;
	uint32_t child[2]; /* derived: the tree of names; of an unused one, child[0] is the next */
};

#define RESULT_UNDER_WAY (UINT64_C(1) << 63)
#define RESULT_MOVED	 UINT64_C(1)
#define RESULT_BATCH	 0x80u /* beside an enum recent_what: of what was asked */
#define RECENT_N	 4096u

/* ---- the pool ---- */

struct record_pool { /* indexes of one table of the ledger; pool mutex */
	enum ledger_table_id table;
	uint32_t link_at; /* where an unused record has the index of the next, in bytes */
	uint32_t unused;  /* chain; POOL_NONE */
	uint32_t n_high;  /* indexes ever used */
	uint32_t n;	  /* in use */
};

struct cursor { /* a place in the map that stays valid while others change it; see cursor.c */
	uint64_t offset;
	uint32_t extent; /* near it; never an unused index */
	struct cursor *next;
};

struct pool {
	/* as made by pool_new() */
	const struct pool_env *env;
	uint64_t id;
	struct pool_options options; /* sizes rounded up to the granule */
	uint64_t created_s;
	uint64_t name_seed;	       /* so that nobody can choose names that share a path in the tree */
	uint32_t guard_bytes;	       /* before each block: POOL_GUARD_BYTES or 0 */
	struct quota_account *account; /* of options.uid */

	_Atomic uint32_t n_refs;

	/*
	 * The length of the data segment: changed with this lock (as writer) *and* the mutex. Who backs pages without the
	 * mutex holds it as reader. Taken before the mutex.
	 */
	pthread_rwlock_t length_lock;

	/* Whoever checks the books has the mutex for long, and this around it; so has who must not wait for that. Taken first. */
	pthread_mutex_t check_mutex;
	_Atomic bool is_being_checked; /* event loops let workers wait */

	/* all below */
	pthread_mutex_t mutex;
	pthread_cond_t scan_ended;   /* lease.n_ended has risen */
	_Atomic uint32_t n_waiting;  /* for the mutex: those who work in steps let them go first. Any thread */
	_Atomic pthread_t locked_by; /* 0: nobody; for assertions */

	bool is_destroyed;
	struct segment data;
	struct segment books; /* its descriptor is the ledger's */
	struct ledger ledger;
	struct extent_map map;
	struct backing backing; /* bits: see backing.h */

	struct pool_member *first, *last; /* by rising session id */
	struct pool_member **members;	  /* [n_members_alloced] by index; NULL: unused */
	uint32_t n_members_alloced;
	struct record_pool member_records;
	struct record_pool holds;
	struct record_pool names;
	struct record_pool batches;
	struct record_pool slab_records;
	uint32_t name_root;

	struct pool_holding own;    /* the pool's blocks */
	struct pool_holding nobody; /* blocks without an owner, retained by somebody */
	struct extent_owner orphan_slabs;
	struct lease lease;
	uint64_t freed[POOL_FREED_N];

	uint64_t peak_used;
	uint64_t alloc_total, free_total, failed_total;

	struct cursor *cursors;
	bool decay_pending;	    /* there may be large gaps with pages */
	uint64_t decay_at_ms;	    /* CLOCK_REALTIME; when to look; with decay_pending */
	bool decay_walking;	    /* a walk is under way: */
	bool decay_again;	    /* a gap has grown meanwhile, maybe behind it */
	struct cursor decay_cursor; /* in cursors */
	uint64_t decay_young_ms;    /* when the first of the gaps passed by is old enough; UINT64_MAX */
};

/* ---- the mutex: pool.c ---- */

void pool_lock(struct pool *pool);
void pool_unlock(struct pool *pool);
/** pool_lock_after_others() - who works in steps begins each with this: those who wait go first, for a bounded time */
void pool_lock_after_others(struct pool *pool);

/** pool_wait() - without the mutex until @cond is signalled, or for no reason */
void pool_wait(struct pool *pool, pthread_cond_t *cond);

static inline void pool_hand_over(struct pool *pool)
{
	pool_unlock(pool);
	pool_lock_after_others(pool);
}

/* A figure is counted with the operation, or not at all. */
static inline void keep_figure(struct pool *pool, _Atomic uint64_t *word, uint64_t value)
{
	if (atomic_load_explicit(word, memory_order_relaxed) != value)
		intent_set(&pool->ledger, word, value);
}

/* What was done since the last commit stays, whatever comes; letting go of the mutex does this too. */
static inline void pool_commit(struct pool *pool)
{
	struct ledger_header *header = pool->ledger.header;

	keep_figure(pool, &header->free_total, pool->free_total);
	keep_figure(pool, &header->failed_total, pool->failed_total);
	keep_figure(pool, &header->peak_used, pool->peak_used);
	keep_figure(pool, &header->slot_alloc_total, pool->lease.alloc_total);
	keep_figure(pool, &header->slot_free_total, pool->lease.free_total);
	if (pool->ledger.n_noted)
		LEASE_STEP("commit", NULL);
	intent_commit(&pool->ledger);
	if (pool->lease.n_released)
		slot_release_now(pool);
}

static inline bool pool_is_locked(const struct pool *pool)
{
	return pthread_equal(atomic_load_explicit(&pool->locked_by, memory_order_relaxed), pthread_self());
}

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t map_end(const struct pool *pool)
{
	return pool->map.first_offset + pool->map.total_bytes;
}

/* Blocks and live slots; these as of when all words were last read. */
static inline uint64_t used_bytes(const struct pool *pool)
{
	uint64_t leased = pool->map.leased_bytes, live = pool->lease.live_bytes;

	return pool->map.total_bytes - pool->map.free_bytes - leased + (live < leased ? live : leased);
}

static inline void note_peak(struct pool *pool)
{
	if (used_bytes(pool) > pool->peak_used)
		pool->peak_used = used_bytes(pool);
}

static inline uint32_t now_s(void)
{
	return (uint32_t)time(NULL); /* reads one word of the vDSO: 3 ns */
}

struct step { /* work of at most POOL_STEP_NS */
	uint64_t end_ns;
	unsigned n_items;
};

#define STEP_ITEMS 32u /* between two looks at the clock: of about 1 us at worst, and a look is 25 ns */

static inline struct step step_begin(void)
{
	return (struct step){.end_ns = clock_ns(CLOCK_MONOTONIC) + POOL_STEP_NS};
}

static inline bool step_is_over_now(const struct step *step)
{
	return clock_ns(CLOCK_MONOTONIC) >= step->end_ns;
}

static inline bool step_is_over(struct step *step)
{
	return ++step->n_items % STEP_ITEMS == 0 && step_is_over_now(step);
}

/* ---- make.c ---- */

/** pool_segment_bytes_for() - length of the data segment of @total bytes */
uint64_t pool_segment_bytes_for(uint64_t total);
/** pool_shape() - of the books of a pool that may grow to @max_bytes */
struct ledger_shape pool_shape(uint64_t max_bytes);
/** pool_init() - the heap's part, without objects; @pool has been zeroed. Return: 0; POOL_E_INVALID; -ENOMEM, -errno: nothing is left */
int pool_init(struct pool *pool, const struct pool_env *env, uint64_t id, const struct pool_options *options)
	MUST_CHECK;
/** pool_close() - frees it; without members. Objects whose names it still has are removed */
void pool_close(struct pool *pool);

/* ---- records: pool.c ---- */

/** record_reserve() - make sure that the next record_take() finds one. Return: 0; -ENOSPC */
int record_reserve(struct pool *pool, const struct record_pool *records) MUST_CHECK;
/** record_reserve_n() - the same for the next @n */
int record_reserve_n(struct pool *pool, const struct record_pool *records, uint32_t n) MUST_CHECK;
uint32_t record_take(struct pool *pool, struct record_pool *records);
void record_give(struct pool *pool, struct record_pool *records, uint32_t index);

static inline struct member_record *member_record(const struct pool *pool, uint32_t index)
{
	return ledger_at(&pool->ledger, LEDGER_MEMBERS, index);
}

static inline struct hold_record *hold_record(const struct pool *pool, uint32_t index)
{
	return ledger_at(&pool->ledger, LEDGER_HOLDS, index);
}

static inline struct name_record *name_record(const struct pool *pool, uint32_t index)
{
	return ledger_at(&pool->ledger, LEDGER_NAMES, index);
}

/* ---- ownership.c ---- */

struct pool_holding *holding_of(struct pool *pool, uint32_t owner);
struct quota_account *account_of(const struct pool *pool, uint32_t owner);
/** session_of() - 0: the pool, or nobody */
uint64_t session_of(const struct pool *pool, uint32_t owner);

/** charge_blocks() - Return: 0; POOL_E_QUOTA, and nothing was charged */
int charge_blocks(const struct pool *pool, struct quota_account *account, uint64_t n_blocks, uint64_t n_bytes)
	MUST_CHECK;
void charge_blocks_always(const struct pool *pool, struct quota_account *account, uint64_t n_blocks, uint64_t n_bytes);
void uncharge_blocks(const struct pool *pool, struct quota_account *account, uint64_t n_blocks, uint64_t n_bytes);

/** block_begin() - a TAKEN extent becomes a block of @owner; its charge is made already */
void block_begin(struct pool *pool, uint32_t extent, uint32_t owner);
/** block_pass() - to another owner's list; charges are the caller's */
void block_pass(struct pool *pool, uint32_t extent, uint32_t owner);
/** block_end() - without holds any more: uncharge it, give its extent back */
void block_end(struct pool *pool, uint32_t extent);
/** block_drop_owner() - the owner's hold ends: with other holders it becomes nobody's, else it ends. Return: true if it ended */
bool block_drop_owner(struct pool *pool, uint32_t extent);
/** extent_drop() - give back a TAKEN extent */
void extent_drop(struct pool *pool, uint32_t extent);
/** extent_give_slab() - give back a LEASED extent that hangs on @list; its charge is given back already */
void extent_give_slab(struct pool *pool, uint32_t extent, struct extent_owner *list);
/** block_begin_slot() - a record for a slot, owned by @owner. Return: 0; -ENOSPC */
int block_begin_slot(struct pool *pool, uint64_t offset, uint64_t size, uint32_t owner, uint32_t *extentp) MUST_CHECK;
/** block_cancel_slot() - it goes as if it had never been; nobody but the owner holds it */
void block_cancel_slot(struct pool *pool, uint32_t extent);
/** slot_describe() - of slot.c */
void slot_describe(const struct pool *pool, const struct slot *slot, struct pool_block *blockp);

/* where a client has the block of @extent, and the other way around */
static inline uint64_t block_offset(const struct pool *pool, uint32_t extent)
{
	return extent_offset(&pool->map, extent) + pool->guard_bytes;
}
/** block_usable() - bytes that its owner may write */
uint64_t block_usable(const struct pool *pool, uint32_t extent);
uint64_t block_requested(const struct pool *pool, uint32_t extent);

/* ---- block.c, for realloc.c ---- */

struct shape { /* of the extent for a block */
	uint64_t size;
	uint32_t slack;
};

/** shape_of() - Return: false: no pool is that large */
bool shape_of(const struct pool *pool, uint64_t requested, struct shape *shapep);
/** block_remember_freed() - @offset, as clients have it, was a block's: until many others were freed, who frees it again is told so */
void block_remember_freed(struct pool *pool, uint64_t offset);
/** block_find() - the block that a client calls @offset. Return: 0; POOL_E_NO_BLOCK, POOL_E_FREED, POOL_E_DESTROYED */
int block_find(const struct pool *pool, uint64_t offset, uint32_t *extentp) MUST_CHECK;
/** block_alloc() - @n new blocks of @owner, all or none, for @asker; lets go of the mutex only with POOL_MAY_BLOCK
 *  @extents: out, [n]. Return: as pool_alloc() */
int block_alloc(struct pool_member *asker, uint32_t owner, size_t n, const uint64_t sizes[], uint64_t alignment,
		unsigned flags, uint64_t extents[]) MUST_CHECK;
/** block_describe() - fills all but old_size and moved */
void block_describe(const struct pool *pool, uint32_t extent, struct pool_block *blockp);
/** note_failure() - counts @r if it is an allocation refused for lack of anything. Return: @r */
int note_failure(struct pool *pool, int r);

/** member_recover() - members of the records. Return: 0; -ENOMEM; POOL_E_DAMAGED */
int member_recover(struct pool *pool) MUST_CHECK;

/* ---- hold.c ---- */

/** hold_recover() - chains and flags of the records; after the map. Return: false: damaged */
bool hold_recover(struct pool *pool);

/** hold_find() - the retains of @member on a block; POOL_NONE */
uint32_t hold_find(const struct pool *pool, uint32_t extent, uint32_t member);
/** hold_add() - one retain more. Return: 0; -ENOSPC no room in the books */
int hold_add(struct pool *pool, uint32_t extent, struct pool_member *member) MUST_CHECK;
/** hold_drop() - @n retains of it less; with the last hold of all, the block ends. Return: true if it ended */
bool hold_drop(struct pool *pool, uint32_t hold, uint32_t n);
/** hold_count() - retains of all sessions on a block */
uint32_t hold_count(const struct pool *pool, uint32_t extent);
unsigned hold_check(const struct pool *pool, FILE *report);

/* ---- result.c: under the mutex, by the member's session ---- */

/**
 * result_find() - whether the request that @member is executing was answered before; *rp and *blockp (or NULL) are the answer
 * The same id with another request is a client that breaks the rules: POOL_E_INVALID.
 */
bool result_find(struct pool_member *member, enum recent_what what, int *rp, struct pool_block *blockp);
/** result_put() - the answer to it, as part of the operation. POOL_E_SLOW is none. Return: @r */
int result_put(struct pool_member *member, enum recent_what what, int r, const struct pool_block *block);
/** result_take_batch() - records for the offsets of a batch of @n, in a chain. Return: 0; -ENOSPC */
int result_take_batch(struct pool_member *member, size_t n, uint32_t *batchp) MUST_CHECK;
bool result_find_batch(struct pool_member *member, enum recent_what what, int *rp, uint64_t offsets[], size_t n);
/**
 * result_put_batch() - the answer to a batch; @batch is given back unless @r is 0
 * @sizes: that were asked for, [n], to be told by the log; NULL: they are no blocks
 */
int result_put_batch(struct pool_member *member, enum recent_what what, int r, uint32_t batch, size_t n,
		     const uint64_t offsets[], const uint64_t sizes[]);

struct free_progress { /* of a batch of frees */
	size_t n_done;
	int first_outcome;
	uint64_t first_failed, n_failed;
};
/** result_find_progress() - of a batch of @n. Return: 0; POOL_E_INVALID: as result_find() */
int result_find_progress(struct pool_member *member, size_t n, struct free_progress *progress) MUST_CHECK;
/** result_put_progress() - how far it is, as part of the operation; @is_done: all of it */
void result_put_progress(struct pool_member *member, const struct free_progress *progress, bool is_done);
/** result_begin() - of a new member's @index: whatever stands in its ring is nobody's */
void result_begin(struct pool *pool, uint32_t index);
/** result_forget_one() - the next of a member that leaves: with a batch, some hundred records. Return: false: there is none */
bool result_forget_one(struct pool_member *member);
/** result_recover() - after a restart: batches without a result are unused; results are judged. Return: false: damaged */
bool result_recover(struct pool *pool);

static inline struct result_ring *result_ring(const struct pool *pool, uint32_t member)
{
	return ledger_at(&pool->ledger, LEDGER_RESULTS, member);
}

/* ---- recover.c ---- */

/** books_say_why() - a ledger could not be opened: what LEDGER_E_* or -errno means for people. @header: as ledger_peek() read it */
void books_say_why(int r, const struct ledger_header *header, const char *name, char *why, size_t n_why);

/* ---- recent.c ---- */

/** recent_list() - as pool_recent(), from the ledger */
uint32_t recent_list(const struct ledger *ledger, uint64_t after, struct pool_recent out[], uint32_t n_max);

/** recent_add() - note an operation of @member (NULL: nobody's) for people */
void recent_add(struct pool *pool, const struct pool_member *member, enum recent_what what, int outcome,
		uint64_t offset, uint64_t size);

/* ---- block_name.c ---- */

/** block_name_recover() - as hold_recover() */
bool block_name_recover(struct pool *pool);
/** block_name_find() - Return: record; POOL_NONE */
uint32_t block_name_find(const struct pool *pool, const void *name, size_t n_bytes);
/** block_name_add() - not taken, and record_reserve()d */
void block_name_add(struct pool *pool, uint32_t extent, const void *name, size_t n_bytes);
void block_name_remove(struct pool *pool, uint32_t extent);
unsigned block_name_check(const struct pool *pool, FILE *report);

/* ---- cursor.c ---- */

/** cursor_begin() - at the first extent; @hint: an index near @offset, or any number */
void cursor_begin(struct pool *pool, struct cursor *cursor, uint64_t offset, uint32_t hint);
void cursor_end(struct pool *pool, struct cursor *cursor);
/** cursor_seek() - go to the extent that contains its offset. Return: false: the step was over before that; seek again */
bool cursor_seek(struct pool *pool, struct cursor *cursor, struct step *step);
/** cursor_move() - index @from is about to vanish, or has, and @to is beside it */
void cursor_move(struct pool *pool, uint32_t from, uint32_t to);
/** cursor_fix() - before an operation that may swallow the neighbours of @extent, which itself stays */
static inline void cursor_fix(struct pool *pool, uint32_t extent)
{
	if (!pool->cursors)
		return;
	cursor_move(pool, extent_links(&pool->map, extent)->prev, extent);
	cursor_move(pool, extent_links(&pool->map, extent)->next, extent);
}

/* ---- decay.c ---- */

#define DECAY_BYTES (128u << 10) /* smaller gaps keep their pages: they are reused soon, and a new page costs 2 us */

/** decay_note() - a gap has grown */
void decay_note(struct pool *pool, uint32_t gap);
/**
 * reclaim() - memory is short: give back pages of gaps, whatever their age, but of the gap at offset @except
 * Lets go of the mutex on the way. Return: bytes given back; stops at @wanted.
 */
uint64_t reclaim(struct pool *pool, uint64_t except, uint64_t wanted);

/* ---- picture.c ---- */

/** backed_bytes() - of the data segment, by the kernel's word */
uint64_t backed_bytes(const struct pool *pool);
uint32_t top_holders(struct pool *pool, struct pool_holder holders[], uint32_t n_max); /* under the mutex */
/** top_cacher() - takes the mutex. Return: bytes in all magazines, when words were last read; @topp: whose has most of it */
uint64_t top_cacher(struct pool *pool, struct pool_holder *topp);

/* ---- check.c ---- */

/** check_fault() - a line of a report, "0x…: what", that tells an offset; others are about no place in particular. Return: 1 */
unsigned check_fault(FILE *report, uint64_t offset, const char *format, ...) PRINTF(3, 4);
