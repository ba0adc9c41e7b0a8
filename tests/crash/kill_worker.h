#pragma once
// SPDX-License-Identifier: MIT
/* kill_worker - a client of several threads that does everything that clients do, and writes down what it has */
#include "kill_model.h"

/** kill_worker_run() - the life of one incarnation, in a process of its own; ends it */
_Noreturn void kill_worker_run(struct kill_model *model, unsigned worker);
/** kill_worker_run_all() - the same of all workers, in one process: a session each, which share one mapping */
_Noreturn void kill_worker_run_all(struct kill_model *model);

/* ---- the parts of it, one a file ---- */

#define KILL_FREEABLE (1u << KILL_OWNED | 1u << KILL_HELD | 1u << KILL_PASSED | 1u << KILL_LEFT)

/** kill_is_full() - whether the refusal @r (-errno) is for lack of memory, which is short in this run (kill_block.c); counts it */
bool kill_is_full(struct kill_me *me, int r);
/** kill_step() - one random operation on blocks (kill_block.c) */
void kill_step(struct kill_me *me);
/** kill_free_all() - gives everything up that the thread has (kill_block.c) */
void kill_free_all(struct kill_me *me);
/** kill_free_place() - an empty place in the thread's table; -1: none (kill_block.c) */
int kill_free_place(const struct kill_me *me);
/** kill_pick() - a random place with a block in one of @states (bits), in @pool or any (-1), without own retains if asked; -1: none */
int kill_pick(struct kill_me *me, unsigned states, int pool, bool unretained);
/** kill_verify() - the block reads as it was written, or the run has failed */
void kill_verify(struct kill_me *me, const struct kill_block *block, const char *when);
/** kill_give_up() - free, or drop the hold on, the block at @place (kill_block.c) */
void kill_give_up(struct kill_me *me, int place);

/* each: whether there was something to do (kill_share.c) */
bool kill_send(struct kill_me *me);
bool kill_receive(struct kill_me *me);
bool kill_settle(struct kill_me *me);
bool kill_publish(struct kill_me *me);
bool kill_unpublish(struct kill_me *me);
bool kill_acquire(struct kill_me *me);
/** kill_resolve() - a new incarnation finds out what became of what the last one was asking for */
void kill_resolve(struct kill_me *me);
/** kill_await_session_end() - until the daemon lists the session no more */
void kill_await_session_end(struct kill_me *me, uint64_t session);
bool kill_session_is_listed(struct kill_me *me, uint64_t session);

/** kill_pool_cycle() - create, use, grow and destroy a pool of the thread's own (kill_share.c) */
bool kill_pool_cycle(struct kill_me *me);
