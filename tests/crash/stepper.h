#pragma once
// SPDX-License-Identifier: MIT
/*
 * stepper - a forked process that stands still after each instruction that may have changed shared memory
 *
 * That is, after each store to shared memory and each system call: it stops itself there (stores.h), and runs freely in between. Where that
 * cannot be had, or on demand, it is traced, and stands still after every single instruction, which takes a hundred times as
 * long and has to come to the same. It calls stepper_stop() where its parent is to take over. There is one at a time.
 */
#include <stdbool.h>
#include <sys/types.h>

/** stepper_trace() - have the next ones traced, or not */
void stepper_trace(bool on);

/** stepper_begin() - fork; the child runs @body, and has come to its first stop. Exits with 77 if no process can be traced here, but has to be */
pid_t stepper_begin(void (*body)(void *arg), void *arg);
/** stepper_stop() - by the child: the parent's turn */
void stepper_stop(void);

enum stepper_news {
	STEPPER_ONE,	 /* it has executed one more instruction that may have made a difference */
	STEPPER_STOPPED, /* it has called stepper_stop() */
	STEPPER_ENDED,	 /* it ended or crashed, which it should not */
};

/** stepper_next() - to the next of either */
enum stepper_news stepper_next(pid_t child);
/** stepper_go_on() - from one stop to the next. Return: as above, never STEPPER_ONE */
enum stepper_news stepper_go_on(pid_t child);
/** stepper_end() - kill and reap it; @child may be 0 */
void stepper_end(pid_t child);
