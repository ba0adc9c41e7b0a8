// SPDX-License-Identifier: MIT
/* What is going on: figures, lists, the daemon. Every list is asked for in pages, so no reply is large. */
#include "client/pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ours into a caller's struct of @size bytes: what it does not know is left out, what we do not know is zero */
static void export_struct(void *theirs, size_t size, const void *ours, size_t n_known)
{
	memset(theirs, 0, size);
	memcpy(theirs, ours, size < n_known ? size : n_known);
}

/* ---- stats ---- */

static void stats_fill(struct mempool_stats *stats, const Mempool__Wire__StatsReply *wire)
{
	*stats = (struct mempool_stats){
		.total = wire->total,
		.used = wire->used,
		.requested = wire->requested,
		.free = wire->free,
		.largest_free = wire->largest_free,
		.leased_idle = wire->leased_idle,
		.backed = wire->backed,
		.peak_used = wire->peak_used,
		.allocations = wire->allocations,
		.gaps = wire->gaps,
		.sessions = wire->sessions,
		.alloc_total = wire->alloc_total,
		.free_total = wire->free_total,
		.failed_total = wire->failed_total,
		.fragmentation = wire->fragmentation,
	};
}

int mempool_pool_stats_sized(struct mempool_pool *pool, struct mempool_stats *out, size_t size)
{
	Mempool__Wire__Stats stats = MEMPOOL__WIRE__STATS__INIT;
	struct mempool_stats known;
	struct call call;
	int r;
	REQUEST(request, STATS, stats, stats);
	POOL_CALL(pool);

	if (pool_check_handle(pool, "stats"))
		return -EINVAL;
	if (!out)
		return error_set(-EINVAL, "stats of %s: no place for the result", pool->label);
	SET(stats, pool, pool->id);
	r = client_call(pool->client, &request, pool->id, "stats", &call);
	if (r)
		return r;
	if (call.reply->result_case != MEMPOOL__WIRE__REPLY__RESULT_STATS) {
		r = error_set(-EPROTO, "stats of %s: the daemon answered without them", pool->label);
	} else {
		stats_fill(&known, call.reply->stats);
		export_struct(out, size, &known, sizeof(known));
	}
	call_deinit(&call);
	return r;
}

/* ---- pools ---- */

void info_fill(struct mempool_pool_info *info, const Mempool__Wire__PoolInfo *wire)
{
	*info = (struct mempool_pool_info){
		.struct_size = sizeof(*info),
		.id = wire->pool,
		.total = wire->total,
		.max_size = wire->max_size,
		.used = wire->used,
		.allocations = wire->allocations,
		.sessions = wire->sessions,
		.created = wire->created,
		.uid = wire->uid,
		.gid = wire->gid,
		.mode = wire->mode,
		.lifetime = (enum mempool_lifetime)wire->lifetime,
		.fill = (enum mempool_fill)wire->fill,
		.lease = (enum mempool_lease)wire->lease,
		.guard = wire->guard,
		.reserve = wire->reserve,
	};
	text_copy(info->name, sizeof(info->name), wire->name);
}

static int list_page(struct mempool_client *client, Mempool__Wire__ListPools *list, struct call *call)
{
	int r;
	REQUEST(request, LIST_POOLS, list_pools, *list);

	r = client_call(client, &request, 0, "list of pools", call);
	if (r || call->reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_LIST_POOLS)
		return r;
	call_deinit(call);
	return error_set(-EPROTO, "list of pools: the daemon answered without it");
}

int mempool_pool_get_info(struct mempool_pool *pool, struct mempool_pool_info *out)
{
	Mempool__Wire__ListPools list = MEMPOOL__WIRE__LIST_POOLS__INIT;
	struct mempool_pool_info known;
	struct call call;
	size_t size;
	int r;
	POOL_CALL(pool);

	if (pool_check_handle(pool, "info"))
		return -EINVAL;
	if (!out || out->struct_size < sizeof(size_t))
		return error_set(-EINVAL, "info of %s: no place for the result, or its struct_size is not set",
				 pool->label);
	size = out->struct_size;
	SET(list, pool, pool->id);
	r = list_page(pool->client, &list, &call);
	if (r)
		return r;
	if (!call.reply->list_pools->n_pools) {
		r = error_set(-ESTALE, "info of %s: the pool was destroyed", pool->label);
	} else {
		info_fill(&known, call.reply->list_pools->pools[0]);
		export_struct(out, size, &known, sizeof(known));
		out->struct_size = size;
	}
	call_deinit(&call);
	return r;
}

static int visit_pools(const Mempool__Wire__ListPoolsReply *reply,
		       int (*visit)(void *arg, const struct mempool_pool_info *info), void *arg, uint64_t *afterp)
{
	int r = 0;

	for (size_t i = 0; !r && i < reply->n_pools; i++) {
		struct mempool_pool_info info;

		info_fill(&info, reply->pools[i]);
		*afterp = info.id;
		r = visit(arg, &info);
	}
	return r;
}

