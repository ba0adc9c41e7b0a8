// SPDX-License-Identifier: MIT
/*
 * mempool - named pools of shared memory, run by a daemon
 *
 * A program connects to mempoold, creates or opens a pool and gets blocks of it as *offsets*, which mean the same
 * in every process; mempool_ptr() makes an offset an address in the caller's own mapping.
 *
 * Results:  functions of type int return 0 or a negative errno, but for mempool_pool_check().
 *           mempool_last_error() tells this thread's last failure (or warning) as a full sentence.
 * Threads:  every function may be called from any thread at any time. Calls of many threads share one connection
 *           and are pipelined on it. No function is async-signal-safe, and no thread may be cancelled (pthread_cancel(3)) inside
 *           one: what it holds would stay held. A close or disconnect waits for calls that are running: see there.
 * Daemon:   when it is killed or restarted, a session goes on: calls wait until it is back, up to mempool_set_timeout(), and are
 *           done exactly once; handles, ids, addresses and blocks stay what they are. After the timeout: -EHOSTDOWN (nobody is
 *           there) or -ETIMEDOUT (silent). An alloc, realloc, retain or acquire that fails so holds nothing, even if it was
 *           done meanwhile: the library gives it back. A create, destroy, resize, publish or take may have happened. A free does
 *           not fail so: it is queued, and done once, by the session's next call or by mempool_disconnect().
 *           -ESTALE from every call: the session is lost (the daemon was started anew without its pools, or has ended it);
 *           -EPROTO: the daemon that runs now speaks another version. Mappings stay; disconnect and connect anew.
 * Fork:     in a forked child, calls on the parent's handles answer -ECHILD and change nothing; close and
 *           disconnect let go of the child's own memory only.
 * ABI:      what libmempool-client.so.0 has: programs compiled against an older header run with it. Structs with a struct_size, and
 *           mempool_stats, grow at their ends. struct mempool_view, struct mempool_recovery and the values of enums and constants
 *           are as they are for as long as the soname is; client/abi.c of the sources holds them, and stops a build that differs.
 * The library starts no thread, touches no signal handler, never prints and never aborts.
 */
#ifndef MEMPOOL_MEMPOOL_H
#define MEMPOOL_MEMPOOL_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default) /* the library hides all else */

#define MEMPOOL_VERSION "0.1.0"

/** Bytes from the start of a pool's data segment; the same in every process. */
typedef uint64_t mempool_offset;
#define MEMPOOL_NULL ((mempool_offset)0)

#define MEMPOOL_NAME_MAX      64		/* bytes of a pool's or block's name: [A-Za-z0-9._-], not "." or ".." */
#define MEMPOOL_ALIGNMENT     16		/* what every block has without asking */
#define MEMPOOL_ALIGNMENT_MAX ((size_t)2 << 20) /* the most that can be asked for */

struct mempool_client; /* a session with one daemon */
struct mempool_pool;   /* an open, mapped pool */

/** How long a block lives that nobody freed. */
enum mempool_lifetime {
	MEMPOOL_LIFETIME_SESSION = 0, /* as long as the session that owns it, or until published */
	MEMPOOL_LIFETIME_POOL = 1,    /* at its session's end it becomes the pool's */
};

/** What new memory reads. */
enum mempool_fill {
	MEMPOOL_FILL_PATTERN = 0, /* 0xCC over the whole block, and over what realloc grows */
	MEMPOOL_FILL_NONE = 1,
	MEMPOOL_FILL_ZERO = 2,
};

/** Whether clients may keep slabs of the pool to serve themselves from. */
enum mempool_lease {
	MEMPOOL_LEASE_AUTO = 0,
	MEMPOOL_LEASE_OFF = 1,
};

enum mempool_format {
	MEMPOOL_FORMAT_ASCII = 0,
	MEMPOOL_FORMAT_UNICODE = 1,
	MEMPOOL_FORMAT_JSON = 2,
};

#define MEMPOOL_IF_EMPTY 1u /* mempool_pool_destroy(): refuse with -ENOTEMPTY while blocks are live */

/* The structs below begin with struct_size = sizeof(struct …) as the caller knows it, and mean the defaults where
 * zero. A larger struct from a newer caller is accepted if what this library does not know is zero, else -E2BIG. */

struct mempool_pool_options {
	size_t struct_size;
	uint64_t max_size; /* bytes the pool may grow to; 0 = size */
	uint32_t mode;	   /* as a file's: r and w open it; 0 = 0600 */
	enum mempool_lifetime lifetime;
	enum mempool_fill fill;
	enum mempool_lease lease;
	uint32_t guard;	   /* 1: canaries before and after each block, looked at by free and check */
	uint32_t reserve;  /* 1: all memory is taken at create, and kept */
	uint32_t gid;	   /* group the mode is about, one of the caller's; 0 = its primary one */
	uint32_t reserved; /* 0 */
};

