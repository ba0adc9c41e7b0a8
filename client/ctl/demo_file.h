#pragma once
// SPDX-License-Identifier: MIT
/*
 * demo_file - the bytes that the demo moves: a file that was named, or one made of what every machine has
 */
#include <stdint.h>

#include "ctl/demo_work.h"
#include "proto/util.h"

struct demo_file {
	int fd; /* readable with pread(); -1: not open */
	uint64_t n_bytes;
	const char *name; /* for people */
};

/** demo_file_open() - @path, a regular file that is not empty. Return: 0, or -errno after it was reported */
int demo_file_open(struct demo_file *file, const char *path) MUST_CHECK;

/** demo_file_make() - licences, libc and this program, again and again, in a file without a name. Return: as above */
int demo_file_make(struct demo_file *file) MUST_CHECK;

/** demo_file_tally() - the direct pass: read and count it all in this process. Return: as above */
int demo_file_tally(const struct demo_file *file, struct tally *tallyp) MUST_CHECK;
