#pragma once
// SPDX-License-Identifier: MIT
/*
 * thread - what each thread of the process has of its own: its heap in each pool, and in which pool it is right now
 *
 * Entering and leaving a pool are two plain stores. Who wants a pool's heaps for itself takes them out of the tables, then
 * thread_wait_outside(): membarrier(2) makes every thread's store to `running` visible, or its look into the table late
 * enough to find nothing. So the common path pays nothing for a close that may come.
 *
 * The tables lie in pages that the kernel wipes in a forked child: there the first look finds no heap, and the long way finds
 * out that the handle is the parent's.
 */
#include <stdatomic.h>

#include "proto/util.h"

struct heap;

#define THREAD_SLOTS \
	4096u /* pools that a process has heaps in at once, and slot 0, which has none ever: simply picked */

struct thread {
	struct heap *_Atomic *heaps; /* [THREAD_SLOTS]; by the mutex, but for looks by the thread itself */
	_Atomic uint32_t running;    /* slot of the pool that it is in; 0: none */
	uint64_t generation;	     /* of the process that knows it; 0: none does */
	uint64_t number;	     /* in the order that they came */
	struct thread *next;
};

/* Of a library that is loaded late, too: it is small enough for the room that the C library keeps for such. */
extern __thread struct thread thread_self __attribute__((tls_model("initial-exec")));

/** thread_enter() - Return: this thread's heap there, usable until thread_leave(); NULL: none, and thread_leave() all the same */
static inline struct heap *thread_enter(uint32_t slot)
{
	atomic_store_explicit(&thread_self.running, slot, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst); /* the other half is the membarrier's */
	return atomic_load_explicit(&thread_self.heaps[slot], memory_order_acquire);
}

static inline void thread_leave(void)
{
	atomic_store_explicit(&thread_self.running, 0, memory_order_release);
}

/** thread_lock() - guards the list of threads, their tables and who has which heap; held for short, never across a request */
void thread_lock(void);
void thread_unlock(void);

/**
 * thread_begin() - make this thread known to this process
 * @on_end: called with the lock when it ends, once for each heap that is in its table then, which it takes out
 * Return: 0, -ENOMEM
 */
int thread_begin(uint64_t generation, void (*on_end)(struct heap *heap)) MUST_CHECK;
/** thread_slot_take() - with the lock. Return: a slot that is in use nowhere; 0: none is left, or this kernel has no membarrier */
uint32_t thread_slot_take(uint64_t generation);
void thread_slot_give(uint32_t slot); /* with the lock */
/** thread_is_visible() - after that, once one is taken: another process's membarrier(2) orders what threads of this one do, too */
bool thread_is_visible(void);
/** thread_take_heaps() - with the lock: empties @slot in every table */
void thread_take_heaps(uint32_t slot);
/** thread_wait_outside() - without the lock: each thread that was in @slot has left it; after that, none is in it any more */
void thread_wait_outside(uint32_t slot);
/** thread_forget_all() - in a forked child, which has this thread alone */
void thread_forget_all(void);
