#pragma once
// SPDX-License-Identifier: MIT
/* album - the states that a stepped process goes through, in their order: a frozen instance each time that something differs */
#include <sys/types.h>

#include "frozen.h"

struct album {
	struct frozen *frozen;
	unsigned n, n_alloced;
};

/** album_add() - as it stood at the last look */
void album_add(struct album *album, const struct watch *watch);
/** album_film() - add what differs up to @child's next stop (stepper.h). Return: how often it stood still; -1 it ended or crashed */
int64_t album_film(struct album *album, struct watch *watch, pid_t child);
void album_free(struct album *album);