int mempool_pool_list(struct mempool_client *client, int (*visit)(void *arg, const struct mempool_pool_info *info),
		      void *arg)
{
	uint64_t after = 0, before;
	bool more = true;
	int r = 0;
	CLIENT_CALL(client);

	if (!client || !visit)
		return error_set(-EINVAL, "list of pools: no client, or nobody to show them to");
	while (!r && more) {
		Mempool__Wire__ListPools list = MEMPOOL__WIRE__LIST_POOLS__INIT;
		struct call call;

		before = after;
		SET(list, after, after);
		r = list_page(client, &list, &call);
		if (r)
			return r;
		r = visit_pools(call.reply->list_pools, visit, arg, &after);
		more = call.reply->list_pools->more && after > before; /* a page without progress ends it */
		call_deinit(&call);
	}
	return r;
}

/* ---- sessions ---- */

static const char *state_name(Mempool__Wire__SessionState state)
{
	switch (state) {
	case MEMPOOL__WIRE__SESSION_STATE__SESSION_ACTIVE:
		return "active";
	case MEMPOOL__WIRE__SESSION_STATE__SESSION_AWAY:
		return "away";
	case MEMPOOL__WIRE__SESSION_STATE__SESSION_ENDING:
		return "ending";
	case _MEMPOOL__WIRE__SESSION_STATE_IS_INT_SIZE:
		break;
	}
	return "unknown";
}

static void session_fill(struct mempool_session_info *info, const Mempool__Wire__SessionInfo *wire)
{
	*info = (struct mempool_session_info){
		.struct_size = sizeof(*info),
		.session = wire->session,
		.blocks = wire->blocks,
		.bytes = wire->bytes,
		.holds = wire->holds,
		.oldest = wire->oldest,
		.since = wire->since,
		.pid = wire->pid,
		.uid = wire->uid,
	};
	text_copy(info->command, sizeof(info->command), wire->command);
	text_copy(info->pool, sizeof(info->pool), wire->pool_name);
	snprintf(info->state, sizeof(info->state), "%s", state_name(wire->state));
}

static int session_page(struct mempool_client *client, Mempool__Wire__ListSessions *list, struct call *call)
{
	int r;
	REQUEST(request, LIST_SESSIONS, list_sessions, *list);

	r = client_call(client, &request, 0, "list of sessions", call);
	if (r || call->reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_LIST_SESSIONS)
		return r;
	call_deinit(call);
	return error_set(-EPROTO, "list of sessions: the daemon answered without it");
}

int mempool_session_list(struct mempool_client *client, const char *pool,
			 int (*visit)(void *arg, const struct mempool_session_info *info), void *arg)
{
	uint64_t after_session = 0, after_pool = 0;
	bool more = true;
	int r = 0;
	CLIENT_CALL(client);

	if (!client || !visit)
		return error_set(-EINVAL, "list of sessions: no client, or nobody to show them to");
	while (!r && more) {
		Mempool__Wire__ListSessions list = MEMPOOL__WIRE__LIST_SESSIONS__INIT;
		const Mempool__Wire__ListSessionsReply *reply;
		struct call call;

		if (pool)
			SET(list, name, name_bytes(pool));
		SET(list, after_session, after_session);
		SET(list, after_pool, after_pool);
		r = session_page(client, &list, &call);
		if (r)
			return r;
		reply = call.reply->list_sessions;
		for (size_t i = 0; !r && i < reply->n_sessions; i++) {
			struct mempool_session_info info;

			session_fill(&info, reply->sessions[i]);
			after_session = info.session;
			after_pool = reply->sessions[i]->pool;
			r = visit(arg, &info);
		}
		more = reply->more && reply->n_sessions;
		call_deinit(&call);
	}
	return r;
}

/* ---- the last operations ---- */

static void operation_fill(struct mempool_operation *operation, const Mempool__Wire__Operation *wire)
{
	*operation = (struct mempool_operation){
		.struct_size = sizeof(*operation),
		.number = wire->number,
		.time_ns = wire->time_ns,
		.session = wire->session,
		.offset = wire->offset,
		.size = wire->size,
		.pid = wire->pid,
		.result = wire->status,
	};
	snprintf(operation->what, sizeof(operation->what), "%s", wire->what ? wire->what : "unknown");
}

static int log_page(struct mempool_client *client, Mempool__Wire__Log *log, const char *pool, struct call *call)
{
	int r;
	REQUEST(request, LOG, log, *log);

	r = client_call(client, &request, 0, "log of a pool", call);
	if (r || call->reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_LOG)
		return r;
	call_deinit(call);
	return error_set(-EPROTO, "log of pool \"%s\": the daemon answered without it", pool);
}

