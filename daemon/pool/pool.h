#pragma once
// SPDX-License-Identifier: MIT
/*
 * pool - a named region: its data segment, its ledger, its extents, and who holds what of it
 *
 * Knows sessions as numbers with a uid, a pid and a command; not connections, frames or threads of the server.
 *
 * Threads: every function may be called from any thread; each takes the pool's mutex itself and holds it for a bounded
 * time. What could take long (backing much memory, ending a session with many blocks, punching, walking the map) works
 * in steps of at most POOL_STEP_NS under the mutex, hands it over between steps, and must run off the event loops:
 * calls that find this out themselves return POOL_E_SLOW unless POOL_MAY_BLOCK was given.
 * Lock order: registry, pool, then the leaves quota and budget. See daemon/README.md.
 *
 * Ownership: a pool is counted; the registry has one reference, each member one, each running call's caller one.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include "alloc/extent.h"
#include "pool/backing.h"
#include "pool/budget.h"
#include "pool/quota.h"
#include "pool/segment.h"
#include "proto/name.h"

#define POOL_FIRST	   4096u /* offset of the first usable byte */
#define POOL_GUARD_BYTES   16u	 /* before, and at least as much after, each block of a guarded pool */
#define POOL_ALIGNMENT_MAX (2u << 20)
#define POOL_SLOW_BYTES	   (1u << 20) /* backing more than this at once (110 us per MiB) is slow */
#ifndef POOL_STEP_NS
#define POOL_STEP_NS 500000u /* half of the promised 1 ms: the last item of a step may overrun */
#endif

enum pool_outcome {	 /* foreseen; the server's table turns them into status and sentence */
	POOL_E_FULL = 1, /* no gap is large enough */
	POOL_E_UNBACKED, /* the kernel, or the budget, has no pages for it */
	POOL_E_QUOTA,	 /* of the uid */
	POOL_E_NO_BLOCK, /* no block starts there */
	POOL_E_FREED,	 /* known to be free already */
	POOL_E_NOT_OWNER,
	POOL_E_NOT_ALLOWED, /* by uid, gid and mode */
	POOL_E_STALE,	    /* take: that session does not own it */
	POOL_E_NAME_TAKEN,
	POOL_E_NO_NAME, /* nothing has that name */
	POOL_E_PINNED,	/* realloc: named or held elsewhere, and does not fit in place */
	POOL_E_NOT_EMPTY,
	POOL_E_DESTROYED,
	POOL_E_SHRINK,	  /* resize below the present size */
	POOL_E_ABOVE_MAX, /* resize above max_size */
	POOL_E_INVALID,	  /* an argument that no pool could serve */
	POOL_E_DAMAGED,	  /* its books cannot be right, or its objects are not there: not recovered */
	POOL_E_NAMED,	  /* publish: the block has another name already */
	POOL_E_NO_LEASES, /* every block of this pool is served by request */
	POOL_E_NO_HEAP,	  /* no number is free */
	POOL_E_SLOW,	  /* call again with POOL_MAY_BLOCK, off the loop; nothing changed */
	POOL_OUTCOME_N,
};

enum {
	POOL_MAY_BLOCK = 1
};

struct pool_identity { /* who asks; filled by the server from credentials */
	uint64_t session;
	uint32_t uid;
	uint32_t gid;
	const uint32_t *groups; /* [n_groups], supplementary */
	uint32_t n_groups;
	int32_t pid;
	char command[24];
};

struct pool_options {
	uint8_t name[NAME_BYTES_MAX];
	uint32_t n_name_bytes;	 /* 0: private */
	uint64_t size, max_size; /* bytes; max_size 0: size */
	uint32_t uid, gid, mode;
	uint32_t lifetime, fill, lease; /* the public enums' values */
	bool guard, reserve;
};

struct pool_holding {		  /* blocks of one owner */
	struct extent_owner list; /* newest first */
	uint32_t oldest;	  /* its end: the block that was there first; EXTENT_NONE */
};

struct pool_call {	/* the request that a member is executing */
	uint64_t id;	/* 0: none that will ever be asked for again */
	uint64_t acked; /* answers to ids up to this have arrived */
	uint64_t scan; /* after POOL_E_SLOW: number of the scan for empty slabs that answers it; 0: it waits for none */
};

