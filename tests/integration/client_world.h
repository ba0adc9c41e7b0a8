#pragma once
// SPDX-License-Identifier: MIT
/* client_world - one daemon for a test program, and a session and pool for each test */
#include <errno.h>
#include <mempool/mempool.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/daemon.h"
#include "tests/lib/test.h"

extern struct daemon world;
extern struct mempool_client *client; /* of this test */
extern struct mempool_pool *pool;     /* "p", 1 MiB, of this test */

int world_begin(void **state); /* group: starts the daemon */
int world_end(void **state);   /* group: stops it; nothing may be left */
int test_begin(void **state);
int test_end(void **state); /* destroys the pool, disconnects */

/** make_pool() - "p" anew with other options */
void make_pool(uint64_t size, const struct mempool_pool_options *options);
/** used_now() - bytes in use */
uint64_t used_now(void);
/** await_used() - look until @bytes are in use, for at most 10 s; the ends of processes are noticed when they are */
bool await_used(uint64_t bytes);
/** is_filled() - whether @n bytes at @offset all read @value */
bool is_filled(mempool_offset offset, int value, size_t n);
/** in_child() - run @what in a forked process. Return: its exit code, 128 + signal */
int in_child(int (*what)(void));

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_begin, test_end)
