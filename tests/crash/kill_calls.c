// SPDX-License-Identifier: MIT
/*
 * kill_calls - each kind of request, with the daemon killed before and after each system call that it makes meanwhile: the request
 * is completed exactly once; and with the client killed before and after each system call of its own: the books are exact.
 *
 * The client is a process of its own. It prepares, says so, is told to go, makes one call, says what came of it, and checks.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kill_model.h"
#include "kill_trace.h"
#include "tests/lib/daemon.h"

#define PATIENCE_MS 60000
#define STOPS_MAX   2000 /* more than any request makes system calls */

struct shared {		       /* between the two */
	_Atomic uint32_t turn; /* futex word: 1 the client is ready, 2 go, 3 it is done, 4 go on and check, 5 checked */
	_Atomic uint32_t is_called; /* the call has returned */
	char failure[512];
};

struct us { /* the client */
	struct shared *shared;
	struct mempool_client *client, *other; /* the other hands a block over, or comes and goes */
	struct mempool_pool *pool, *others, *more;
	mempool_offset a, b, got, batch[4];
	uint64_t used;
	int r;
};

struct kind {
	const char *name;
	void (*prepare)(struct us *us);
	void (*call)(struct us *us);
	/* what is used then, of what was before; the owner of all is the client */
	int64_t (*check)(struct us *us);
};

static struct daemon daemon_;
static struct shared *shared;
static const char *const daemon_args[] = {"--log-level", "debug", NULL}; /* it says why a session ends */

static _Noreturn void fail(struct us *us, const char *what)
{
	snprintf(us->shared->failure, sizeof(us->shared->failure), "%s: r %d, errno %s (%s)", what, us->r,
		 strerror(errno), mempool_last_error());
	_exit(1);
}

