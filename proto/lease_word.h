#pragma once
// SPDX-License-Identifier: MIT
/*
 * lease_word - every access to the words, custody and hints of a lease segment that two sides may make at once
 *
 * One function is one access. Nobody reads or writes these fields in another way, so that a test build can stop, switch or kill
 * before each (LEASE_STEP) and can leave a rule out (LEASE_RULE). In other builds both are nothing.
 */
#include "proto/lease.h"

/* Rules of the protocol that a test build can leave out, to see that it finds out. */
enum lease_rule {
	LEASE_RULE_NONE,
	LEASE_RULE_FILL_IN_CUSTODY,  /* a first fill is a refill */
	LEASE_RULE_LOOK_AGAIN,	     /* class and base are read again in custody */
	LEASE_RULE_ZERO_IS_DAMAGE,   /* 0 is not C(0) */
	LEASE_RULE_ONE_CAS,	     /* a foreign free never tries a second L */
	LEASE_RULE_PINNED_TO_DAEMON, /* a failed foreign CAS looks once more for P and Q */
	LEASE_RULE_BREAK_DEAD,	     /* custody of the dead is broken */
	LEASE_RULE_SWEEP_ALL,	     /* a death reads every word of the pool */
	LEASE_RULE_QUARANTINE,	     /* a dead heap's number waits until nobody can still have it in hand */
	LEASE_RULE_RECALL_READS,     /* recall reads the words in custody */
	LEASE_RULE_CUSTODY_BACK,     /* custody of a killed daemon is given back at restart */
	LEASE_RULE_RECORD_FIRST,     /* a pin's record is there before its word is P */
	LEASE_RULE_WORD_LAST,	     /* a pin's word is C(0) after its record is gone, not before */
	LEASE_RULE_LARGE_BY_CAS,     /* large slots leave a magazine by CAS, */
	LEASE_RULE_LARGE_BY_PLACE,   /* and only after they were looked for again: the word may be another slot's */
	LEASE_RULE_TAKE_SESSION,     /* take looks whose the heap number is now */
	LEASE_RULE_MARK_FIRST,	     /* a heap says that it is about to read another's number before it does */
	LEASE_RULE_FOREIGN_BY_CAS,   /* another heap's block is freed by CAS, not by a store after a look */
	LEASE_RULE_N,
};

#ifdef LEASE_TEST
void lease_test_step(const char *what, const volatile void *at);
extern enum lease_rule lease_test_without;
#define LEASE_STEP(what, at) lease_test_step(what, at)
#define LEASE_RULE(rule)     (lease_test_without != LEASE_RULE_##rule)
#else
#define LEASE_STEP(what, at) ((void)0)
#define LEASE_RULE(rule)     true
#endif

/*
 * What was done to a slot is seen by whoever gets its memory next, also if that was by way of the daemon: it reads the word that is
 * stored here, and answers another's request; or it has had custody in between and stored C(0) itself. A sanitizer knows nothing of
 * the daemon; a test of threads with sessions of their own defines these to tell it.
 */
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ /* as gcc does by itself */
#endif
#endif
#ifdef __SANITIZE_THREAD__
void lease_was_given(void) __attribute__((weak));
void lease_was_taken(void) __attribute__((weak));
#define LEASE_GIVEN() (lease_was_given ? lease_was_given() : (void)0)
#define LEASE_TAKEN() (lease_was_taken ? lease_was_taken() : (void)0)
#else
#define LEASE_GIVEN() ((void)0)
#define LEASE_TAKEN() ((void)0)
#endif

/* ---- words ---- */

/** lease_word_peek() - what the owner of a slot sees of its own stores, or a first look that a CAS will confirm */
static inline uint16_t lease_word_peek(const _Atomic uint16_t *word)
{
	LEASE_STEP("word peek", word);
	return atomic_load_explicit(word, memory_order_relaxed);
}

/**
 * lease_word_want() - it will be stored to: its cache line is asked for alone, not to be shared first. No access
 *
 * The compiler knows the instruction only where it is told of the processor; those without it do nothing.
 */
static inline void lease_word_want(const _Atomic uint16_t *word)
{
#ifdef __x86_64__
	__asm__ volatile("prefetchw %0" : : "m"(*word));
#else
	__builtin_prefetch((const void *)word, 1);
#endif
}

/** lease_word_read() - with all that was done to the slot before C(0) was stored: who refills, recalls or sweeps */
static inline uint16_t lease_word_read(const _Atomic uint16_t *word)
{
	LEASE_STEP("word read", word);
	return atomic_load_explicit(word, memory_order_acquire);
}

