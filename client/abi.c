// SPDX-License-Identifier: MIT
/*
 * What programs have compiled in, and so cannot change under them: no code, only assertions that stop the build.
 *
 * Frozen for as long as the library's soname is: the first group, which programs read or step over by themselves, and every
 * value of an enum. The second group grows at its ends: a new field gets its line here, and the size of its struct follows; no
 * other line ever changes, but for a name where a reserved field gets one. The size of a struct tells the library how
 * old its caller is, so no struct ends in padding.
 *
 * Whoever has to change another line raises SOVERSION in CMakeLists.txt, and the name of the version in mempool-client.sym.
 */
#include <assert.h>

#include "client/pool.h"

#define AT(type, field, offset) static_assert(offsetof(struct type, field) == (offset), #type "." #field " is ABI")
#define SIZE(type, bytes)	static_assert(sizeof(struct type) == (bytes), "the size of " #type " is ABI")
#define VALUE(name, value)	static_assert((name) == (value), #name " is ABI")

/* ---- frozen ---- */

/* mempool_ptr() and mempool_offset_of() read it in the program. */
AT(mempool_view, begin, 0);
AT(mempool_view, n_known, 8);
SIZE(mempool_view, 16);
AT(mempool_pool, view, 0);
VALUE(MEMPOOL_VIEW_FIRST, 4096);

/* An element of an array in mempool_daemon_info. */
AT(mempool_recovery, time, 0);
AT(mempool_recovery, pools, 8);
AT(mempool_recovery, blocks, 16);
AT(mempool_recovery, bytes, 24);
AT(mempool_recovery, sessions, 32);
AT(mempool_recovery, refused, 40);
AT(mempool_recovery, took_us, 48);
AT(mempool_recovery, stopped, 56);
SIZE(mempool_recovery, 64);

static_assert(sizeof(mempool_offset) == 8, "offsets are ABI");
VALUE(MEMPOOL_NULL, 0);
VALUE(MEMPOOL_IF_EMPTY, 1);
VALUE(MEMPOOL_LIFETIME_SESSION, 0);
VALUE(MEMPOOL_LIFETIME_POOL, 1);
VALUE(MEMPOOL_FILL_PATTERN, 0);
VALUE(MEMPOOL_FILL_NONE, 1);
VALUE(MEMPOOL_FILL_ZERO, 2);
VALUE(MEMPOOL_LEASE_AUTO, 0);
VALUE(MEMPOOL_LEASE_OFF, 1);
VALUE(MEMPOOL_FORMAT_ASCII, 0);
VALUE(MEMPOOL_FORMAT_UNICODE, 1);
VALUE(MEMPOOL_FORMAT_JSON, 2);
static_assert(sizeof(enum mempool_lifetime) == 4, "enums in structs are ABI");

/* ---- growing ---- */

AT(mempool_stats, total, 0);
AT(mempool_stats, used, 8);
AT(mempool_stats, requested, 16);
AT(mempool_stats, free, 24);
AT(mempool_stats, largest_free, 32);
AT(mempool_stats, leased_idle, 40);
AT(mempool_stats, backed, 48);
AT(mempool_stats, peak_used, 56);
AT(mempool_stats, allocations, 64);
AT(mempool_stats, gaps, 72);
AT(mempool_stats, sessions, 80);
AT(mempool_stats, alloc_total, 88);
AT(mempool_stats, free_total, 96);
AT(mempool_stats, failed_total, 104);
AT(mempool_stats, fragmentation, 112);
SIZE(mempool_stats, 120);

AT(mempool_pool_options, struct_size, 0);
AT(mempool_pool_options, max_size, 8);
AT(mempool_pool_options, mode, 16);
AT(mempool_pool_options, lifetime, 20);
AT(mempool_pool_options, fill, 24);
AT(mempool_pool_options, lease, 28);
AT(mempool_pool_options, guard, 32);
AT(mempool_pool_options, reserve, 36);
AT(mempool_pool_options, gid, 40);
AT(mempool_pool_options, reserved, 44);
SIZE(mempool_pool_options, 48);