#define EXPECT(us, condition)                 \
	do {                                  \
		if (!(condition))             \
			fail(us, #condition); \
	} while (0)

static uint64_t used(struct us *us)
{
	struct mempool_stats stats;

	us->r = mempool_pool_stats(us->pool, &stats);
	EXPECT(us, !us->r);
	EXPECT(us, stats.used + stats.free + stats.leased_idle == stats.total);
	return stats.used;
}

static bool is_free(struct us *us, mempool_offset offset)
{
	int r = mempool_free(us->pool, offset);

	return r == -EFAULT || r == -EALREADY;
}

/* ---- the kinds ---- */

static void prepare_nothing(struct us *us)
{
	(void)us;
}

static void prepare_two(struct us *us)
{
	us->a = mempool_alloc(us->pool, 1000);
	us->b = mempool_alloc(us->pool, 3000);
	EXPECT(us, us->a && us->b);
	kill_fill(mempool_ptr(us->pool, us->a), 1, 1000);
	kill_fill(mempool_ptr(us->pool, us->b), 2, 3000);
}

static void call_alloc(struct us *us)
{
	us->got = mempool_alloc(us->pool, 5000);
}

static int64_t check_alloc(struct us *us)
{
	EXPECT(us, us->got);
	memset(mempool_ptr(us->pool, us->got), 1, 5000);
	EXPECT(us, !mempool_free(us->pool, us->got));
	return 0;
}

static void call_alloc_large(struct us *us)
{
	us->got = mempool_alloc_aligned(us->pool, 8u << 20, 2u << 20);
}

static int64_t check_alloc_large(struct us *us)
{
	EXPECT(us, us->got && us->got % (2u << 20) == 0);
	memset(mempool_ptr(us->pool, us->got), 1, 8u << 20);
	EXPECT(us, !mempool_free(us->pool, us->got));
	return 0;
}

static void call_alloc_batch(struct us *us)
{
	const size_t sizes[4] = {100, 2000, 30000, 16};

	us->r = mempool_alloc_batch(us->pool, 4, sizes, us->batch);
}

static int64_t check_alloc_batch(struct us *us)
{
	EXPECT(us, !us->r);
	EXPECT(us, !mempool_free_batch(us->pool, 4, us->batch));
	return 0;
}

static void call_free(struct us *us)
{
	us->r = mempool_free(us->pool, us->a);
}

static int64_t check_free(struct us *us)
{
	EXPECT(us, !us->r && is_free(us, us->a));
	EXPECT(us, kill_bad_byte(mempool_ptr(us->pool, us->b), 2, 3000, 3000) < 0);
	EXPECT(us, !mempool_free(us->pool, us->b));
	return -1008 - 3008;
}

static void call_free_batch(struct us *us)
{
	const mempool_offset both[2] = {us->a, us->b};

	us->r = mempool_free_batch(us->pool, 2, both);
}

static int64_t check_free_batch(struct us *us)
{
	EXPECT(us, !us->r && is_free(us, us->a) && is_free(us, us->b));
	return -1008 - 3008;
}

static void call_realloc(struct us *us)
{
	us->got = mempool_realloc(us->pool, us->a, 70000);
}

static int64_t check_realloc(struct us *us)
{
	EXPECT(us, us->got);
	EXPECT(us, kill_bad_byte(mempool_ptr(us->pool, us->got), 1, 1000, 1000) < 0);
	EXPECT(us, !mempool_free(us->pool, us->got) && !mempool_free(us->pool, us->b));
	return -1008 - 3008;
}

static void call_retain(struct us *us)
{
	us->r = mempool_retain(us->pool, us->a);
}

static int64_t check_retain(struct us *us)
{
	EXPECT(us, !us->r && !mempool_free(us->pool, us->a));
	EXPECT(us, kill_bad_byte(mempool_ptr(us->pool, us->a), 1, 1000, 1000) < 0);
	EXPECT(us, !mempool_free(us->pool, us->a) && is_free(us, us->a));
	EXPECT(us, !mempool_free(us->pool, us->b));
	return -1008 - 3008;
}

static void call_publish(struct us *us)
{
	us->r = mempool_publish(us->pool, us->a, "it");
}

static int64_t check_publish(struct us *us)
{
	mempool_offset found = 0;

	EXPECT(us, !us->r && !mempool_find(us->pool, "it", &found) && found == us->a);
	EXPECT(us, !mempool_free(us->pool, us->a));
	EXPECT(us, mempool_find(us->pool, "it", &found) == -ENOENT);
	EXPECT(us, !mempool_free(us->pool, us->b));
	return -1008 - 3008;
}

static void prepare_published(struct us *us)
{
	prepare_two(us);
	EXPECT(us, !mempool_publish(us->pool, us->a, "it"));
}

static void call_acquire(struct us *us)
{
	us->r = mempool_acquire(us->pool, "it", &us->got);
}

static int64_t check_acquire(struct us *us)
{
	EXPECT(us, !us->r && us->got == us->a);
	EXPECT(us, !mempool_free(us->pool, us->a) && !mempool_find(us->pool, "it", &us->got));
	EXPECT(us, !mempool_free(us->pool, us->a) && is_free(us, us->a));
	EXPECT(us, !mempool_free(us->pool, us->b));
	return -1008 - 3008;
}

/* From another session, of the same process: the library shares nothing between two. */
static void prepare_taken(struct us *us)
{
	us->r = mempool_connect(&us->other, daemon_.socket);
	EXPECT(us, !us->r);
	us->r = mempool_pool_open(us->other, "pool", &us->others);
	EXPECT(us, !us->r && !mempool_set_timeout(us->other, -1));
	us->a = mempool_alloc(us->others, 1000);
	EXPECT(us, us->a);
	kill_fill(mempool_ptr(us->others, us->a), 1, 1000);
}

static void call_take(struct us *us)
{
	us->r = mempool_take(us->pool, us->a, mempool_session(us->other));
}

static int64_t check_take(struct us *us)
{
	EXPECT(us, !us->r && mempool_take(us->others, us->a, mempool_session(us->other)) == -ESTALE);
	mempool_pool_close(us->others);
	mempool_disconnect(us->other);
	EXPECT(us, kill_bad_byte(mempool_ptr(us->pool, us->a), 1, 1000, 1000) < 0);
	EXPECT(us, !mempool_free(us->pool, us->a));
	return -1008;
}

static void call_create(struct us *us)
{
	struct mempool_pool_options options;

	mempool_pool_options_init(&options);
	options.max_size = 4u << 20;
	options.lease = MEMPOOL_LEASE_OFF;
	us->r = mempool_pool_create(us->client, "more", 1u << 20, &options, &us->more);
}

static int count_pools(void *arg, const struct mempool_pool_info *info)
{
	*(unsigned *)arg += !strcmp(info->name, "more");
	return 0;
}

static unsigned n_more(struct us *us)
{
	unsigned n = 0;

	EXPECT(us, !mempool_pool_list(us->client, count_pools, &n));
	return n;
}

static int64_t check_create(struct us *us)
{
	mempool_offset offset;

	EXPECT(us, !us->r && n_more(us) == 1);
	offset = mempool_alloc(us->more, 100000);
	EXPECT(us, offset && memset(mempool_ptr(us->more, offset), 1, 100000));
	mempool_pool_close(us->more);
	EXPECT(us, !mempool_pool_destroy(us->client, "more", 0) && !n_more(us));
	return 0;
}

static void prepare_more(struct us *us)
{
	call_create(us);
	EXPECT(us, !us->r && mempool_alloc(us->more, 1000));
}

static void call_destroy(struct us *us)
{
	us->r = mempool_pool_destroy(us->client, "more", 0);
}

static int64_t check_destroy(struct us *us)
{
	EXPECT(us, !us->r && !n_more(us) && !mempool_alloc(us->more, 16) && errno == ESTALE);
	mempool_pool_close(us->more);
	return 0;
}

static void call_resize(struct us *us)
{
	us->r = mempool_pool_resize(us->more, 3u << 20);
}

static int64_t check_resize(struct us *us)
{
	struct mempool_stats stats;

	EXPECT(us, !us->r && !mempool_pool_stats(us->more, &stats) && stats.total == 3u << 20);
	EXPECT(us, mempool_alloc(us->more, 2u << 20) && !mempool_pool_check(us->more, NULL));
	mempool_pool_close(us->more);
	EXPECT(us, !mempool_pool_destroy(us->client, "more", 0));
	return 0;
}

static void call_open(struct us *us)
{
	us->r = mempool_pool_open(us->client, "more", &us->others);
}

static int64_t check_open(struct us *us)
{
	mempool_offset offset;

	EXPECT(us, !us->r);
	offset = mempool_alloc(us->others, 10);
	EXPECT(us, offset && mempool_ptr(us->more, offset) == mempool_ptr(us->others, offset));
	mempool_pool_close(us->others);
	mempool_pool_close(us->more);
	EXPECT(us, !mempool_pool_destroy(us->client, "more", 0));
	return 0;
}

/* Connecting never waits: it may fail, and must then leave nothing. */
static void call_connect(struct us *us)
{
	us->other = NULL;
	us->r = mempool_connect(&us->other, daemon_.socket);
}

static int count_ours(void *arg, const struct mempool_session_info *info)
{
	*(unsigned *)arg += info->pid == getpid();
	return 0;
}

static void await_ours(struct us *us, unsigned wanted)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	unsigned n = 0;

	for (int i = 0; i < 10000; i++) { /* the bound decides; an end is noticed when it is */
		n = 0;
		EXPECT(us, !mempool_session_list(us->client, NULL, count_ours, &n));
		if (n == wanted)
			return;
		nanosleep(&pause, NULL);
	}
	us->r = (int)n;
	fail(us, "sessions of this process that the daemon has, r of them, and should not");
}