struct pool_member { /* a session that has the pool open; made by pool_join(), gone after the last pool_leave_step() */
	struct pool *pool; /* counted reference */
	uint64_t session;
	uint32_t index; /* of its record: the owner number of its blocks */
	struct quota_account *account;
	struct pool_holding blocks; /* pool mutex */
	uint32_t first_hold;	    /* pool mutex: chain of its retains */
	uint64_t n_holds;	    /* pool mutex: blocks it retains */
	struct extent_owner slabs;  /* pool mutex: granted to its heaps */
	uint32_t first_heap;	    /* pool mutex: chain of its heaps; 0: none */
	bool is_sweeping; /* pool mutex: its heaps are ending: those from this one on are still to be disowned, */
	uint32_t disown_at;
	uint32_t sweep_at;  /* then slabs from this one on are still to be read */
	uint32_t forget_at; /* pool mutex: it is leaving: answers from this one on are still to be forgotten */
	uint64_t since_s;
	struct pool_call call;		 /* its session's: one request at a time */
	struct pool_member *prev, *next; /* pool mutex: all members, by rising session id */
};

struct pool; /* pool.c and its neighbours; see pool_internal.h */

/* ---- life ---- */

struct pool_env { /* what all pools of a daemon share; outlives them */
	const char *instance;
	struct quota *quota;
	struct budget *budget;
	uint64_t decay_ms; /* how long a large gap keeps its pages */
	/* a pool has something to punch later; any thread, under its mutex: must not block */
	void (*decay_wanted)(void *arg);
	void *decay_arg;
	/* of what went wrong in a pool; NULL: nobody listens. Any thread, under its mutex: must not block */
	void (*tell)(void *arg, const char *sentence);
	void *tell_arg;
};

/** pool_new() - create segments and books; @id was never used before. May take long with reserve. Return: 0, POOL_E_*, -errno; nothing is left on failure */
int pool_new(struct pool **poolp, const struct pool_env *env, uint64_t id, const struct pool_options *options)
	MUST_CHECK;

/**
 * pool_recover() - the pool of a ledger that a daemon of before left, whenever it was killed
 * @name: of the ledger's object
 * @why:  out, [n_why]: what is wrong, unless 0 is returned
 *
 * Members come back as they were, quotas charged: pool_member_of() finds them. Everything that can be derived is, and
 * verified. Being killed in the middle changes nothing. O(blocks), 0.1 s for a million.
 * Return: 0; POOL_E_DAMAGED: nothing was changed or removed; POOL_E_UNBACKED; -errno
 */
int pool_recover(struct pool **poolp, const struct pool_env *env, const char *name, char *why, size_t n_why) MUST_CHECK;
/**
 * pool_study() - as pool_recover(), from private copies of a ledger (@fd) and of its lease segment (@lease_fd; -1: it is not there; consumed), without the data segment: to be looked at (pool_check(),
 * pool_stats(), pool_recent(), …), and let go of by pool_keep(). Ownership: @fd is consumed. Return: as pool_recover()
 */
int pool_study(struct pool **poolp, const struct pool_env *env, int fd, int lease_fd, char *why, size_t n_why)
	MUST_CHECK;
/** pool_keep() - @pool's only reference is let go of; objects stay for the next daemon. Return: NULL */
struct pool *pool_keep(struct pool *pool);
/** pool_books_name() - of the ledger's object, for pool_recover() */
const char *pool_books_name(const struct pool *pool);
const char *pool_data_name(const struct pool *pool);
const char *pool_lease_name(const struct pool *pool); /* "": it has no leases */

struct pool *pool_ref(struct pool *pool);
/** pool_unref() - the last one frees mappings and descriptors (long for large pools: off the loop). Return: NULL */
struct pool *pool_unref(struct pool *pool);

struct pool_holder {
	uint64_t session; /* 0: the pool itself */
	int32_t pid;
	uint32_t uid;
	char command[24];
	uint64_t n_blocks, n_bytes;
	uint64_t oldest_s; /* 0: none */
};

struct pool_warning { /* what a destroy or a session's end left behind, for log and reply */
	uint64_t n_blocks, n_bytes;
	uint32_t n_holders; /* filled of holders, most bytes first */
	struct pool_holder holders[4];
};

/**
 * pool_survey() - what pool_destroy_with() needs to know and takes long to find out, in steps: whose slots are live, for its
 * warning; with @if_empty, empty slabs are taken back, so that it has only those to look through that may not be empty, and if those
 * are many, it only has to see that no slot was freed since
 */
