#pragma once
// SPDX-License-Identifier: MIT
/*
 * fault - make the Nth call of something that can fail, fail
 *
 * A program that links mempool_fault has its own calls (those of its objects and static libraries, not of shared ones)
 * go through here; unless armed, they go on to the real ones. A sweep arms the 1st, 2nd, 3rd … call until a run in which
 * nothing failed. Process-wide; any thread may be the one that is hit.
 */
#include <stdbool.h>

enum fault_call {
	FAULT_MALLOC = 1,    /* malloc, calloc, realloc: ENOMEM */
	FAULT_MMAP = 2,	     /* ENOMEM */
	FAULT_FTRUNCATE = 4, /* EIO */
	FAULT_FALLOCATE = 8, /* posix_fallocate: ENOSPC */
	FAULT_SHM_OPEN = 16, /* EMFILE */
	FAULT_ACCEPT = 32,   /* accept4: EMFILE */
	FAULT_ALL = 63,
};

/** fault_arm() - the @nth call from now on (1: the next) of any in the set @calls fails; with @persistent, all after it too */
void fault_arm(unsigned calls, unsigned nth, bool persistent);
/** fault_arm_some() - the next @n calls of any in the set @calls fail, and no more */
void fault_arm_some(unsigned calls, unsigned n);
/** fault_disarm() - Return: how many calls failed since fault_arm() */
unsigned fault_disarm(void);
