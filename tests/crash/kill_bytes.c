// SPDX-License-Identifier: MIT
/*
 * kill_bytes - a client killed at each instruction after which a byte of shared memory differs
 *
 * It is stepped, instruction by instruction, through one call, while the pool's whole memory is compared with what it was one
 * instruction before. At the first difference it is killed; another goes to the second, and so on. What it may leave in shared
 * memory is a block half filled: the books never say so, and the next owner finds what a new block must read.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kill_model.h"
#include "tests/lib/daemon.h"

#define POOL_BYTES  (64u << 10)
#define FIRST	    4096u /* offset of a pool's first byte */
#define STATES_MAX  500	  /* more than any of the calls has */
#define STEPS_MAX   2000000
#define PATIENCE_MS 60000

struct shared {
	_Atomic uint32_t is_ready, is_called; /* futex words */
};

struct call {
	const char *name;
	bool (*prepare)(struct mempool_pool *pool);
	bool (*call)(struct mempool_pool *pool);
};

static struct shared *shared;
static struct daemon daemon_;
static struct mempool_client *client; /* the driver's */
static struct mempool_pool *pool;
static mempool_offset offsets[2]; /* the client's */

/* ---- the calls: small, for each vector register that is stored is a state ---- */

static bool prepare_nothing(struct mempool_pool *own)
{
	(void)own;
	return true;
}

static bool prepare_two(struct mempool_pool *own)
{
	offsets[0] = mempool_alloc(own, 48);
	offsets[1] = mempool_alloc(own, 48);
	return offsets[0] && offsets[1];
}

static bool call_alloc(struct mempool_pool *own)
{
	return mempool_alloc(own, 100) != 0;
}

static bool call_aligned(struct mempool_pool *own)
{
	return mempool_alloc_aligned(own, 64, 256) != 0;
}

static bool call_batch(struct mempool_pool *own)
{
	const size_t sizes[2] = {32, 64};

	return !mempool_alloc_batch(own, 2, sizes, offsets);
}

static bool call_realloc(struct mempool_pool *own)
{
	return mempool_realloc(own, offsets[0], 120) != 0;
}

static bool call_free(struct mempool_pool *own)
{
	return !mempool_free(own, offsets[0]);
}

static bool call_publish(struct mempool_pool *own)
{
	return !mempool_publish(own, offsets[0], "it");
}

static bool call_retain(struct mempool_pool *own)
{
	return !mempool_retain(own, offsets[0]);
}

static const struct call calls[] = {
	{"alloc", prepare_nothing, call_alloc},
	{"alloc_aligned", prepare_nothing, call_aligned},
	{"alloc_batch", prepare_nothing, call_batch},
	{"realloc", prepare_two, call_realloc},
	{"free", prepare_two, call_free},
	{"retain", prepare_two, call_retain},
	{"publish", prepare_two, call_publish},
};

static _Noreturn void run_client(const struct call *call)
{
	struct mempool_client *own;
	struct mempool_pool *mine;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mempool_connect(&own, daemon_.socket) || mempool_pool_open(own, "pool", &mine) || !call->prepare(mine))
		_exit(1);
	atomic_store(&shared->is_ready, 1);
	kill_wake(&shared->is_ready);
	while (atomic_load(&shared->is_ready) == 1)
		(void)kill_wait(&shared->is_ready, 1, 1000);
	if (!call->call(mine))
		_exit(2);
	atomic_store(&shared->is_called, 1);
	for (;;)
		pause();
}

/* ---- the driver ---- */

static int failed(const struct call *call, unsigned state, const char *what, long r)
{
	fprintf(stderr, "%s, state %u: %s: %ld (%s)\n", call->name, state, what, r, mempool_last_error());
	return -1;
}

/* Return: 1 the @n-th difference was there, 0 the call was over before, -1 */
static int step_to(const struct call *call, pid_t pid, unsigned n)
{
	static unsigned char before[POOL_BYTES];
	const unsigned char *now = mempool_ptr(pool, FIRST);
	unsigned n_seen = 0;
	int status, signal = 0;

	memcpy(before, now, POOL_BYTES);
	for (unsigned i = 0; i < STEPS_MAX; i++) {
		if (ptrace(PTRACE_SINGLESTEP, pid, 0, signal) || waitpid(pid, &status, __WALL) != pid ||
		    !WIFSTOPPED(status))
			return failed(call, n, "the client ended by itself", errno);
		signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
		if (atomic_load(&shared->is_called))
			return 0;
		if (!memcmp(before, now, POOL_BYTES))
			continue;
		if (++n_seen == n)
			return 1;
		memcpy(before, now, POOL_BYTES);
	}
	return failed(call, n, "the call does not end", STEPS_MAX);
}