static int64_t check_connect(struct us *us)
{
	EXPECT(us, !us->r || us->r == -ECONNREFUSED || us->r == -EHOSTDOWN || us->r == -ECONNRESET || us->r == -EPIPE);
	await_ours(us, us->r ? 1 : 2);
	if (!us->r)
		mempool_disconnect(us->other);
	await_ours(us, 1);
	return 0;
}

static void call_disconnect(struct us *us)
{
	mempool_pool_close(us->others);
	mempool_disconnect(us->other);
}

static int64_t check_disconnect(struct us *us)
{
	await_ours(us, 1);
	return -1008;
}

static const struct kind kinds[] = {
	{"alloc", prepare_nothing, call_alloc, check_alloc},
	{"alloc of 8 MiB", prepare_nothing, call_alloc_large, check_alloc_large},
	{"alloc_batch", prepare_nothing, call_alloc_batch, check_alloc_batch},
	{"free", prepare_two, call_free, check_free},
	{"free_batch", prepare_two, call_free_batch, check_free_batch},
	{"realloc", prepare_two, call_realloc, check_realloc},
	{"retain", prepare_two, call_retain, check_retain},
	{"publish", prepare_two, call_publish, check_publish},
	{"acquire", prepare_published, call_acquire, check_acquire},
	{"take", prepare_taken, call_take, check_take},
	{"create", prepare_nothing, call_create, check_create},
	{"open", prepare_more, call_open, check_open},
	{"resize", prepare_more, call_resize, check_resize},
	{"destroy", prepare_more, call_destroy, check_destroy},
	{"connect", prepare_nothing, call_connect, check_connect},
	{"disconnect", prepare_taken, call_disconnect, check_disconnect},
};

/* ---- the client ---- */

