#pragma once
// SPDX-License-Identifier: MIT
/*
 * hook - a seam where a test build may hold a thread up, or lose a reply
 *
 * hook.c does nothing. A test program that defines its functions itself is linked with its own definitions instead: the
 * linker takes hook.c out of the library only where nobody else has them.
 */
#include <stdbool.h>

enum hook_place {
	HOOK_DISPATCH,
	HOOK_PLACE_N
};

/** hook_point() - @place was reached, on event loop @loop_index */
void hook_point(enum hook_place place, unsigned loop_index);

/**
 * hook_loses_reply() - a request of kind @op (field number of its operation) was executed, and its reply not sent yet
 * Return: true: the connection breaks now. It may also not return, and take the daemon with it
 */
bool hook_loses_reply(unsigned op);
