#pragma once
// SPDX-License-Identifier: MIT
/*
 * lease - the daemon's half of leases: slabs, heaps, and the lease segment that clients may write to
 *
 *   lease_segment.c  the object: made, opened again, backed, mapped; its header
 *   lease_damage.c   words that say what cannot be: told once, and never believed again
 *   lease_guard.c    SIGBUS of a mapping that a client has cut short
 *   slab.c           slabs: granted, ended; which words and which descriptor are whose
 *   slab_orphan.c    slabs whose heap is no more, and how they are leased again
 *   slab_recall.c    empty slabs taken back
 *   slab_show.c      words read, counted, shown and verified
 *   heap.c           numbers of heaps, and their quarantine
 *   heap_sweep.c     the end of a session's heaps
 *   slot.c           one slot, by request; slot_show.c: the slots of a slab, for people
 *   lease_recover.c  all of it after a restart
 *
 * Truth: what a slab is, and whose a heap number is, stands in the ledger (LEDGER_SLABS, LEDGER_HEAPS); whose a slot is, in its
 * word. Everything in struct lease is derived. Whatever is read in the lease segment is read once, then judged; no word is ever a
 * size, an index or a pointer.
 *
 * All of it under the pool's mutex.
 */
#include "alloc/extent.h"
#include "pool/segment.h"
#include "proto/lease_word.h"

struct pool;
struct pool_member;

#define LEASE_TOTAL_MIN	 (UINT64_C(1) << 20) /* smaller pools serve every block by request; simply picked */
#define SLAB_BYTES	 (64u << 10)	     /* about, of small slots */
#define SLAB_SLOTS_MAX	 (SLAB_BYTES / 16u)
#define SLAB_PART	 16u /* a grant is at most this part of what is free */
#define LEASE_GRANTS_MAX 16u /* slabs in one answer */

/*
 * ---- records in the ledger; see pool_internal.h for what keeps them whole ----
 */
struct slab_record {
	_Atomic uint64_t
		what; /* bits 0-31 extent + 1, 0: the record is unused; 32-63 the heap that it was granted to, 0: none */
	uint32_t size_class;
	uint32_t n_slots;
	uint32_t first_word;
	uint32_t unused_next; /* derived */
};

enum heap_state {
	HEAP_UNUSED = 0,
	HEAP_OPEN,
	HEAP_QUARANTINED, /* nobody's, but some thread may still have its number in hand */
};

struct heap_record {
	_Atomic uint64_t
		what; /* bits 0-7 enum heap_state; 8 it marks (lease_heap.is_foreign); 32-63 of an open one: index of its member; of one in quarantine: since when */
};

/* ---- derived ---- */

struct slab {				   /* of one id */
	uint32_t orphan_prev, orphan_next; /* of an orphan: the ring of its class */
	bool is_orphan;
	uint32_t n_live; /* when its words were last read */
};

struct orphans {       /* of one size class: a ring */
	uint32_t head; /* the one to be looked at next; with n */
	uint32_t n;
	uint64_t n_looked;	/* how often somebody looked whether one has free slots */
	uint64_t rest_until_ns; /* CLOCK_MONOTONIC: no lap before */
};

struct heap {			     /* of one number */
	struct pool_member *member;  /* whose; NULL: not open */
	uint32_t next;		     /* of that member; 0 */
	uint64_t seen;		     /* the quarantine's clock when it surely had no number in hand */
	uint64_t n_live, live_bytes; /* its slots, when all words were last read; */
	uint64_t cached_bytes;	     /* and those in its magazines */
};

struct lease {
	bool is_on; /* this pool has a lease segment */
	bool is_damaged;
	char why_damaged[96];
	struct segment object;
	uint8_t *map;		    /* [layout.file_bytes], under the guard */
	struct lease_guard *guard;  /* of the mapping */
	struct lease_header layout; /* what the header said when we wrote it */
	uint64_t *is_backed;	    /* a bit each page of the object */
	uint64_t backed_bytes;
	bool is_taking_over; /* what is backed now was so before: counted, not judged, and the kernel has the last word */
	uint64_t n_pages;    /* as header.n_pages */

	struct slab *slabs; /* [n_slabs_alloced] by id */
	uint32_t n_slabs_alloced;
	struct orphans orphans[SIZE_CLASS_N];
	uint64_t n_slots;	 /* of all slabs */
	uint64_t *is_word_taken; /* a bit each LEASE_WORDS_STEP words; [n_step_words] */
	uint64_t n_step_words;
	uint64_t word_hint; /* no step is free below */
	uint64_t n_live,
		live_bytes; /* live slots, when all words were last read; the next two: those that are the pool's */
	uint64_t pools_n_live, pools_bytes;

