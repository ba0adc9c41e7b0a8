#pragma once
// SPDX-License-Identifier: MIT
/*
 * stepper - a forked process that is executed one instruction at a time
 *
 * It runs on the processor of its parent, which it stops and waits for all the time: on two, each instruction would wait for
 * the other to wake up. It calls stepper_stop() where its parent is to take over.
 */
#include <stdbool.h>
#include <sys/types.h>

/** stepper_begin() - fork; the child runs @body, and has come to its first stop. Exits with 77 if no process can be traced here */
pid_t stepper_begin(void (*body)(void *arg), void *arg);
/** stepper_stop() - by the child: the parent's turn */
void stepper_stop(void);

enum stepper_news {
	STEPPER_ONE,	 /* it has executed one instruction */
	STEPPER_STOPPED, /* it has called stepper_stop() */
	STEPPER_ENDED,	 /* it ended or crashed, which it should not */
};

enum stepper_news stepper_instruction(pid_t child);
/** stepper_go_on() - to the next stop. Return: as above, never STEPPER_ONE */
enum stepper_news stepper_go_on(pid_t child);
/** stepper_end() - kill and reap it; @child may be 0 */
void stepper_end(pid_t child);
