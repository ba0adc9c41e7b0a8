#pragma once
// SPDX-License-Identifier: MIT
/*
 * process - which process this is: a fork is noticed by a page that the kernel wipes in the child, so that no call costs a
 * getpid(). Each process in a line of forks has a generation of its own; a handle belongs to the generation that made it.
 */
#include <stdint.h>

#include "proto/util.h"

/** process_begin() - before a handle is made. Return: 0, -ENOMEM */
int process_begin(uint64_t *generationp) MUST_CHECK;
/** process_is() - whether this process is the one of @generation */
bool process_is(uint64_t generation);