	struct heap *heaps; /* [n_heaps_alloced] by number; 0 is nobody */
	uint32_t n_heaps_alloced;
	uint32_t n_heaps_high; /* numbers ever given out are below */
	uint32_t n_heaps_open;
	uint32_t n_quarantined;
	uint32_t quarantine_clock; /* raised with each number that goes there */

	uint64_t alloc_total; /* slots: the most that were ever seen live or freed. No heap counts them: what is not freed is live */
	uint64_t free_total;		 /* slots: of heaps that are no more, and by request */
	uint64_t n_freed_before;	 /* lease_count_freed() before the last pool_survey() counted */
	uint32_t decay_at;		 /* slabs before it were tried by the decay */
	bool is_scanning;		 /* somebody tries all slabs, and lets go of the mutex in between */
	uint64_t n_begun, n_ended;	 /* such scans */
	uint64_t scan_end_ns, scan_ns;	 /* CLOCK_MONOTONIC: when all slabs were last tried, and how long that took; */
	uint64_t count_end_ns, count_ns; /* and when all words were last read for a grant, or a sentence */

	struct { /* slots whose word is C(0) once the operation is committed */
		uint32_t id, slot;
	} released[64];
	uint32_t n_released;
};

/* ---- lease_segment.c ---- */

/** lease_make() - for a new pool, if it is to have leases. Return: 0; POOL_E_UNBACKED; -errno */
int lease_make(struct pool *pool) MUST_CHECK;
/** lease_open() - the object of before. Missing or cut short: made anew, and damaged. Return: as lease_make() */
int lease_open(struct pool *pool, const char *name) MUST_CHECK;
/** lease_open_copy() - the same from a private copy; @fd: the pool's from now on; -1: there was none to copy */
int lease_open_copy(struct pool *pool, int fd) MUST_CHECK;
/** lease_close() - may run twice; removes the object if it still has its name */
void lease_close(struct pool *pool);
/** lease_is_wanted() - whether a pool of these options has leases at all */
bool lease_is_wanted(const struct pool *pool);
/** lease_back() - pages of the object for [offset, offset + n_bytes). Return: 0; POOL_E_UNBACKED; -errno */
int lease_back(struct pool *pool, uint64_t offset, uint64_t n_bytes) MUST_CHECK;
/** lease_back_pages() - the prefix of the page map that covers data up to @end. Return: as lease_back() */
int lease_back_pages(struct pool *pool, uint64_t end) MUST_CHECK;
/** lease_set_flag() - in the header, for clients */
void lease_set_flag(struct pool *pool, uint32_t flag);
void lease_raise_pressure(struct pool *pool);
/* ---- lease_damage.c ---- */

/** lease_damage() - the words say what cannot be: from now on no slab is taken back and no heap swept */
void lease_damage(struct pool *pool, const char *why);
/** lease_is_sound() - also looks whether the mapping was cut short since */
bool lease_is_sound(struct pool *pool);

static inline struct lease_header *lease_header(const struct lease *lease)
{
	return (struct lease_header *)(void *)lease->map;
}

static inline struct lease_heap *lease_heap_at(const struct lease *lease, uint32_t heap)
{
	return (struct lease_heap *)(void *)(lease->map + lease->layout.heaps_at) + heap;
}

static inline struct lease_slab *lease_slab_at(const struct lease *lease, uint32_t id)
{
	return (struct lease_slab *)(void *)(lease->map + lease->layout.slabs_at) + id;
}

static inline _Atomic uint32_t *lease_page_at(const struct lease *lease, uint64_t page)
{
	return (_Atomic uint32_t *)(void *)(lease->map + lease->layout.pages_at) + page;
}

static inline _Atomic uint16_t *lease_word_at(const struct lease *lease, uint32_t word)
{
	return (_Atomic uint16_t *)(void *)(lease->map + lease->layout.words_at) + word;
}

/* ---- lease_guard.c ---- */

/** lease_guard_map() - map @fd shared, read-write; a page that is not there reads zero instead of killing us. Return: 0; -errno */
int lease_guard_map(struct lease_guard **guardp, int fd, uint64_t n_bytes, uint8_t **mapp) MUST_CHECK;
/** lease_guard_unmap() - NULL: nothing. Return: NULL */
struct lease_guard *lease_guard_unmap(struct lease_guard *guard);
/** lease_guard_was_hit() - whether a page was not there */
bool lease_guard_was_hit(const struct lease_guard *guard);

/* ---- slab.c ---- */

struct slab_shape {
	uint32_t n_slots;
	uint64_t n_bytes; /* of the extent */
};
/** slab_shape_of() - of a class, at most @most_bytes. Return: false: not one slot fits */
bool slab_shape_of(uint32_t size_class, uint64_t most_bytes, struct slab_shape *shapep);

