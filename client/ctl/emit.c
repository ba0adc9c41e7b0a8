// SPDX-License-Identifier: MIT
/*
 * The JSON half of emit.h. Every integer of the daemon is below 2^63 but UINT64_MAX, which stands for "no limit".
 */
#include <string.h>

#include "ctl/emit.h"
#include "ctl/error.h"

json_t *emit_text(const char *text)
{
	json_t *string = json_string(text);
	char clean[256];
	size_t n = 0;

	if (string)
		return string;
	for (; text[n] && n < sizeof(clean) - 1; n++)
		clean[n] = (unsigned char)text[n] < 0x80 ? text[n] : '?';
	clean[n] = '\0';
	return json_string(clean);
}

json_t *emit_number(uint64_t number)
{
	return number == UINT64_MAX ? json_null() : json_integer((json_int_t)number);
}

json_t *emit_stats(const char *name, const struct mempool_stats *stats)
{
	return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "name",
			 emit_text(name), "total", (json_int_t)stats->total, "used", (json_int_t)stats->used,
			 "requested", (json_int_t)stats->requested, "free", (json_int_t)stats->free, "largest_free",
			 (json_int_t)stats->largest_free, "leased_idle", (json_int_t)stats->leased_idle, "backed",
			 (json_int_t)stats->backed, "peak_used", (json_int_t)stats->peak_used, "allocations",
			 (json_int_t)stats->allocations, "gaps", (json_int_t)stats->gaps, "sessions",
			 (json_int_t)stats->sessions, "alloc_total", (json_int_t)stats->alloc_total, "free_total",
			 (json_int_t)stats->free_total, "failed_total", (json_int_t)stats->failed_total,
			 "fragmentation", stats->fragmentation);
}

/* Keys as the daemon calls its limits. */
static json_t *emit_limits(const struct mempool_daemon_info *info)
{
	const struct {
		const char *key;
		uint64_t value;
	} limits[] = {
		{"request_frame", info->limit_request_frame},
		{"request_frame_before_hello", info->limit_request_frame_before_hello},
		{"connections_per_uid", info->limit_connections_per_uid},
		{"connections_total", info->limit_connections_total},
		{"connections_before_hello", info->limit_connections_before_hello},
		{"time_to_hello_ms", info->limit_time_to_hello_ms},
		{"time_to_finish_frame_ms", info->limit_time_to_finish_frame_ms},
		{"queued_reply_pause", info->limit_queued_reply_pause},
		{"queued_reply_close", info->limit_queued_reply_close},
		{"queued_reply_slow", info->limit_queued_reply_slow},
		{"queued_reply_slow_ms", info->limit_queued_reply_slow_ms},
		{"requests_in_flight", info->limit_requests_in_flight},
		{"decode_arena", info->limit_decode_arena},
		{"decode_objects", info->limit_decode_objects},
		{"total_bytes", info->limit_total_bytes},
		{"decay_ms", info->limit_decay_ms},
		{"quota_bytes", info->quota_bytes},
		{"quota_pools", info->quota_pools},
		{"quota_sessions", info->quota_sessions},
		{"quota_blocks", info->quota_blocks},
	};
	json_t *object = json_object();

	for (size_t i = 0; i < N_ELEMENTS(limits); i++) {
		if (json_object_set_new(object, limits[i].key, emit_number(limits[i].value)))
			error_no_memory();
	}
	return object;
}

static json_t *emit_recoveries(const struct mempool_daemon_info *info)
{
	json_t *array = json_array();

	for (uint64_t i = 0; i < info->n_last_recoveries; i++) {
		const struct mempool_recovery *from = &info->last_recoveries[i];
		json_t *recovery = json_pack("{s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:f}", "time", (json_int_t)from->time,
					     "after", from->stopped ? "stop" : "kill", "pools", (json_int_t)from->pools,
					     "blocks", (json_int_t)from->blocks, "bytes", (json_int_t)from->bytes,
					     "sessions", (json_int_t)from->sessions, "refused",
					     (json_int_t)from->refused, "took", (double)from->took_us / 1e6);

		if (json_array_append_new(array, recovery))
			error_no_memory();
	}
	return array;
}

json_t *emit_daemon(const struct mempool_daemon_info *info)
{
	json_t *loops = json_array();

	for (uint32_t i = 0; i < info->n_loops && i < N_ELEMENTS(info->loop_connections); i++) {
		if (json_array_append_new(loops, json_integer(info->loop_connections[i])))
			error_no_memory();
	}
	return json_pack("{s:o, s:o, s:i, s:I, s:I, s:o, s:o, s:o}", "version", emit_text(info->version), "instance",
			 emit_text(info->instance), "pid", (int)info->pid, "uptime", (json_int_t)info->uptime,
			 "recoveries", (json_int_t)info->recoveries, "limits", emit_limits(info), "loops", loops,
			 "last_recoveries", emit_recoveries(info));
}

static const char *lifetime_text(enum mempool_lifetime lifetime)
{
	return lifetime == MEMPOOL_LIFETIME_POOL ? "pool" : "session";
}

static const char *fill_text(enum mempool_fill fill)
{
	return fill == MEMPOOL_FILL_ZERO ? "zero" : fill == MEMPOOL_FILL_NONE ? "none" : "pattern";
}

static const char *lease_text(enum mempool_lease lease)
{
	return lease == MEMPOOL_LEASE_OFF ? "off" : "auto";
}

json_t *emit_pool(const struct mempool_pool_info *info)
{
	return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:b, s:b}", "name",
			 emit_text(info->name), "id", (json_int_t)info->id, "uid", (json_int_t)info->uid, "gid",
			 (json_int_t)info->gid, "mode", (json_int_t)info->mode, "total", (json_int_t)info->total,
			 "max_size", (json_int_t)info->max_size, "used", (json_int_t)info->used, "allocations",
			 (json_int_t)info->allocations, "sessions", (json_int_t)info->sessions, "created",
			 (json_int_t)info->created, "lifetime", lifetime_text(info->lifetime), "lease",
			 lease_text(info->lease), "fill", fill_text(info->fill), "guard", (int)info->guard, "reserve",
			 (int)info->reserve);
}

json_t *emit_offsets(const mempool_offset offsets[], size_t n)
{
	json_t *array = json_array();

	for (size_t i = 0; i < n; i++) {
		if (json_array_append_new(array, json_integer((json_int_t)offsets[i])))
			error_no_memory();
	}
	return array;
}

void emit_document(json_t *document)
{
	if (!document)
		error_no_memory();
	json_dumpf(document, stdout, JSON_COMPACT | JSON_REAL_PRECISION(15)); /* main looks at ferror(stdout) */
	putchar('\n');
	fflush(stdout);
	json_decref(document);
}