void pool_survey(struct pool *pool, bool if_empty);
/**
 * pool_destroy() - from now on every call answers POOL_E_DESTROYED; segments are unlinked, charges given back
 * Idempotent steps: the state first, the ledger's name last. Return: 0; POOL_E_NOT_EMPTY (only with @if_empty); POOL_E_DESTROYED.
 */
int pool_destroy(struct pool *pool, bool if_empty, struct pool_warning *warning) MUST_CHECK;
/** pool_destroy_with() - the same after a pool_survey(): for a bounded time. @commit is called under the mutex, when nothing stands in the way any more and nothing has happened yet */
int pool_destroy_with(struct pool *pool, bool if_empty, struct pool_warning *warning, void (*commit)(void *arg),
		      void *arg) MUST_CHECK;

/** pool_may_open(), pool_may_manage() - rights as a file's: r and w by mode; the pool's uid, the daemon's, or root */
bool pool_may_open(const struct pool *pool, const struct pool_identity *who);
bool pool_may_manage(const struct pool *pool, const struct pool_identity *who);

uint64_t pool_id(const struct pool *pool);
const struct pool_options *pool_options(const struct pool *pool); /* as created; name not NUL-terminated */
uint64_t pool_created_s(const struct pool *pool);		  /* seconds since 1970 */
bool pool_is_private(const struct pool *pool);
int pool_data_fd(const struct pool *pool);	      /* of the data segment; not consumed */
uint64_t pool_segment_bytes(const struct pool *pool); /* first + max_size in whole pages */

/* ---- members ---- */

/** pool_join() - @who opens the pool; once per session. Return: 0; POOL_E_DESTROYED; -ENOSPC (books), -ENOMEM */
int pool_join(struct pool *pool, const struct pool_identity *who, struct pool_member **memberp) MUST_CHECK;

/** pool_member_of() - the membership of @session, after a recovery. Return: NULL: none */
struct pool_member *pool_member_of(struct pool *pool, uint64_t session);

/**
 * pool_leave_step() - one step of a session's end: drops holds for at most POOL_STEP_NS; with the last, @member is freed
 * From the first step on the member executes nothing else. Blocks left with other holders, or fallen to the pool, stay.
 * Return: true = more to do. @reportp counts what was the session's own (blocks that nobody else held: the leak report).
 */
bool pool_leave_step(struct pool_member *member, struct pool_warning *report);

/*
 * ---- blocks ----
 *
 * Each returns 0, POOL_E_*, or -errno, and changes nothing unless it returns 0. What changes anything is executed exactly
 * once for each request id in member->call: the same id again, also after a restart, gets the answer of the first time. The
 * ids of one member rise, and it asks again only for the last POOL_RESULTS_N of them.
 */
#define POOL_RESULTS_N 128u

struct pool_block {
	uint64_t offset;   /* as the client knows it */
	uint64_t size;	   /* usable bytes */
	uint64_t old_size; /* realloc */
	bool moved;	   /* realloc */
	uint64_t owner;	   /* session; 0 the pool or nobody */
	uint64_t origin;
};

int pool_alloc(struct pool_member *member, uint64_t size, uint64_t alignment /* 0: 16 */, unsigned flags,
	       struct pool_block *blockp) MUST_CHECK;
/** pool_alloc_batch() - all or none; @offsets [n] out, of no meaning unless 0 is returned; @n up to 4096: one hold of the mutex */
int pool_alloc_batch(struct pool_member *member, size_t n, const uint64_t sizes[], unsigned flags, uint64_t offsets[])
	MUST_CHECK;
int pool_free(struct pool_member *member, uint64_t offset) MUST_CHECK;
/**
 * pool_free_batch() - free all that can be freed of @offsets [n]; 0 is nothing to free. Not one operation but @n: a
 * restart in the middle goes on where it was
 * @failed: out, [n]: those that could not be freed; of those before a restart only the first
 * Return: 0; what the first failure was; POOL_E_DESTROYED
 */
int pool_free_batch(struct pool_member *member, size_t n, const uint64_t offsets[], uint64_t failed[],
		    size_t *n_failedp) MUST_CHECK;
/** pool_realloc() - in place, else (moved) a new block, the old one staying until the client frees it; @size > 0 */
int pool_realloc(struct pool_member *member, uint64_t offset, uint64_t size, unsigned flags, struct pool_block *blockp)
	MUST_CHECK;
int pool_publish(struct pool_member *member, uint64_t offset, const void *name, size_t n_name_bytes /* 0: none */)
	MUST_CHECK;