struct slab_record *slab_record(const struct pool *pool, uint32_t id);
/** slab_exists() - any number is safe */
bool slab_exists(const struct pool *pool, uint32_t id);
uint32_t slab_extent(const struct pool *pool, uint32_t id);
uint32_t slab_grantee(const struct pool *pool, uint32_t id);
uint64_t slab_base(const struct pool *pool, uint32_t id);
uint32_t slab_slot_bytes(const struct pool *pool, uint32_t id);
/** slab_at() - the slab that @offset lies in. Return: false: none */
bool slab_at(struct pool *pool, uint64_t offset, uint32_t *idp);
/** slab_publish() - its entries of the page map, its custody: the end of a grant */
void slab_publish(struct pool *pool, uint32_t id);
/** slab_describe() - write its descriptor, all but custody */
void slab_describe(struct pool *pool, uint32_t id);
/** slab_end() - the daemon has custody, nobody a slot of it: a gap again; an operation of its own */
void slab_end(struct pool *pool, uint32_t id);
/** slab_know() - memory and words for a recovered record. Return: 0; -ENOMEM; POOL_E_DAMAGED */
int slab_know(struct pool *pool, uint32_t id) MUST_CHECK;
/** slab_holding() - the list of slabs of owner number @owner */
struct extent_owner *slab_holding(struct pool *pool, uint32_t owner);

/* ---- slab_orphan.c ---- */

/** slab_set_grantee() - 0: an orphan; charges and lists are the caller's */
void slab_set_grantee(struct pool *pool, uint32_t id, uint32_t heap);
/** slab_orphan() - nobody's any more: its charge falls to the pool; an operation of its own */
void slab_orphan(struct pool *pool, uint32_t id);
/** slab_list_orphan() - derived: @id is one */
void slab_list_orphan(struct pool *pool, uint32_t id);
/** slab_unlist_orphan() - it is none any more, or never was */
void slab_unlist_orphan(struct pool *pool, uint32_t id);
/**
 * slab_adopt() - an orphan that has free slots, for a heap of @member; looks at the next few only
 * Return: 0; POOL_E_FULL: it found none; POOL_E_QUOTA
 */
int slab_adopt(struct pool_member *member, uint32_t heap, uint32_t size_class, uint32_t *idp) MUST_CHECK;
/**
 * slab_adopt_any() - the same when slab_adopt() found none and there is no other room: looks at all of them
 * Lets go of the mutex between steps, only with POOL_MAY_BLOCK, so that nothing else may be under way
 * Return: as slab_adopt(); POOL_E_SLOW, POOL_E_DESTROYED
 */
int slab_adopt_any(struct pool_member *member, uint32_t heap, uint32_t size_class, unsigned flags, uint32_t *idp)
	MUST_CHECK;

/* ---- slab_recall.c ---- */

/** slab_recall() - take @id back if it is empty and its custody can be had. Return: bytes that are a gap again */
uint64_t slab_recall(struct pool *pool, uint32_t id, bool takes_cached);
/**
 * slab_recall_all() - memory is short: take back every slab that is empty
 * @asker: whose request asks; NULL: nobody's
 * Lets go of the mutex between steps, and to wait for its turn, only with POOL_MAY_BLOCK; else POOL_E_SLOW if it is long
 * @changedp: out: whether there are new gaps
 * Return: 0; POOL_E_SLOW
 */
int slab_recall_all(struct pool *pool, struct pool_member *asker, unsigned flags, bool *changedp) MUST_CHECK;

/** slab_recall_empty() - in passing: orphans that are empty by now, for one step */
void slab_recall_empty(struct pool *pool);

/* ---- slab_show.c ---- */

struct slab_count {
	uint32_t n_free;   /* C(0) */
	uint32_t n_cached; /* C(k) */
	uint32_t n_live;   /* L, P, Q */
	uint32_t n_pools;  /* Q */
	uint32_t n_pinned; /* P */
};
/** slab_read() - its words, [n_slots], by one read; SLAB_SLOTS_MAX are enough. Return: false: damaged, and it is noted */
bool slab_read(struct pool *pool, uint32_t id, uint16_t words[], struct slab_count *countp);
/** lease_count_live() - reads all words, in steps if @may_hand_over; sets lease.n_live, live_bytes. Return: live slots; *bytesp: theirs */
uint64_t lease_count_live(struct pool *pool, bool may_hand_over, uint64_t *bytesp);
/** lease_count_lately() - the same, if that was not done a moment ago, for figures that need not be of now */
void lease_count_lately(struct pool *pool, bool may_hand_over);
/** lease_count_is_due() - lease_count_lately() will read */
bool lease_count_is_due(const struct pool *pool);
/** lease_has_live() - whether a slot is live at this moment; reads until it finds one */
bool lease_has_live(struct pool *pool);
/** lease_is_large() - reading all words takes long: off the loop */
bool lease_is_large(const struct pool *pool);
/** member_slots() - of its heaps, when all words were last read */
void member_slots(const struct pool *pool, const struct pool_member *member, uint64_t *n_livep, uint64_t *bytesp);
unsigned lease_check(struct pool *pool, FILE *report);

