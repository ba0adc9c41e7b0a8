#pragma once
// SPDX-License-Identifier: MIT
/*
 * stores - a process that looks up after each instruction of its own that may have changed what others see of its shared memory
 *
 * Such an instruction stores to a mapping of an object in /dev/shm, or is a system call. Knows this process and its one thread; not
 * who wants to know.
 */
#include <stdbool.h>

/** stores_init() - @after is called, by a signal's handler, after each of them. Return: 0, -ENOSYS processor or kernel cannot do it */
int stores_init(void (*after)(void));
/** stores_watch() - from now on, or no longer */
void stores_watch(bool on);
