#pragma once
// SPDX-License-Identifier: MIT
/*
 * limits - every configurable number of the daemon: one table drives the configuration file, the DaemonInfo reply and
 * the documents
 */
#include <stddef.h>
#include <stdint.h>

#include "pool/quota.h"
#include "proto/util.h"

struct limits {
	uint64_t request_frame;		     /* bytes of one request's message */
	uint64_t request_frame_before_hello; /* bytes */
	uint64_t connections_per_uid;
	uint64_t connections_total;
	uint64_t connections_before_hello;
	uint64_t time_to_hello_ms;
	uint64_t time_to_finish_frame_ms;
	uint64_t queued_reply_pause;   /* bytes: stop reading */
	uint64_t queued_reply_close;   /* bytes: close at once */
	uint64_t queued_reply_slow;    /* bytes: close after … */
	uint64_t queued_reply_slow_ms; /* … so long above it */
	uint64_t requests_in_flight;   /* taken from one connection and not yet answered */
	uint64_t decode_arena;	       /* bytes to decode one request */
	uint64_t decode_objects;       /* allocations to decode one request */
	uint64_t total_bytes;	       /* backed for all pools together; UINT64_MAX: none */
	uint64_t decay_ms;	       /* a large gap keeps its pages so long */
	uint64_t quota[QUOTA_KIND_N];  /* per uid; QUOTA_CONNECTIONS is connections_per_uid */
};

enum limits_unit {
	LIMITS_BYTES,
	LIMITS_COUNT,
	LIMITS_MS
};

struct limits_entry {
	const char *section;   /* "limits" or "quota" */
	const char *key;       /* in the file */
	const char *wire_name; /* in DaemonInfoReply */
	size_t offset;	       /* in struct limits, of a uint64_t */
	enum limits_unit unit;
	uint64_t min, max; /* max UINT64_MAX: the file may say "none" */
};

extern const struct limits_entry limits_table[];
extern const size_t limits_table_n;

/** limits_default() - the defaults of the design; quota bytes: half of /dev/shm */
void limits_default(struct limits *limits);

/**
 * limits_settle() - after values were set one by one: derive what follows from others, refuse what contradicts another
 * @why: out, [n_bytes]: a sentence; only with LIMITS_E_CONTRADICTION
 *
 * Return: 0; LIMITS_E_CONTRADICTION.
 */
enum {
	LIMITS_E_CONTRADICTION = 1, /* two numbers that cannot both hold */
};
int limits_settle(struct limits *limits, char *why, size_t n_bytes) MUST_CHECK;

/** limits_share_of_shm() - so many percent of /dev/shm, or of the machine's memory where /dev/shm has no limit; whole pages */
uint64_t limits_share_of_shm(unsigned percent);

static inline uint64_t *limits_value(struct limits *limits, const struct limits_entry *entry)
{
	return (uint64_t *)(void *)((char *)limits + entry->offset);
}