AT(mempool_visualize_options, struct_size, 0);
AT(mempool_visualize_options, format, 8);
AT(mempool_visualize_options, width, 12);
AT(mempool_visualize_options, color, 16);
AT(mempool_visualize_options, reserved, 20);
AT(mempool_visualize_options, blocks, 24);
AT(mempool_visualize_options, reserved2, 28);
SIZE(mempool_visualize_options, 32);

AT(mempool_pool_info, struct_size, 0);
AT(mempool_pool_info, id, 8);
AT(mempool_pool_info, total, 16);
AT(mempool_pool_info, max_size, 24);
AT(mempool_pool_info, used, 32);
AT(mempool_pool_info, allocations, 40);
AT(mempool_pool_info, sessions, 48);
AT(mempool_pool_info, created, 56);
AT(mempool_pool_info, uid, 64);
AT(mempool_pool_info, gid, 68);
AT(mempool_pool_info, mode, 72);
AT(mempool_pool_info, lifetime, 76);
AT(mempool_pool_info, fill, 80);
AT(mempool_pool_info, lease, 84);
AT(mempool_pool_info, guard, 88);
AT(mempool_pool_info, reserve, 92);
AT(mempool_pool_info, name, 96);
SIZE(mempool_pool_info, 168);

AT(mempool_session_info, struct_size, 0);
AT(mempool_session_info, session, 8);
AT(mempool_session_info, blocks, 16);
AT(mempool_session_info, bytes, 24);
AT(mempool_session_info, holds, 32);
AT(mempool_session_info, oldest, 40);
AT(mempool_session_info, since, 48);
AT(mempool_session_info, pid, 56);
AT(mempool_session_info, uid, 60);
AT(mempool_session_info, command, 64);
AT(mempool_session_info, state, 88);
AT(mempool_session_info, pool, 104);
SIZE(mempool_session_info, 176);

AT(mempool_operation, struct_size, 0);
AT(mempool_operation, number, 8);
AT(mempool_operation, time_ns, 16);
AT(mempool_operation, session, 24);
AT(mempool_operation, offset, 32);
AT(mempool_operation, size, 40);
AT(mempool_operation, pid, 48);
AT(mempool_operation, result, 52);
AT(mempool_operation, what, 56);
SIZE(mempool_operation, 72);

AT(mempool_daemon_info, struct_size, 0);
AT(mempool_daemon_info, uptime, 8);
AT(mempool_daemon_info, recoveries, 16);
AT(mempool_daemon_info, pid, 24);
AT(mempool_daemon_info, n_loops, 28);
AT(mempool_daemon_info, loop_connections, 32);
AT(mempool_daemon_info, version, 288);
AT(mempool_daemon_info, instance, 312);
AT(mempool_daemon_info, limit_request_frame, 440);
AT(mempool_daemon_info, limit_request_frame_before_hello, 448);
AT(mempool_daemon_info, limit_connections_per_uid, 456);
AT(mempool_daemon_info, limit_connections_total, 464);
AT(mempool_daemon_info, limit_connections_before_hello, 472);
AT(mempool_daemon_info, limit_time_to_hello_ms, 480);
AT(mempool_daemon_info, limit_time_to_finish_frame_ms, 488);
AT(mempool_daemon_info, limit_queued_reply_pause, 496);
AT(mempool_daemon_info, limit_queued_reply_close, 504);
AT(mempool_daemon_info, limit_queued_reply_slow, 512);
AT(mempool_daemon_info, limit_queued_reply_slow_ms, 520);
AT(mempool_daemon_info, limit_requests_in_flight, 528);
AT(mempool_daemon_info, limit_decode_arena, 536);
AT(mempool_daemon_info, limit_decode_objects, 544);
AT(mempool_daemon_info, limit_total_bytes, 552);
AT(mempool_daemon_info, limit_decay_ms, 560);
AT(mempool_daemon_info, quota_bytes, 568);
AT(mempool_daemon_info, quota_pools, 576);
AT(mempool_daemon_info, quota_sessions, 584);
AT(mempool_daemon_info, quota_blocks, 592);
AT(mempool_daemon_info, n_last_recoveries, 600);
AT(mempool_daemon_info, last_recoveries, 608);
SIZE(mempool_daemon_info, 1632);
