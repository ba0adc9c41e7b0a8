#pragma once
// SPDX-License-Identifier: MIT
/*
 * name - what may name a pool or a block
 */
#include <stdbool.h>
#include <stddef.h>

#define NAME_BYTES_MAX 64

/** name_is_valid() - 1 to 64 bytes of [A-Za-z0-9._-], but not "." or ".."; @name [n_bytes] need not end in NUL */
bool name_is_valid(const void *name, size_t n_bytes);