int pool_find(struct pool_member *member, const void *name, size_t n_name_bytes, bool retain, struct pool_block *blockp)
	MUST_CHECK;
int pool_retain(struct pool_member *member, uint64_t offset) MUST_CHECK;
int pool_take(struct pool_member *member, uint64_t offset, uint64_t from_session) MUST_CHECK;
int pool_inspect(struct pool_member *member, uint64_t offset, struct pool_block *blockp) MUST_CHECK;

/*
 * Leases. What the client does with a slab, it does without us; see proto/lease.h.
 */
#define POOL_SLABS_MAX 16u /* in one answer */

/** pool_lease_fd() - of the lease segment; not consumed. -1: none */
int pool_lease_fd(const struct pool *pool);
uint64_t pool_lease_bytes(const struct pool *pool);
/** pool_open_heap() - a number for one thread of the member; @marks: its client keeps lease_heap.is_foreign. Return: 0; POOL_E_NO_LEASES, POOL_E_NO_HEAP, POOL_E_DESTROYED, -errno */
int pool_open_heap(struct pool_member *member, bool marks, uint32_t *heapp) MUST_CHECK;
/**
 * pool_lease_slabs() - slabs of one size class for a heap of the member, orphans first
 * @n_wanted: 0: 1; no more than POOL_SLABS_MAX are granted
 * @ids: out, [POOL_SLABS_MAX]; *np of them, at least one
 * Return: 0; POOL_E_INVALID: not its heap, or no class; POOL_E_FULL, POOL_E_UNBACKED, POOL_E_QUOTA, POOL_E_SLOW, …
 */
int pool_lease_slabs(struct pool_member *member, uint32_t heap, uint32_t size_class, uint32_t n_wanted, unsigned flags,
		     uint32_t ids[], uint32_t *np) MUST_CHECK;
/** pool_return_slabs() - look at these, for one step: those that are empty are taken back. A hint; any numbers are safe */
void pool_return_slabs(struct pool_member *member, size_t n, const uint32_t ids[]);

/** pool_resize() - grow to @size. POOL_E_SLOW with reserve unless POOL_MAY_BLOCK */
int pool_resize(struct pool *pool, struct pool_member *asker /* or NULL */, uint64_t size, unsigned flags) MUST_CHECK;

/* ---- what is going on ---- */

struct pool_stats { /* as struct mempool_stats */
	uint64_t total, used, requested, free, largest_free, leased_idle, backed, peak_used;
	uint64_t allocations, gaps, sessions, alloc_total, free_total, failed_total;
	double fragmentation;
};

/** pool_is_long_to_read() - it has so many slots that looking at all of them belongs off the loop, or is being checked */
bool pool_is_long_to_read(struct pool *pool);
/** pool_stats() - one snapshot; works on a destroyed pool too */
void pool_stats(struct pool *pool, struct pool_stats *statsp);

/** pool_holders() - who owns most, most bytes first, the pool itself included. Return: how many were stored; O(members) */
uint32_t pool_holders(struct pool *pool, struct pool_holder holders[], uint32_t n_max);

struct pool_gap {
	uint64_t offset, size;
};
uint32_t pool_gaps(struct pool *pool, struct pool_gap gaps[], uint32_t n_max); /* largest first */

struct pool_cells {	     /* a map of @n cells; arrays of n, made by the caller */
	uint32_t n;	     /* in: wanted; out: how many there are, fewer in a tiny pool */
	uint64_t cell_bytes; /* out */
	uint64_t *used;	     /* out: bytes of live blocks in each */
	uint64_t *idle;	     /* out: bytes of leased slabs that are not live; NULL: nobody asks */
	uint32_t *holder;    /* out: index into @holders from 1 of who owns most of it; 0: none of them */
	const struct pool_holder *holders;
	uint32_t n_holders;
};
/** pool_draw() - fill @cells by one walk, in steps; off the loop */
void pool_draw(struct pool *pool, struct pool_cells *cells);