struct mempool_visualize_options {
	size_t struct_size;
	enum mempool_format format;
	uint32_t width; /* columns of the map; 0 = 80 */
	uint32_t color; /* 1: with terminal colours */
	uint32_t reserved;
	uint32_t blocks; /* 1: list each live block below the map; in JSON, each live slot of a slab too */
	uint32_t reserved2;
};

/** Figures of a pool, taken at one instant: used + free + leased_idle = total. */
struct mempool_stats {
	uint64_t total;	       /* bytes: the pool's size, rounded up to 16 */
	uint64_t used;	       /* bytes of live blocks, with their rounding and guards */
	uint64_t requested;    /* bytes that were asked for, of these */
	uint64_t free;	       /* bytes in gaps */
	uint64_t largest_free; /* bytes of the largest gap, less guards: an alloc of this size succeeds */
	uint64_t leased_idle;  /* bytes of leased slabs that are not live slots */
	uint64_t backed;       /* bytes of the data segment that the kernel holds pages for */
	uint64_t peak_used;    /* bytes: the highest used ever seen */
	uint64_t allocations;  /* live blocks */
	uint64_t gaps;
	uint64_t sessions;    /* that have the pool open */
	uint64_t alloc_total; /* since the pool was created */
	uint64_t free_total;
	uint64_t failed_total; /* allocations refused for lack of memory or quota */
	double fragmentation;  /* 1 - largest gap / free; 0 when nothing is free */
};

struct mempool_pool_info {
	size_t struct_size;
	uint64_t id;	      /* never used again by this daemon instance */
	uint64_t total;	      /* bytes */
	uint64_t max_size;    /* bytes */
	uint64_t used;	      /* bytes */
	uint64_t allocations; /* live blocks */
	uint64_t sessions;    /* that have it open */
	uint64_t created;     /* seconds since 1970 */
	uint32_t uid;
	uint32_t gid;
	uint32_t mode;
	enum mempool_lifetime lifetime;
	enum mempool_fill fill;
	enum mempool_lease lease;
	uint32_t guard;
	uint32_t reserve;
	char name[72]; /* empty for a private pool */
};

struct mempool_session_info {
	size_t struct_size;
	uint64_t session; /* id */
	uint64_t blocks;  /* that it owns in this pool */
	uint64_t bytes;	  /* of these */
	uint64_t holds;	  /* blocks it retained */
	uint64_t oldest;  /* seconds since 1970: its oldest block; 0 = none */
	uint64_t since;	  /* seconds since 1970: when it opened the pool */
	int32_t pid;	  /* 0: not visible from the daemon's pid namespace */
	uint32_t uid;
	char command[24];
	char state[16]; /* "active"; "away": connection gone, process alive; "ending": being reclaimed */
	char pool[72];	/* empty: a private one, or none */
};

struct mempool_recovery { /* what one start of the daemon brought back */
	uint64_t time;	  /* seconds since 1970 */
	uint64_t pools;
	uint64_t blocks; /* live in these */
	uint64_t bytes;	 /* used by these */
	uint64_t sessions;
	uint64_t refused; /* pools that could not be recovered; they stay as they are */
	uint64_t took_us; /* microseconds */
	uint64_t stopped; /* 1: the daemon before had been stopped; 0: it was killed */
};

struct mempool_operation { /* one that reached the daemon */
	size_t struct_size;
	uint64_t number;  /* from 1 on, without gaps; the oldest are forgotten */
	uint64_t time_ns; /* since 1970 */
	uint64_t session; /* id; 0: the daemon's own */
	uint64_t offset;
	uint64_t size;
	int32_t pid;
	int32_t result; /* 0 or a negative errno */
	char what[16]; /* alloc, free, realloc, publish, acquire, retain, take, resize, join, leave, recover, heap, lease; or another */
};

