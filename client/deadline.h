#pragma once
// SPDX-License-Identifier: MIT
/* deadline - until when a call waits: for ever, not at all, or to an instant of the monotonic clock */
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct deadline {
	bool is_never;
	uint64_t at_ms; /* 0: it was over from the beginning */
};

static inline uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline struct timespec timespec_of(uint64_t ms)
{
	return (struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
}

/** deadline_of() - @timeout_ms from now; 0: at once, -1: never */
static inline struct deadline deadline_of(int timeout_ms)
{
	return (struct deadline){.is_never =
					 timeout_ms<0, .at_ms = timeout_ms> 0 ? now_ms() + (uint64_t)timeout_ms : 0};
}

static inline bool deadline_is_over(const struct deadline *deadline)
{
	return !deadline->is_never && (!deadline->at_ms || now_ms() >= deadline->at_ms);
}
