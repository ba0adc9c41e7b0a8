#pragma once
// SPDX-License-Identifier: MIT
/*
 * request - one request while it is executed: what handlers share
 *
 * A handler checks what it needs, does the work, fills request->reply on its own stack, and returns what
 * request_answer() or one of the request_refuse functions returns: the reply is packed before its stack is gone.
 *
 * Threads: one.
 */
#include "proto/mempool.pb-c.h"
#include "server/dispatch.h"
#include "server/session.h"
#include "server/status.h"

#define SENTENCE_BYTES 640u /* of a reply's message: a full pool names its top holders */

struct request {
	const struct dispatch *dispatch;
	struct peer *peer;
	struct session *session; /* NULL in Hello only */
	const Mempool__Wire__Request *wire;
	unsigned flags; /* DISPATCH_MAY_BLOCK */
	bool is_resume; /* a Hello that carries a session on */
	uint64_t lane;	/* out, if another than dispatch.c would choose */
	struct reply_buffer *out;
	Mempool__Wire__Reply reply; /* .id is set, status 0 */
};

/* With a pool's id: of those who open it, or walk all of it; neither stands before those who work in it. */
#define LANE_OPENS ((uint64_t)1 << 63)
#define LANE_WALKS ((uint64_t)1 << 62)

typedef int request_handler(struct request *request);

/* dispatch_session.c */
request_handler run_hello, run_goodbye, run_liveness, run_ping, run_daemon_info, run_list_sessions;
/* dispatch_pool.c */
request_handler run_create_pool, run_open_pool, run_close_pool, run_destroy_pool, run_resize_pool, run_list_pools;
/* dispatch_block.c */
request_handler run_alloc, run_free, run_realloc, run_alloc_batch, run_free_batch, run_publish, run_find, run_retain,
	run_take, run_inspect;
/* dispatch_lease.c */
request_handler run_open_heap, run_lease_slabs, run_return_slabs;
/* dispatch_show.c */
request_handler run_stats, run_visualize, run_list_extents, run_check, run_log;

/* ---- answers; each returns what the handler returns ---- */

/** request_answer() - with request->reply as it is */
int request_answer(struct request *request) MUST_CHECK;
/** request_answer_fd() - the same with a descriptor, which is taken over; closed on failure */
int request_answer_fd(struct request *request, int fd) MUST_CHECK;
/** request_refuse() - with @error (negative errno) and a sentence */
int request_refuse(struct request *request, int error, const char *format, ...) PRINTF(3, 4) MUST_CHECK;
/** request_refuse_status() - with the status of an outcome; @format is what was asked */
int request_refuse_status(struct request *request, struct status status, const char *format, ...) PRINTF(3, 4)
	MUST_CHECK;
/** request_refuse_pool() - the same for what a pool's function returned: POOL_E_*, or -errno. POOL_E_SLOW: DISPATCH_E_SLOW */
int request_refuse_pool(struct request *request, int result, struct pool *pool, const char *format, ...) PRINTF(4, 5)
	MUST_CHECK;
/** request_refuse_name() - a name that is none, or that no pool has (with the nearest one that exists) */
int request_refuse_name(struct request *request, const char *asked, ProtobufCBinaryData name) MUST_CHECK;

/* ---- what most handlers need ---- */

/**
 * request_member() - the session's membership of the pool that the request names by id
 * @memberp: out; untouched unless 0 is returned with *answeredp false
 * Return: the membership, or NULL: refused, and *rp is what the handler returns
 */
struct pool_member *request_member(struct request *request, bool has_pool, uint64_t pool, int *rp) MUST_CHECK;

/**
 * request_find_pool() - a pool by name, or by id, opened or not; @asked for the sentence. The caller unrefs it
 * Return: true; false: refused, and *rp is what the handler returns
 */
bool request_find_pool(struct request *request, const char *asked, bool has_name, ProtobufCBinaryData name, bool has_id,
		       uint64_t id, struct pool **poolp, int *rp) MUST_CHECK;

struct pool_label {
	char text[NAME_BYTES_MAX + 24];
};
/** pool_label() - how sentences name @pool */
struct pool_label pool_label(const struct pool *pool);

/** pool_info_fill() - what lists show; points into @pool's options, which live as long as the caller's reference */
void pool_info_fill(Mempool__Wire__PoolInfo *info, struct pool *pool, const struct pool_stats *stats);
/** stats_fill() - struct pool_stats as a message */
void stats_fill(Mempool__Wire__StatsReply *message, const struct pool_stats *stats);

#define WIRE_SET(message, field, value) ((message)->has_##field = 1, (message)->field = (value))

static inline ProtobufCBinaryData wire_bytes(const void *data, size_t n_bytes)
{
	return (ProtobufCBinaryData){.len = n_bytes, .data = (uint8_t *)(uintptr_t)data};
}