struct mempool_daemon_info {
	size_t struct_size;
	uint64_t uptime;     /* seconds */
	uint64_t recoveries; /* times the instance came back after a daemon's stop or death */
	int32_t pid;
	uint32_t n_loops;
	uint32_t loop_connections[64]; /* connections served by each of n_loops event loops */
	char version[24];
	char instance[128];
	/* limits and quotas, named as in the configuration file; bytes, counts, and milliseconds where _ms */
	uint64_t limit_request_frame;
	uint64_t limit_request_frame_before_hello;
	uint64_t limit_connections_per_uid;
	uint64_t limit_connections_total;
	uint64_t limit_connections_before_hello;
	uint64_t limit_time_to_hello_ms;
	uint64_t limit_time_to_finish_frame_ms;
	uint64_t limit_queued_reply_pause;   /* the daemon stops reading */
	uint64_t limit_queued_reply_close;   /* the connection is closed at once */
	uint64_t limit_queued_reply_slow;    /* the connection is closed after … */
	uint64_t limit_queued_reply_slow_ms; /* … so long above it */
	uint64_t limit_requests_in_flight;
	uint64_t limit_decode_arena;
	uint64_t limit_decode_objects;
	uint64_t limit_total_bytes; /* backed for all pools together; UINT64_MAX: none */
	uint64_t limit_decay_ms;    /* a large gap's pages go back to the kernel after */
	uint64_t quota_bytes;	    /* per uid; UINT64_MAX: none */
	uint64_t quota_pools;
	uint64_t quota_sessions;
	uint64_t quota_blocks;
	uint64_t n_last_recoveries;		     /* filled of: */
	struct mempool_recovery last_recoveries[16]; /* newest first */
};

/* ---- session ---- */

/**
 * mempool_connect() - begin a session
 * @out:         out: the session; untouched on failure
 * @socket_path: the daemon's socket; NULL: $MEMPOOL_SOCKET, else $XDG_RUNTIME_DIR/mempoold.sock, else
 *               /run/mempoold/mempoold.sock, the first that answers
 *
 * Never waits for a daemon to appear.
 * Ownership: the caller's until mempool_disconnect().
 * Return: 0; -ECONNREFUSED no daemon there; -EPROTO another protocol version; -EDQUOT, -EAGAIN refused by a limit.
 */
int mempool_connect(struct mempool_client **out, const char *socket_path);

/**
 * mempool_disconnect() - end the session and drop all its holds. NULL: nothing.
 *
 * Waits for the requests that calls of this process are at, and then for an absent or silent daemon no longer than the timeout, for
 * an absent one only if a queued free is to be done: all else ends with the session when the daemon is back. A call that another
 * thread is in fails with -ENOTCONN at its next request, if it has one; one that opens a pool may yet give a handle, to be closed.
 * No call may begin with @client any more; those on its pools answer -ENOTCONN.
 */
void mempool_disconnect(struct mempool_client *client);

/**
 * mempool_set_timeout() - longest wait of a request for an absent or silent daemon, in ms; default 10000, 0 never, -1 for ever
 *
 * Of calls from now on. With 0 a call only sends what it can, and takes the answer if it is there already.
 */
int mempool_set_timeout(struct mempool_client *client, int ms);

/** mempool_session() - this session's id, never used again; 0 for NULL. Send it beside an offset: see mempool_take(). */
uint64_t mempool_session(struct mempool_client *client);

/* ---- pools ---- */

static inline void mempool_pool_options_init(struct mempool_pool_options *options)
{
	memset(options, 0, sizeof(*options));
	options->struct_size = sizeof(*options);
}

/**
 * mempool_pool_create() - create a pool and open it
 * @name:    NULL: a private pool, in no list, gone with its session
 * @size:    bytes, 1 or more; rounded up to 16
 * @options: NULL: the defaults
 *
 * Return: 0; -EEXIST name taken, perhaps by a damaged pool; -EINVAL bad name, size or option; -ENOSPC no room in /dev/shm; -EDQUOT.
 */
int mempool_pool_create(struct mempool_client *client, const char *name, uint64_t size,
			const struct mempool_pool_options *options, struct mempool_pool **out);

/** mempool_pool_open() - open a pool by name. Return: 0; -ENOENT; -EACCES: the mode does not give r and w; -EBADMSG: its books are damaged. */
int mempool_pool_open(struct mempool_client *client, const char *name, struct mempool_pool **out);

/**
 * mempool_pool_close() - let go of the handle; frees no block. Addresses are valid until the last close. NULL: nothing.
 *
 * Waits for calls that other threads are at with @pool; none may begin any more.
 */
void mempool_pool_close(struct mempool_pool *pool);

/**
 * mempool_pool_destroy() - remove a pool
 * @flags: MEMPOOL_IF_EMPTY or 0
 *
 * A pool with live blocks is destroyed all the same: 0, with a warning (counts, holders) in mempool_last_error().
 * Mappings stay readable until closed; requests on the pool answer -ESTALE.
 * Return: 0; -ENOENT; -EACCES: for the pool's uid, the daemon's, or root; -ENOTEMPTY with MEMPOOL_IF_EMPTY.
 */
