#pragma once
// SPDX-License-Identifier: MIT
/* test - what every cmocka test includes, in the order that cmocka needs */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/util.h"