/* ---- slot_show.c ---- */

struct slot_run { /* neighbours of one kind */
	uint64_t offset, end;
	uint32_t owner;	 /* number; counts with is_live */
	uint32_t extent; /* its record, of a single pinned slot; else EXTENT_NONE */
	bool is_live;
};
/** slots_visit() - all of a LEASED extent, from its begin to its end; live slots one by one. Return: live slots */
uint32_t slots_visit(struct pool *pool, uint32_t extent, void (*visit)(void *arg, const struct slot_run *run),
		     void *arg);

/* ---- heap.c ---- */

struct heap_record *heap_record(const struct pool *pool, uint32_t heap);
enum heap_state heap_state(const struct pool *pool, uint32_t heap);
/** heap_member() - whose it is; NULL: nobody's. Any number is safe */
struct pool_member *heap_member(const struct pool *pool, uint32_t heap);
/** heap_open() - @marks: its client keeps lease_heap.is_foreign */
int heap_open(struct pool *pool, struct pool_member *member, bool marks, uint32_t *heapp) MUST_CHECK;
/** heap_note_request() - its thread has asked for something, which tells if it does not mark */
void heap_note_request(struct pool *pool, uint32_t heap);
/** heap_disown() - clients are told that it is nobody's: the beginning of its end */
void heap_disown(struct pool *pool, uint32_t heap);
/** heap_quarantine() - the end of it; an operation of its own */
void heap_quarantine(struct pool *pool, uint32_t heap);
/** heap_forget_member() - of a destroyed pool */
void heap_forget_member(struct pool_member *member);
/** heap_know() - memory for numbers up to @heap. Return: 0; -ENOMEM */
int heap_know(struct pool *pool, uint32_t heap) MUST_CHECK;
/** lease_count_freed() - slots freed so far: what all heaps count, with those that are no more */
uint64_t lease_count_freed(const struct pool *pool);

/* ---- heap_sweep.c ---- */

struct pool_warning;
/** heap_sweep_one() - a step of the end of @member's heaps: one slab, or one number. Return: false: nothing is left */
bool heap_sweep_one(struct pool_member *member, void (*left)(void *arg, uint64_t n_blocks, uint64_t n_bytes),
		    void *arg);

/* ---- slot.c ---- */

struct slot { /* what was seen of one */
	uint32_t id, slot;
	uint64_t offset; /* as the client knows it: behind the guard */
	uint64_t size;	 /* of the slot, guards and all */
	uint16_t word;
	uint32_t owner; /* number, as of a block */
};
/**
 * slot_look() - the live slot that begins at @offset, without a record
 * @otherwise: what to answer where no slab is
 * Return: 0; POOL_E_NO_BLOCK, POOL_E_FREED; @otherwise
 */
int slot_look(struct pool *pool, uint64_t offset, int otherwise, struct slot *slotp) MUST_CHECK;
/**
 * slot_pin() - give the live slot at @offset a record, so that it is a block as any other; an operation of its own, which
 * commits, so that nothing else may be under way
 * Return: as slot_look(); -ENOSPC
 */
int slot_pin(struct pool *pool, uint64_t offset, int otherwise, uint32_t *extentp) MUST_CHECK;
/** slot_free_at_once() - without a pin, for when there is no room for its record; not safe if we are killed right after */
int slot_free_at_once(struct pool *pool, uint64_t offset) MUST_CHECK;
/** slot_of_pinned() - which slot a PINNED extent is. Return: false: none, damage */
bool slot_of_pinned(const struct pool *pool, uint32_t extent, uint32_t *idp, uint32_t *slotp);
_Atomic uint16_t *slot_word(const struct pool *pool, uint32_t id, uint32_t slot);
/** slot_release() - of a PINNED extent whose record is about to go: its word is C(0) after the commit */
void slot_release(struct pool *pool, uint32_t extent);
/** slot_release_now() - after a commit */
void slot_release_now(struct pool *pool);

/* ---- lease_recover.c ---- */

/** lease_recover() - heaps and slabs of the ledger, and the copy for clients; after members and map. Return: 0; POOL_E_DAMAGED; POOL_E_UNBACKED; -errno */
int lease_recover(struct pool *pool) MUST_CHECK;
/** lease_recover_slots() - words against records; after holds and names */
void lease_recover_slots(struct pool *pool);