int mempool_pool_destroy(struct mempool_client *client, const char *name, unsigned flags);

/** mempool_pool_resize() - grow to @size bytes. Return: 0; -EINVAL below the present size; -ENOSPC above max_size; -EACCES. */
int mempool_pool_resize(struct mempool_pool *pool, uint64_t size);

/* ---- blocks ---- */

/**
 * mempool_alloc() - get a block
 * @size: bytes, 1 or more
 *
 * Return: its offset, a multiple of 16; or 0 with errno set: EINVAL, ENOSPC (the pool or /dev/shm is full: the sentence
 * tells what was asked, what is free, the largest gap and the top holders), EDQUOT, ENOMEM, ESTALE, ENOTCONN …
 */
mempool_offset mempool_alloc(struct mempool_pool *pool, size_t size);

/** mempool_alloc_aligned() - the same at a multiple of @alignment, a power of two up to 2 MiB, as offset and as address. */
mempool_offset mempool_alloc_aligned(struct mempool_pool *pool, size_t size, size_t alignment);

/**
 * mempool_realloc() - change a block's size, in place where it can, else by moving it
 *
 * Of offset 0: allocates. To size 0: EINVAL, and the block stays. After ETIMEDOUT or EHOSTDOWN the block may have shrunk to
 * @size, if that is less than it had. A block with a name or a second hold never moves: EBUSY
 * if it does not fit in place. Only its owner may, or anyone if it is the pool's: else EPERM.
 * Return: the block's offset now; or 0 with errno set and the block as it was.
 */
mempool_offset mempool_realloc(struct mempool_pool *pool, mempool_offset offset, size_t size);

/** mempool_alloc_batch() - @n blocks, all or none; @out [n] is untouched on failure. */
int mempool_alloc_batch(struct mempool_pool *pool, size_t n, const size_t sizes[], mempool_offset out[]);

/**
 * mempool_free() - drop one hold of the calling session on a block; if it has none, the owner's. The last hold frees it.
 *
 * Of 0: nothing, returns 0.
 * Return: 0; -EFAULT no block starts there; -EALREADY known to be free already; -EBADMSG (guard pools) the block is freed,
 * but its canaries were overwritten: the sentence says where and whose it was; -ESTALE the pool is destroyed. 0 as well while
 * the daemon is away: the free is queued (canaries are not looked at then). Never fails for lack of memory: without any left
 * it may wait longer than the timeout.
 */
int mempool_free(struct mempool_pool *pool, mempool_offset offset);

/**
 * mempool_free_batch() - frees all of @offsets [n] that it can. Return: 0, or the first error.
 *
 * Waits for an absent or silent daemon once; what is left is queued then, as by mempool_free().
 */
int mempool_free_batch(struct mempool_pool *pool, size_t n, const mempool_offset offsets[]);

/**
 * mempool_free_batch_failed() - the same, and tells which were not freed
 * @failed:    out, [n]: those, in no order. If the daemon was restarted in the middle, perhaps not all of them.
 * @n_failedp: out: how many. A block whose canaries were overwritten (-EBADMSG) is freed, and not among them.
 */
int mempool_free_batch_failed(struct mempool_pool *pool, size_t n, const mempool_offset offsets[],
			      mempool_offset failed[], size_t *n_failedp);

/**
 * mempool_publish() - make an owned block the pool's, so that it outlives the session
 * @name: a key to find it by, or NULL
 *
 * Return: 0; -EEXIST name taken (so "alloc, fill, publish, else find" makes a singleton); -EPERM not the owner.
 */
int mempool_publish(struct mempool_pool *pool, mempool_offset offset, const char *name);

/** mempool_publish_batch() - publishes, without names, all of @offsets [n] that it can. Return: 0, or the first error. */
int mempool_publish_batch(struct mempool_pool *pool, size_t n, const mempool_offset offsets[]);

/** mempool_find() - the offset published under @name, without a hold. Return: 0; -ENOENT. */
int mempool_find(struct mempool_pool *pool, const char *name, mempool_offset *out);

/** mempool_acquire() - find and retain in one step. */
int mempool_acquire(struct mempool_pool *pool, const char *name, mempool_offset *out);

/** mempool_retain() - add a hold, counted; for a block of one's own, a published one, or one retained already; else -EPERM. */
int mempool_retain(struct mempool_pool *pool, mempool_offset offset);

/**
 * mempool_take() - become the owner of a block that another session handed over
 * @from_session: the sender's mempool_session(), sent beside the offset
 *
 * Return: 0; -ESTALE: that session does not own the block (any more), or nothing is there.
 */