static void await_turn(struct shared *with, uint32_t turn)
{
	uint32_t seen;

	while ((seen = atomic_load(&with->turn)) != turn)
		(void)kill_wait(&with->turn, seen, 1000);
}

static void give_turn(struct shared *with, uint32_t turn)
{
	atomic_store(&with->turn, turn);
	kill_wake(&with->turn);
}

static _Noreturn void run_client(const struct kind *kind)
{
	struct us us = {.shared = shared};
	int64_t delta;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	us.r = mempool_connect(&us.client, daemon_.socket);
	EXPECT(&us, !us.r && !mempool_set_timeout(us.client, -1));
	us.r = mempool_pool_open(us.client, "pool", &us.pool);
	EXPECT(&us, !us.r);
	for (;;) {
		atomic_store(&shared->is_called, 0);
		kind->prepare(&us);
		us.used = used(&us);
		give_turn(shared, 1);
		await_turn(shared, 2);
		kind->call(&us);
		atomic_store(&shared->is_called, 1);
		give_turn(shared, 3);
		await_turn(shared, 4);
		delta = kind->check(&us);
		us.r = (int)(used(&us) - us.used - (uint64_t)delta);
		EXPECT(&us, !us.r && "bytes used are what they should be");
		us.r = mempool_pool_check(us.pool, NULL);
		EXPECT(&us, !us.r);
		give_turn(shared, 5);
		await_turn(shared, 6);
	}
}

static pid_t start_client(const struct kind *kind)
{
	pid_t pid;

	atomic_store(&shared->turn, 0);
	fflush(NULL);
	pid = fork();
	if (!pid)
		run_client(kind);
	return pid;
}

/* ---- the driver ---- */

/* Return: 0; -1 and said why */
static int await(const struct kind *kind, pid_t pid, uint32_t turn, unsigned n)
{
	for (int left_ms = PATIENCE_MS; atomic_load(&shared->turn) != turn; left_ms -= 100) {
		int status;

		if (waitpid(pid, &status, WNOHANG) == pid) {
			fprintf(stderr, "%s, stop %u: %s; the client ended with status 0x%x\n", kind->name, n,
				shared->failure, (unsigned)status);
			return -1;
		}
		if (left_ms <= 0) {
			fprintf(stderr, "%s, stop %u: the client hangs at turn %u instead of %u\n", kind->name, n,
				atomic_load(&shared->turn), turn);
			return -1;
		}
		(void)kill_wait(&shared->turn, atomic_load(&shared->turn), 100);
	}
	return 0;
}

