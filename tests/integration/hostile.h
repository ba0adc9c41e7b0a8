#pragma once
// SPDX-License-Identifier: MIT
/*
 * hostile - one attack on one daemon, while well-behaved clients look on
 *
 * Each attack is a process of its own, for a session lives as long as its process. Around it: a mempoold with the attack's
 * configuration, a canary that works on a pool of its own all the time and checks every answer and every byte, and a
 * control connection. After the attack the daemon must have the descriptors and objects that it had before; then it is
 * stopped, and must leave nothing behind.
 */
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

#include "tests/lib/daemon.h"
#include "tests/lib/wire.h"

struct attack {
	void (*run)(const struct daemon *d); /* in its own process */
	const char *config;		     /* of the daemon; NULL: the defaults */
	uid_t uid;			     /* 0: as the test itself */
	bool dies;			     /* it is to end by SIGKILL */
};

/** hostile_run() - all of the above; asserts (cmocka) */
void hostile_run(const struct attack *attack);
/** hostile_clean() - what a failed one left behind; the teardown of each test */
int hostile_clean(void **state);

/** hostile_result - a number that an attack may leave for its test; 0 before */
extern int64_t *hostile_result;

/* ---- for attacks: a failure is said on stderr and ends the process with 1 ---- */

#define CHECK(condition) ((condition) ? (void)0 : hostile_fail(__FILE__, __LINE__, #condition))
_Noreturn void hostile_fail(const char *file, int line, const char *condition);

/** hostile_connect() - without a Hello; hostile_greet() - with one */
struct wire hostile_connect(const struct daemon *d);
struct wire hostile_greet(const struct daemon *d);
/** hostile_ping() - Return: the status */
int hostile_ping(struct wire *wire);
/** hostile_create() - a pool, whose descriptor is wire->fd. Return: its id */
uint64_t hostile_create(struct wire *wire, const char *name, uint64_t size);
/** hostile_alloc() - Return: the status; the offset in *@offsetp */
int hostile_alloc(struct wire *wire, uint64_t pool, uint64_t size, uint64_t *offsetp);
int hostile_free(struct wire *wire, uint64_t pool, uint64_t offset);
