#pragma once
// SPDX-License-Identifier: MIT
/* error - this thread's last failure as a sentence */
#include "proto/util.h"

/** error_set() - keep a sentence; Return: @error, a negative errno, so that a failure is one line */
int error_set(int error, const char *format, ...) PRINTF(2, 3);
/** error_warn() - keep a sentence beside success */
void error_warn(const char *sentence);