/** lease_word_keep() - a store by the only one entitled: C(0) to C(k) in custody, C(k) to L(k), L(k) to C(k) */
static inline void lease_word_keep(_Atomic uint16_t *word, uint16_t value)
{
	LEASE_STEP("word keep", word);
	atomic_store_explicit(word, value, memory_order_relaxed);
}

/** lease_word_give() - C(k) to C(0): whoever reads it has all that was done to the slot before */
static inline void lease_word_give(_Atomic uint16_t *word)
{
	LEASE_STEP("word give", word);
	LEASE_GIVEN();
	atomic_store_explicit(word, LEASE_FREE, memory_order_release);
}

/** lease_word_swap() - one CAS, never tried again by itself. Return: whether it was @from and is @to */
static inline bool lease_word_swap(_Atomic uint16_t *word, uint16_t from, uint16_t to)
{
	LEASE_STEP("word swap", word);
	LEASE_GIVEN();
	return atomic_compare_exchange_strong_explicit(word, &from, to, memory_order_acq_rel, memory_order_acquire);
}

/* ---- custody ---- */

/** lease_custody_take() - @who: a heap's number or LEASE_DAEMON. Return: false: busy, pass on */
static inline bool lease_custody_take(_Atomic uint32_t *custody, uint32_t who)
{
	uint32_t idle = LEASE_IDLE;

	LEASE_STEP("custody take", custody);
	if (!atomic_compare_exchange_strong_explicit(custody, &idle, who, memory_order_acquire, memory_order_relaxed))
		return false;
	LEASE_TAKEN();
	return true;
}

/** lease_custody_break() - take it from @dead, a heap that has ended: the daemon only */
static inline bool lease_custody_break(_Atomic uint32_t *custody, uint32_t dead, uint32_t who)
{
	LEASE_STEP("custody break", custody);
	return atomic_compare_exchange_strong_explicit(custody, &dead, who, memory_order_acquire, memory_order_relaxed);
}

static inline uint32_t lease_custody_peek(const _Atomic uint32_t *custody)
{
	LEASE_STEP("custody peek", custody);
	return atomic_load_explicit(custody, memory_order_relaxed);
}

/** lease_custody_give() - by who has it; by the daemon also where a grant ends */
static inline void lease_custody_give(_Atomic uint32_t *custody)
{
	LEASE_STEP("custody give", custody);
	atomic_store_explicit(custody, LEASE_IDLE, memory_order_release);
}

/** lease_custody_hold() - the daemon's, of a slab that is no more or not yet one: in no heap's reach */
static inline void lease_custody_hold(_Atomic uint32_t *custody)
{
	LEASE_STEP("custody hold", custody);
	atomic_store_explicit(custody, LEASE_DAEMON, memory_order_release);
}

/* ---- numbers of others ---- */

/*
 * A heap that reads L(j) and then swaps it has j in hand, and j must not be given to another heap meanwhile. It says so in its line of the
 * table of heaps, by plain stores. That the first is seen before the word is read, the daemon's membarrier(2) sees to, for
 * which the client's process is registered.
 */

static inline void lease_foreign_begin(_Atomic uint32_t *is_foreign)
{
	LEASE_STEP("foreign begin", is_foreign);
	atomic_store_explicit(is_foreign, 1, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void lease_foreign_end(_Atomic uint32_t *is_foreign)
{
	LEASE_STEP("foreign end", is_foreign);
	atomic_store_explicit(is_foreign, 0, memory_order_release);
}

static inline uint32_t lease_foreign_get(const _Atomic uint32_t *is_foreign)
{
	LEASE_STEP("foreign get", is_foreign);
	return atomic_load_explicit(is_foreign, memory_order_acquire);
}

/* ---- hints: wrong at worst for a while, and then only slow ---- */

static inline uint32_t lease_hint_get(const _Atomic uint32_t *hint)
{
	LEASE_STEP("hint get", hint);
	return atomic_load_explicit(hint, memory_order_relaxed);
}

static inline void lease_hint_set(_Atomic uint32_t *hint, uint32_t value)
{
	LEASE_STEP("hint set", hint);
	atomic_store_explicit(hint, value, memory_order_relaxed);
}

/** lease_hint_raise() - not a locked add: of two at once one may be lost, and both readers still see a change */
static inline void lease_hint_raise(_Atomic uint32_t *hint)
{
	lease_hint_set(hint, lease_hint_get(hint) + 1);
}

/** lease_count() - a heap's own counter, which nobody else writes: one aligned store, without the cost of an atomic one */
static inline void lease_count(_Atomic uint64_t *counter)
{
	*(uint64_t *)counter += 1;
}