int mempool_pool_log(struct mempool_client *client, const char *pool,
		     int (*visit)(void *arg, const struct mempool_operation *operation), void *arg)
{
	uint64_t after = 0;
	bool more = true;
	int r = 0;
	CLIENT_CALL(client);

	if (!client || !pool || !visit)
		return error_set(-EINVAL, "log of a pool: no client, no name, or nobody to show it to");
	while (!r && more) {
		Mempool__Wire__Log log = MEMPOOL__WIRE__LOG__INIT;
		const Mempool__Wire__LogReply *reply;
		struct call call;

		SET(log, name, name_bytes(pool));
		SET(log, after, after);
		r = log_page(client, &log, pool, &call);
		if (r)
			return r;
		reply = call.reply->log;
		for (size_t i = 0; !r && i < reply->n_operations; i++) {
			struct mempool_operation operation;

			operation_fill(&operation, reply->operations[i]);
			after = operation.number > after ? operation.number : after;
			r = visit(arg, &operation);
		}
		more = reply->more && reply->n_operations;
		call_deinit(&call);
	}
	return r;
}

/* ---- the daemon ---- */

struct limit_place {
	const char *name; /* on the wire */
	size_t offset;
};
#define LIMIT(name)                                                       \
	{                                                                 \
#name, offsetof(struct mempool_daemon_info, limit_##name) \
	}
#define QUOTA(name)                                                                \
	{                                                                          \
		"quota_" #name, offsetof(struct mempool_daemon_info, quota_##name) \
	}

static const struct limit_place limit_places[] = {
	LIMIT(request_frame),
	LIMIT(request_frame_before_hello),
	LIMIT(connections_per_uid),
	LIMIT(connections_total),
	LIMIT(connections_before_hello),
	LIMIT(time_to_hello_ms),
	LIMIT(time_to_finish_frame_ms),
	LIMIT(queued_reply_pause),
	LIMIT(queued_reply_close),
	LIMIT(queued_reply_slow),
	LIMIT(queued_reply_slow_ms),
	LIMIT(requests_in_flight),
	LIMIT(decode_arena),
	LIMIT(decode_objects),
	LIMIT(total_bytes),
	LIMIT(decay_ms),
	QUOTA(bytes),
	QUOTA(pools),
	QUOTA(sessions),
	QUOTA(blocks),
};

static void limit_fill(struct mempool_daemon_info *info, const Mempool__Wire__Limit *limit)
{
	char name[64];

	text_copy(name, sizeof(name), limit->name);
	for (size_t i = 0; i < N_ELEMENTS(limit_places); i++)
		if (!strcmp(name, limit_places[i].name))
			memcpy((char *)info + limit_places[i].offset, &limit->value, sizeof(limit->value));
}

static void daemon_fill(struct mempool_daemon_info *info, const Mempool__Wire__DaemonInfoReply *wire)
{
	size_t n_loops = wire->n_loop_connections;

	*info = (struct mempool_daemon_info){
		.struct_size = sizeof(*info),
		.uptime = wire->uptime,
		.recoveries = wire->recoveries,
		.pid = wire->pid,
	};
	info->n_loops =
		(uint32_t)(n_loops < N_ELEMENTS(info->loop_connections) ? n_loops : N_ELEMENTS(info->loop_connections));
	for (uint32_t i = 0; i < info->n_loops; i++)
		info->loop_connections[i] = wire->loop_connections[i];
	text_copy(info->version, sizeof(info->version), wire->version);
	text_copy(info->instance, sizeof(info->instance), wire->instance);
	for (size_t i = 0; i < wire->n_limits; i++)
		limit_fill(info, wire->limits[i]);
	for (size_t i = 0; i < wire->n_last_recoveries && i < N_ELEMENTS(info->last_recoveries); i++) {
		const Mempool__Wire__Recovery *recovery = wire->last_recoveries[i];

		info->last_recoveries[info->n_last_recoveries++] = (struct mempool_recovery){
			.time = recovery->time,
			.pools = recovery->pools,
			.blocks = recovery->blocks,
			.bytes = recovery->bytes,
			.sessions = recovery->sessions,
			.refused = recovery->refused,
			.took_us = recovery->took_us,
			.stopped = recovery->stopped,
		};
	}
}

int mempool_daemon_info(struct mempool_client *client, struct mempool_daemon_info *out)
{
	Mempool__Wire__DaemonInfo ask = MEMPOOL__WIRE__DAEMON_INFO__INIT;
	struct mempool_daemon_info known;
	struct call call;
	size_t size;
	int r;
	REQUEST(request, DAEMON_INFO, daemon_info, ask);
	CLIENT_CALL(client);

	if (!client || !out || out->struct_size < sizeof(size_t))
		return error_set(-EINVAL,
				 "daemon info: no client, no place for the result, or its struct_size is not set");
	size = out->struct_size;
	r = client_call(client, &request, 0, "daemon info", &call);
	if (r)
		return r;
	if (call.reply->result_case != MEMPOOL__WIRE__REPLY__RESULT_DAEMON_INFO) {
		r = error_set(-EPROTO, "daemon info: the daemon answered without it");
	} else {
		daemon_fill(&known, call.reply->daemon_info);
		export_struct(out, size, &known, sizeof(known));
		out->struct_size = size;
	}
	call_deinit(&call);
	return r;
}