static int is_other(void *arg, const struct mempool_session_info *info)
{
	return info->session != *(const uint64_t *)arg;
}

/* The dead client's session is over, and whatever it had is free: all of the pool can be had, and reads as new. */
static int audit(const struct call *call, unsigned state)
{
	const struct timespec pause = {.tv_nsec = 500000};
	uint64_t own = mempool_session(client);
	struct mempool_stats stats;
	mempool_offset offset, all;
	int r;

	for (int i = 0; i < 20000 && mempool_session_list(client, NULL, is_other, &own); i++)
		nanosleep(&pause, NULL); /* the bound decides */
	if (!mempool_find(pool, "it", &offset) && mempool_free(pool, offset))
		return failed(call, state, "free of what it published", 0);
	r = mempool_pool_check(pool, stderr);
	if (!r)
		r = mempool_pool_stats(pool, &stats);
	if (r || stats.used || stats.allocations)
		return failed(call, state, "the books are not as they were", r ? r : (long)stats.used);
	all = mempool_alloc(pool, POOL_BYTES);
	for (unsigned i = 0; all && i < POOL_BYTES; i++)
		if (((unsigned char *)mempool_ptr(pool, all))[i] != 0xCC)
			return failed(call, state, "a byte of new memory is not new", i);
	if (all) /* or the next fill would change nothing */
		memset(mempool_ptr(pool, all), 0x55, POOL_BYTES);
	return all && !mempool_free(pool, all) ? 0 : failed(call, state, "the pool cannot be had", 0);
}

static int kill_at(const struct call *call, unsigned n)
{
	int r = -1, status;
	pid_t pid;

	atomic_store(&shared->is_ready, 0);
	atomic_store(&shared->is_called, 0);
	fflush(NULL);
	pid = fork();
	if (!pid)
		run_client(call);
	if (!atomic_load(&shared->is_ready) && !kill_wait(&shared->is_ready, 0, PATIENCE_MS))
		return failed(call, n, "the client does not start", 0);
	if (!ptrace(PTRACE_SEIZE, pid, 0, 0) && !ptrace(PTRACE_INTERRUPT, pid, 0, 0) &&
	    waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
		atomic_store(&shared->is_ready, 2);
		r = step_to(call, pid, n);
	} else {
		failed(call, n, "trace", errno);
	}
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status))
		;
	return r < 0 || audit(call, n) ? -1 : r;
}

static int begin(void)
{
	int r = daemon_init(&daemon_);

	if (!r)
		r = daemon_start(&daemon_, NULL);
	if (!r)
		r = mempool_connect(&client, daemon_.socket);
	if (!r)
		r = mempool_pool_create(client, "pool", POOL_BYTES, NULL, &pool);
	return r;
}

int main(void)
{
	unsigned n_all = 0;
	int r;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	r = shared == MAP_FAILED ? -ENOMEM : begin();
	if (!r)
		r = audit(&calls[0], 0);
	printf("a client killed at each instruction after which a byte of the pool differs:");
	for (size_t i = 0; !r && i < N_ELEMENTS(calls); i++) {
		unsigned n = 0;

		do {
			r = kill_at(&calls[i], ++n);
		} while (r == 1 && n < STATES_MAX);
		printf("%s %s %u", i ? "," : "", calls[i].name, n - 1);
		fflush(stdout);
		n_all += n - 1;
	}
	printf("; %u states\n", n_all);
	mempool_pool_close(pool);
	mempool_disconnect(client);
	if (!r && !n_all) {
		fprintf(stderr, "no call changed a byte\n");
		r = -1;
	}
	if (r)
		fprintf(stderr, "FAILED: %d\n", r);
	daemon_deinit(&daemon_);
	return r ? 1 : 0;
}
