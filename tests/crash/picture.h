#pragma once
// SPDX-License-Identifier: MIT
/*
 * picture - all that a pool promises to keep, as text: a line for each block, gap, member, answer and charge, and the figures
 *
 * Two pools that promise the same have the same picture. Not in it: what is for people only (the black box), when a gap
 * came to be, and how much is backed (more may be than is needed).
 */
#include "pool/registry.h"
#include "tests/unit/pool_world.h"

#define PICTURE_BYTES	(64u << 10)
#define PICTURE_REQUEST 1000u /* id of the request that is being executed */

/** picture_take() - @out: [PICTURE_BYTES]; @with_times: and since when each block is there */
void picture_take(struct pool *pool, bool with_times, char *out);
/** picture_take_instance() - its pools, sessions, and answers to their requests about pools up to id @n_requests. @out: [PICTURE_BYTES] */
void picture_take_instance(struct registry *registry, uint64_t n_requests, bool with_times, char *out);
/** picture_is_between() - whether each line about a block, member or answer is in @a or in @b, but for answers that are under way */
bool picture_is_between(const char *picture, const char *a, const char *b);
/** picture_is_of_wholes() - of instances: whether each pool and session is as in @a or as in @b, and those that are in both are there */
bool picture_is_of_wholes(const char *picture, const char *a, const char *b);