int mempool_take(struct mempool_pool *pool, mempool_offset offset, uint64_t from_session);

/* ---- addresses ---- */

/** mempool_ptr() - an offset's address in this process; NULL if outside the pool. Valid until the pool's last close. */
void *mempool_ptr(struct mempool_pool *pool, mempool_offset offset);

/** mempool_offset_of() - an address's offset; 0 if outside the pool. */
mempool_offset mempool_offset_of(struct mempool_pool *pool, const void *address);

/* What every pool begins with: so that the two above mostly need no call. Compiled into programs, and so never changed. */
struct mempool_view {
	char *begin;	  /* address of offset MEMPOOL_VIEW_FIRST */
	uint64_t n_known; /* bytes from there on that are the pool's; the library looks further */
};

#define MEMPOOL_VIEW_FIRST 4096u /* offset of the first block that there can be */

static inline void *mempool_view_ptr(struct mempool_pool *pool, mempool_offset offset)
{
	const struct mempool_view *view = (const struct mempool_view *)pool;
	uint64_t at = offset - MEMPOOL_VIEW_FIRST; /* huge for what is below */

	if (__builtin_expect(!view || at >= __atomic_load_n(&view->n_known, __ATOMIC_RELAXED), 0))
		return mempool_ptr(pool, offset);
	return view->begin + at;
}

static inline mempool_offset mempool_view_offset_of(struct mempool_pool *pool, const void *address)
{
	const struct mempool_view *view = (const struct mempool_view *)pool;
	uint64_t at = view ? (uint64_t)((uintptr_t)address - (uintptr_t)view->begin) : 0; /* huge for what is below */

	if (__builtin_expect(!view || at >= __atomic_load_n(&view->n_known, __ATOMIC_RELAXED), 0))
		return mempool_offset_of(pool, address);
	return at + MEMPOOL_VIEW_FIRST;
}

/* Functions by these names exist, too: for their address, and for other languages. */
#define mempool_ptr(pool, offset)	 mempool_view_ptr(pool, offset)
#define mempool_offset_of(pool, address) mempool_view_offset_of(pool, address)

/** mempool_usable_size() - bytes that may be used from @offset on, without guards; 0: no block starts there. */
size_t mempool_usable_size(struct mempool_pool *pool, mempool_offset offset);

/* ---- what is going on ---- */

/** mempool_pool_stats_sized() - figures of the pool; writes at most @size bytes and zeroes what it does not know. */
int mempool_pool_stats_sized(struct mempool_pool *pool, struct mempool_stats *out, size_t size);

static inline int mempool_pool_stats(struct mempool_pool *pool, struct mempool_stats *out)
{
	return mempool_pool_stats_sized(pool, out, sizeof(*out));
}

/** mempool_pool_get_info() - what the pool is; @out->struct_size is set by the caller. */
int mempool_pool_get_info(struct mempool_pool *pool, struct mempool_pool_info *out);

/** mempool_pool_list() - visits each named pool; ends early with what @visit returns, if not 0. */
int mempool_pool_list(struct mempool_client *client, int (*visit)(void *arg, const struct mempool_pool_info *info),
		      void *arg);

/** mempool_session_list() - visits each session on a pool (NULL: on every pool, and those on none). */
int mempool_session_list(struct mempool_client *client, const char *pool,
			 int (*visit)(void *arg, const struct mempool_session_info *info), void *arg);

/** mempool_pool_log() - visits the last operations of a pool that one may open, oldest first; they outlive the daemon. */
int mempool_pool_log(struct mempool_client *client, const char *pool,
		     int (*visit)(void *arg, const struct mempool_operation *operation), void *arg);

/** mempool_daemon_info() - the daemon, its limits and loops; @out->struct_size is set by the caller. */
int mempool_daemon_info(struct mempool_client *client, struct mempool_daemon_info *out);

/** mempool_pool_visualize() - draws the pool's map, gaps and figures to @stream; @options NULL: the defaults. */
int mempool_pool_visualize(struct mempool_pool *pool, FILE *stream, const struct mempool_visualize_options *options);

/** mempool_pool_check() - verifies books and guards; one line a fault to @report, unless NULL. Return: faults found, or negative errno. */
int mempool_pool_check(struct mempool_pool *pool, FILE *report);

/** mempool_last_error() - this thread's last failure or warning as a sentence; "" if none. Valid until its next call. */
const char *mempool_last_error(void);

/** mempool_version() - the library's version, as MEMPOOL_VERSION when it was built. */
const char *mempool_version(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
