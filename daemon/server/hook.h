#pragma once
// SPDX-License-Identifier: MIT
/*
 * hook - a seam where a test build may hold a thread up
 *
 * hook.c does nothing. A test program that defines hook_point() itself is linked with its own definition instead: the
 * linker takes hook.c out of the library only where nobody else has it.
 */

enum hook_place {
	HOOK_DISPATCH,
	HOOK_PLACE_N
};

/** hook_point() - @place was reached, on event loop @loop_index */
void hook_point(enum hook_place place, unsigned loop_index);
