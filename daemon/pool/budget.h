#pragma once
// SPDX-License-Identifier: MIT
/*
 * budget - whether the machine has the memory that is about to be backed
 *
 * posix_fallocate() on a tmpfs says ENOSPC by itself, but beyond the memory control group's limit it is *killed*, and
 * on a machine without memory it invites the OOM killer. So free tmpfs, memory.max (of every group above us) and
 * MemAvailable are asked first, and a reserve is left. Answers are credit: asking the kernel costs microseconds, so one
 * answer serves until its credit is used up or it is too old.
 */
#include <pthread.h>
#include <stdint.h>

#include "proto/util.h"

struct budget {
	pthread_mutex_t mutex; /* all below; a leaf */
	uint64_t credit_bytes;
	uint64_t asked_ns;    /* CLOCK_MONOTONIC */
	uint64_t limit_bytes; /* configured most for all pools together; UINT64_MAX: none */
	uint64_t spent_bytes; /* backed by us now */
	const char *root;     /* where /proc and /sys are: "", but for a test's own tree */
};

enum {
	BUDGET_E_EXHAUSTED = 1
};

int budget_init(struct budget *budget, uint64_t limit_bytes) MUST_CHECK;
void budget_deinit(struct budget *budget);
/** budget_spend() - before @n_bytes are backed on @fd's file system. Return: 0; BUDGET_E_EXHAUSTED. Any thread. */
int budget_spend(struct budget *budget, int fd, uint64_t n_bytes) MUST_CHECK;
/** budget_take_over() - @n_bytes were backed by a daemon before us: counted, not judged */
void budget_take_over(struct budget *budget, uint64_t n_bytes);
/** budget_spent() - what is backed by us now */
uint64_t budget_spent(struct budget *budget);
/** budget_give_back() - after they were punched, or could not be backed */
void budget_give_back(struct budget *budget, uint64_t n_bytes);
