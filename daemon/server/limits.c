// SPDX-License-Identifier: MIT
/*
 * limits - the table, the defaults and what must hold between two numbers
 *
 * A limit is added by a field, a line here and a line in proto/README.md; the file, the wire and the check of its range
 * follow from the table.
 */
#include "server/limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "proto/frame.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

#define DAY_MS (24 * 3600 * (uint64_t)1000)

#define LIMIT(name, wire, field, unit, min, max)                                     \
	{                                                                            \
		"limits", name, wire, offsetof(struct limits, field), unit, min, max \
	}
#define QUOTA(name, kind, unit, min)                                                                      \
	{                                                                                                 \
		"quota", name, "quota_" name, offsetof(struct limits, quota[kind]), unit, min, UINT64_MAX \
	}

/* The least values still let an ordinary client work (a Hello is below 64 bytes); the most keep one connection's cost
 * within what a machine has. */
const struct limits_entry limits_table[] = {
	LIMIT("request_frame", "request_frame", request_frame, LIMITS_BYTES, 256, FRAME_REPLY_BYTES_MAX),
	LIMIT("request_frame_before_hello", "request_frame_before_hello", request_frame_before_hello, LIMITS_BYTES, 64,
	      FRAME_REPLY_BYTES_MAX),
	LIMIT("connections_per_uid", "connections_per_uid", connections_per_uid, LIMITS_COUNT, 1, UINT64_MAX),
	LIMIT("connections_total", "connections_total", connections_total, LIMITS_COUNT, 1, 1 << 20),
	LIMIT("connections_before_hello", "connections_before_hello", connections_before_hello, LIMITS_COUNT, 1,
	      1 << 20),
	LIMIT("time_to_hello", "time_to_hello_ms", time_to_hello_ms, LIMITS_MS, 1, DAY_MS),
	LIMIT("time_to_finish_frame", "time_to_finish_frame_ms", time_to_finish_frame_ms, LIMITS_MS, 1, DAY_MS),
	LIMIT("queued_reply_pause", "queued_reply_pause", queued_reply_pause, LIMITS_BYTES, 1 * KIB, 1 * GIB),
	LIMIT("queued_reply_close", "queued_reply_close", queued_reply_close, LIMITS_BYTES, 1 * KIB, 1 * GIB),
	LIMIT("queued_reply_slow", "queued_reply_slow", queued_reply_slow, LIMITS_BYTES, 1 * KIB, 1 * GIB),
	LIMIT("queued_reply_slow_time", "queued_reply_slow_ms", queued_reply_slow_ms, LIMITS_MS, 1, DAY_MS),
	LIMIT("requests_in_flight", "requests_in_flight", requests_in_flight, LIMITS_COUNT, 1, 1 << 16),
	LIMIT("decode_arena", "decode_arena", decode_arena, LIMITS_BYTES, 4 * KIB, 1 * GIB),
	LIMIT("decode_objects", "decode_objects", decode_objects, LIMITS_COUNT, 8, 1 << 24),
	LIMIT("total_bytes", "total_bytes", total_bytes, LIMITS_BYTES, 0, UINT64_MAX),
	LIMIT("decay_time", "decay_ms", decay_ms, LIMITS_MS, 0, UINT64_MAX),
	QUOTA("bytes", QUOTA_BYTES, LIMITS_BYTES, 0),
	QUOTA("pools", QUOTA_POOLS, LIMITS_COUNT, 0),
	QUOTA("sessions", QUOTA_SESSIONS, LIMITS_COUNT, 0),
	QUOTA("blocks", QUOTA_BLOCKS, LIMITS_COUNT, 0),
};
const size_t limits_table_n = N_ELEMENTS(limits_table);

uint64_t limits_share_of_shm(unsigned percent)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), n_pages = 0;
	struct statvfs fs;

	if (!statvfs("/dev/shm", &fs))
		n_pages = (uint64_t)fs.f_blocks * fs.f_frsize / page;
	if (!n_pages) /* mounted without a limit */
		n_pages = (uint64_t)sysconf(_SC_PHYS_PAGES);
	return n_pages * percent / 100 * page; /* below 2^57 pages by the width of an address */
}

void limits_default(struct limits *limits)
{
	*limits = (struct limits){
		.request_frame = FRAME_REQUEST_BYTES,
		.request_frame_before_hello = 16 * KIB,
		.connections_per_uid = 1024,
		.connections_total = 4096,
		.connections_before_hello = 64,
		.time_to_hello_ms = 30 * 1000,
		.time_to_finish_frame_ms = 10 * 1000,
		.queued_reply_pause = 64 * KIB,
		.queued_reply_close = 1 * MIB,
		.queued_reply_slow = 256 * KIB,
		.queued_reply_slow_ms = 10 * 1000,
		.requests_in_flight = 128,
		.decode_arena = 1 * MIB,
		.decode_objects = 4096,
		.total_bytes = UINT64_MAX,
		.decay_ms = 10 * 1000, /* simply picked: long against a burst, short against an afternoon */
		.quota[QUOTA_BYTES] = limits_share_of_shm(50),
		.quota[QUOTA_POOLS] = 256,
		.quota[QUOTA_SESSIONS] = 1024,
		.quota[QUOTA_BLOCKS] = 16 * MIB,
		.quota[QUOTA_CONNECTIONS] = 1024,
	};
}

static int refuse_above(const char *low_key, uint64_t low, const char *high_key, uint64_t high, char *why,
			size_t n_bytes)
{
	if (low <= high)
		return 0;
	snprintf(why, n_bytes, "%s (%" PRIu64 ") must not be above %s (%" PRIu64 ")", low_key, low, high_key, high);
	return LIMITS_E_CONTRADICTION;
}

int limits_settle(struct limits *limits, char *why, size_t n_bytes)
{
	int r;

	r = refuse_above("queued_reply_pause", limits->queued_reply_pause, "queued_reply_slow",
			 limits->queued_reply_slow, why, n_bytes);
	if (r)
		return r;
	r = refuse_above("queued_reply_slow", limits->queued_reply_slow, "queued_reply_close",
			 limits->queued_reply_close, why, n_bytes);
	if (r)
		return r;
	/* Lowering one number is enough to lower what it bounds: these two are not contradictions. */
	if (limits->request_frame_before_hello > limits->request_frame)
		limits->request_frame_before_hello = limits->request_frame;
	if (limits->connections_before_hello > limits->connections_total)
		limits->connections_before_hello = limits->connections_total;
	limits->quota[QUOTA_CONNECTIONS] = limits->connections_per_uid;
	return 0;
}