static void end_client(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* One call, the daemon killed at its @n-th stop. Return: 1; 0 the call was over before; -1 */
static int kill_daemon_at(const struct kind *kind, pid_t pid, unsigned n)
{
	struct trace trace;
	int r;

	if (await(kind, pid, 1, n))
		return -1;
	r = trace_begin(&trace, daemon_.pid);
	if (r) {
		fprintf(stderr, "trace: %s\n", strerror(-r));
		return -1;
	}
	give_turn(shared, 2);
	r = trace_run(&trace, n, &shared->is_called);
	if (r < 0) {
		fprintf(stderr, "%s, stop %u: the daemon under trace: %s\n", kind->name, n, strerror(-r));
		trace_kill(&trace);
		return -1;
	}
	if (r) {
		trace_kill(&trace);
		daemon_kill(&daemon_);
		if (daemon_start(&daemon_, daemon_args))
			return -1;
	} else {
		trace_end(&trace);
	}
	if (await(kind, pid, 3, n))
		return -1;
	give_turn(shared, 4);
	if (await(kind, pid, 5, n))
		return -1;
	if (r == 1) /* once more; else it is to have nothing under way when it is ended */
		give_turn(shared, 6);
	return r;
}

static int kill_daemon(const struct kind *kind, unsigned *n_statesp)
{
	pid_t pid = start_client(kind);
	int r = 1;

	for (unsigned n = 1; r == 1 && n < STOPS_MAX; n++) {
		r = kill_daemon_at(kind, pid, n);
		*n_statesp += r == 1;
	}
	end_client(pid);
	return r;
}

/* ---- the client killed ---- */

static int is_other(void *arg, const struct mempool_session_info *info)
{
	return info->session != *(const uint64_t *)arg;
}

/* Nothing is left but, perhaps, what a call in flight may have left: a published block, a pool. */
static int audit(const struct kind *kind, unsigned n)
{
	const struct timespec pause = {.tv_nsec = 500000};
	struct mempool_client *client;
	struct mempool_pool *pool;
	struct mempool_stats stats;
	mempool_offset offset;
	uint64_t own;
	int r = mempool_connect(&client, daemon_.socket);

	own = r ? 0 : mempool_session(client);
	for (int i = 0; !r && mempool_session_list(client, NULL, is_other, &own); i++) {
		if (i == 20000)
			r = -ETIME; /* its end is not noticed */
		nanosleep(&pause, NULL);
	}
	if (!r)
		r = mempool_pool_open(client, "pool", &pool);
	if (r) {
		fprintf(stderr, "%s, stop %u: audit: %s (%s)\n", kind->name, n, strerror(-r), mempool_last_error());
		return -1;
	}
	if (!mempool_find(pool, "it", &offset))
		r = kill_bad_byte(mempool_ptr(pool, offset), 1, 1000, 1000) >= 0 ? -EBADMSG
										 : mempool_free(pool, offset);
	if (!r)
		r = mempool_pool_destroy(client, "more", 0);
	if (r == -ENOENT)
		r = 0;
	if (!r)
		r = mempool_pool_stats(pool, &stats);
	if (!r)
		r = mempool_pool_check(pool, stderr);
	if (r || stats.used || stats.allocations)
		fprintf(stderr, "%s, stop %u: audit: %d, %llu bytes used (%s)\n", kind->name, n, r,
			(unsigned long long)stats.used, mempool_last_error());
	mempool_pool_close(pool);
	mempool_disconnect(client);
	return r || stats.used || stats.allocations ? -1 : 0;
}

static int kill_client_at(const struct kind *kind, unsigned n)
{
	pid_t pid = start_client(kind);
	struct trace trace;
	int r = await(kind, pid, 1, n);

	if (!r)
		r = trace_begin(&trace, pid);
	if (r) {
		fprintf(stderr, "trace: %s\n", strerror(-r));
		return -1;
	}
	give_turn(shared, 2);
	r = trace_run(&trace, n, &shared->is_called);
	trace_kill(&trace);
	end_client(pid);
	if (r < 0) {
		fprintf(stderr, "%s, stop %u: the client under trace: %s\n", kind->name, n, strerror(-r));
		return -1;
	}
	return audit(kind, n) ? -1 : r;
}

static int kill_client(const struct kind *kind, unsigned *n_statesp)
{
	int r = 1;

	for (unsigned n = 1; r == 1 && n < STOPS_MAX; n++) {
		r = kill_client_at(kind, n);
		*n_statesp += r == 1;
	}
	return r;
}

/* ---- all of it ---- */

static int make_pool(void)
{
	struct mempool_pool_options options;
	struct mempool_client *client;
	struct mempool_pool *pool;
	int r = mempool_connect(&client, daemon_.socket);

	mempool_pool_options_init(&options);
	options.lease = MEMPOOL_LEASE_OFF; /* it is about requests: each call is one */
	if (!r) {
		r = mempool_pool_create(client, "pool", 64u << 20, &options, &pool);
		if (!r)
			mempool_pool_close(pool);
		mempool_disconnect(client);
	}
	return r;
}

int main(int argc, char *argv[])
{
	bool the_daemon = argc > 1 && !strcmp(argv[1], "daemon");
	unsigned n_all = 0;
	int r = 0;

	if (argc < 2 || (!the_daemon && strcmp(argv[1], "client"))) {
		fprintf(stderr, "usage: kill_calls daemon|client [KIND]\n");
		return 2;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || daemon_init(&daemon_))
		return 1;
	daemon_.keeps = true;
	r = daemon_start(&daemon_, daemon_args) || make_pool() ? -1 : 0;
	printf("the %s killed before and after each system call of its own during:", argv[1]);
	for (size_t i = 0; !r && i < N_ELEMENTS(kinds); i++) {
		unsigned n = 0;

		if (argc > 2 && strcmp(argv[2], kinds[i].name))
			continue;
		r = the_daemon ? kill_daemon(&kinds[i], &n) : kill_client(&kinds[i], &n);
		printf("%s %s %u", n_all ? "," : "", kinds[i].name, n);
		fflush(stdout);
		n_all += n;
	}
	printf("; %u in all\n", n_all);
	if (!r && daemon_stop(&daemon_))
		r = -1;
	if (r) {
		daemon_print_log(&daemon_);
		fprintf(stderr, "FAILED\n");
	}
	daemon_deinit(&daemon_);
	return r ? 1 : 0;
}