struct pool_extent {
	uint64_t offset, size;	 /* bytes of the extent, clipped to begin at the page's start */
	enum extent_state state; /* GAP, LIVE or LEASED */
	uint64_t block;		 /* what alloc returned */
	uint64_t requested;
	uint64_t owner, origin; /* session ids; 0: the pool, or nobody any more */
	uint32_t n_holds;
	uint32_t since_s;
	uint8_t name[NAME_BYTES_MAX];
	uint32_t n_name_bytes;
	uint32_t slot_bytes, n_slots, n_live; /* LEASED */
};
/**
 * pool_extents() - a page of the map in address order, from offset @from on (0: the first)
 * @hintp: in and out: speeds up the next page; any number is safe
 * @nextp: out: where the next page begins; 0: that was all. Pages join without a seam, whatever happened in between.
 * Return: how many were stored in extents [n_max]. One step under the mutex: keep n_max at 1024 or below.
 */
uint32_t pool_extents(struct pool *pool, uint64_t from, uint64_t *hintp, struct pool_extent extents[], uint32_t n_max,
		      uint64_t *nextp);

struct pool_slot { /* a live one */
	uint64_t offset;
	uint64_t owner; /* session; 0: the pool, or nobody any more */
	uint32_t n_holds;
	uint8_t name[NAME_BYTES_MAX];
	uint32_t n_name_bytes;
};
#define POOL_SLOTS_MAX 4096u /* of one slab */
/** pool_slots() - live slots of the slab that @offset lies in, by rising offset. Return: how many were stored in slots [n_max] */
uint32_t pool_slots(struct pool *pool, uint64_t offset, struct pool_slot slots[], uint32_t n_max);

struct pool_member_info {
	uint64_t session;
	int32_t pid;
	uint32_t uid;
	char command[24];
	uint64_t n_blocks, n_bytes, n_holds, oldest_s, since_s;
};
/** pool_members() - by rising session id, after @after_session. Return: how many were stored */
uint32_t pool_members(struct pool *pool, uint64_t after_session, struct pool_member_info infos[], uint32_t n_max);

/*
 * The last operations of a pool, oldest first: what reached the daemon, and how it ended. They outlive the daemon.
 */
enum recent_what {
	RECENT_NONE = 0,
	RECENT_ALLOC,
	RECENT_FREE,
	RECENT_REALLOC,
	RECENT_PUBLISH,
	RECENT_ACQUIRE,
	RECENT_RETAIN,
	RECENT_TAKE,
	RECENT_RESIZE,
	RECENT_JOIN,  /* a session opened the pool */
	RECENT_LEAVE, /* it ended; size: bytes that it left behind */
	RECENT_RECOVER,
	RECENT_HEAP,  /* a heap was opened; offset: its number */
	RECENT_LEASE, /* a slab was granted; offset: its id + 1 */
	RECENT_WHAT_N,
};

struct pool_recent {
	uint64_t number;  /* of the operation, from 1 on */
	uint64_t time_ns; /* since 1970 */
	uint64_t session; /* 0: nobody's */
	uint64_t offset, size;
	int32_t pid;
	int outcome; /* 0, POOL_E_*, -errno */
	enum recent_what what;
};
/** recent_name() - for people and protocols: "alloc", "free", … */
const char *recent_name(enum recent_what what);
/** pool_recent() - operations with a number above @after, by rising number. Return: how many were stored; 0: no more */
uint32_t pool_recent(struct pool *pool, uint64_t after, struct pool_recent out[], uint32_t n_max);

struct pool_fault {
	uint64_t offset;
	char what[120];
};
/** pool_check() - verify the books; holds the mutex throughout: a maintenance call, off the loop. Return: faults found; the first @n_max stored */
uint32_t pool_check(struct pool *pool, struct pool_fault faults[], uint32_t n_max);
/** pool_is_being_checked() - whoever calls anything else now waits until that is done: off the loop. Any thread */
bool pool_is_being_checked(const struct pool *pool);
/** pool_keep_checks_off() - wait for the check that is under way, and have no other begin before pool_let_checks_on() */
void pool_keep_checks_off(struct pool *pool);
void pool_let_checks_on(struct pool *pool);
void pool_dump(struct pool *pool, FILE *out);

struct size_text {
	char text[24];
};
/** size_text() - as people say sizes: three digits and a unit */
struct size_text size_text(uint64_t n_bytes);
/** pool_explain_full() - why an alloc of @size bytes (at @alignment, 0: any) failed: asked, free, largest gap, backed, top holders, what helps; [n_bytes] */
void pool_explain_full(struct pool *pool, int outcome, uint64_t size, uint64_t alignment, char *out, size_t n_bytes);

/** pool_decay_step() - punch large gaps that are old enough, one step; off the loop. Return: ms until there is more to do; 0 = now; UINT64_MAX = nothing */
uint64_t pool_decay_step(struct pool *pool);
