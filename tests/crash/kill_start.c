// SPDX-License-Identifier: MIT
/*
 * kill_start - what a start finds: recovery killed before and after each of its system calls; nothing but the ledgers, all
 * clients dead; a million blocks
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kill_model.h"
#include "kill_trace.h"
#include "tests/lib/daemon.h"

#define N_BLOCKS  200
#define STOPS_MAX 20000
#ifdef MEMPOOL_TEST_SLOW /* what each stop leaves the other builds prove; here: what is found is read without an error */
#define STRIDE 4u
#else
#define STRIDE 1u
#endif

struct block {
	uint64_t offset;
	uint32_t size;
	uint64_t used; /* bytes of the pool */
};

struct shared {
	_Atomic uint32_t turn; /* futex word: odd: the client's, which looks at its blocks; even: ours */
	char failure[256];
	struct block blocks[N_BLOCKS];
	uint64_t used; /* of all of it */
};

static struct daemon daemon_;
static struct shared *shared;

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int failed(const char *what, int r)
{
	fprintf(stderr, "%s: %d (%s)\n", what, r, mempool_last_error());
	return -1;
}

/* ---- a client with a bit of everything ---- */

static _Noreturn void client_fails(const char *what, int r)
{
	snprintf(shared->failure, sizeof(shared->failure), "%s: %d, %s (%s)", what, r, strerror(errno),
		 mempool_last_error());
	_exit(1);
}

/* Block i: every third is retained, every fifth published with a name. */
static void make_blocks(struct mempool_pool *pool)
{
	for (unsigned i = 0; i < N_BLOCKS; i++) {
		struct block *block = &shared->blocks[i];
		char name[32];
		int r = 0;

		block->size = 16 + i * 37;
		block->offset = mempool_alloc(pool, block->size);
		if (!block->offset)
			client_fails("alloc", (int)i);
		kill_fill(mempool_ptr(pool, block->offset), i + 1, block->size);
		block->used =
			round_up(mempool_usable_size(pool, block->offset), 16); /* a slot is as large as its class */
		shared->used += block->used;
		if (i % 3 == 0)
			r = mempool_retain(pool, block->offset);
		snprintf(name, sizeof(name), "block.%u", i);
		if (!r && i % 5 == 0)
			r = mempool_publish(pool, block->offset, name);
		if (r)
			client_fails("retain or publish", r);
	}
}

static void check_blocks(struct mempool_pool *pool)
{
	struct mempool_stats stats;
	int r = mempool_pool_stats(pool, &stats);

	if (r || stats.used < shared->used)
		client_fails("stats", r);
	for (unsigned i = 0; i < N_BLOCKS; i++) {
		const struct block *block = &shared->blocks[i];
		mempool_offset found = 0;
		char name[32];

		snprintf(name, sizeof(name), "block.%u", i);
		if (kill_bad_byte(mempool_ptr(pool, block->offset), i + 1, block->size, block->size) >= 0)
			client_fails("a block is damaged", (int)i);
		if (mempool_usable_size(pool, block->offset) < block->size)
			client_fails("a block is gone", (int)i);
		r = mempool_find(pool, name, &found);
		if (i % 5 ? r != -ENOENT : r || found != block->offset)
			client_fails("find", r);
	}
}

/* and proof that the session goes on: two allocs that overlap nothing, two frees */
static void use(struct mempool_pool *pool)
{
	mempool_offset a = mempool_alloc(pool, 5000), b = mempool_alloc(pool, 70000);

	if (!a || !b)
		client_fails("alloc", 0);
	memset(mempool_ptr(pool, a), 0x11, 5000);
	memset(mempool_ptr(pool, b), 0x22, 70000);
	if (mempool_free(pool, a) || mempool_free(pool, b))
		client_fails("free", 0);
}

static void await_turn(uint32_t parity, pid_t client)
{
	uint32_t turn;

	while ((turn = atomic_load(&shared->turn)) % 2 != parity) {
		(void)kill_wait(&shared->turn, turn, 500);
		if (client && waitpid(client, NULL, WNOHANG) == client)
			return; /* it failed, and said why */
	}
}

static void pass_turn(void)
{
	atomic_fetch_add(&shared->turn, 1);
	kill_wake(&shared->turn);
}

static _Noreturn void run_client(void)
{
	struct mempool_client *client;
	struct mempool_pool *pool;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mempool_connect(&client, daemon_.socket) || mempool_set_timeout(client, -1) ||
	    mempool_pool_open(client, "pool", &pool))
		client_fails("begin", 0);
	make_blocks(pool);
	for (;;) {
		check_blocks(pool);
		use(pool);
		pass_turn();
		await_turn(1, 0);
	}
}

static pid_t start_client(void)
{
	pid_t pid;

	atomic_store(&shared->turn, 1);
	memset(shared->blocks, 0, sizeof(shared->blocks));
	shared->used = 0;
	fflush(NULL);
	pid = fork();
	if (!pid)
		run_client();
	await_turn(0, pid);
	return pid;
}

/* Return: 0; -1 and said why */
static int look_again(pid_t client)
{
	pass_turn();
	await_turn(0, client);
	if (atomic_load(&shared->turn) % 2 == 0 && !shared->failure[0])
		return 0;
	fprintf(stderr, "the client: %s\n", shared->failure);
	return -1;
}

/* Holds some blocks, and dies holding them. */
static pid_t start_victim(void)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready))
		return -1;
	pid = fork();
	if (!pid) {
		struct mempool_client *client;
		struct mempool_pool *pool;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (mempool_connect(&client, daemon_.socket) || mempool_pool_open(client, "pool", &pool))
			_exit(1);
		for (unsigned i = 0; i < 50; i++)
			if (!mempool_alloc(pool, 100 + 100 * i))
				_exit(1);
		if (write(ready[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1) {
		fprintf(stderr, "the victim does not start\n");
		pid = -1;
	}
	close(ready[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* ---- what another sees ---- */

static int is_other(void *arg, const struct mempool_session_info *info)
{
	const uint64_t *known = arg;

	return info->session != known[0] && info->session != known[1];
}

/* Until only we and @session are there; then @used bytes are in use, and the books are in order. */
static int audit(uint64_t session, uint64_t used)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	struct mempool_client *client;
	struct mempool_pool *pool;
	struct mempool_stats stats = {0};
	uint64_t known[2] = {0, session};
	int r = mempool_connect(&client, daemon_.socket);

	if (r)
		return failed("connect", r);
	known[0] = mempool_session(client);
	for (int i = 0; i < 20000 && mempool_session_list(client, NULL, is_other, known); i++)
		nanosleep(&pause, NULL); /* the bound decides */
	r = mempool_pool_open(client, "pool", &pool);
	if (!r)
		r = mempool_pool_stats(pool, &stats);
	if (!r)
		r = mempool_pool_check(pool, stderr);
	if (r || stats.used != used) {
		fprintf(stderr, "audit: %d; %llu bytes used, %llu expected\n", r, (unsigned long long)stats.used,
			(unsigned long long)used);
		return -1;
	}
	mempool_pool_close(pool);
	mempool_disconnect(client);
	return 0;
}

static int one_session(void *arg, const struct mempool_session_info *info)
{
	uint64_t *found = arg; /* the pid wanted, and its session */

	if (info->pid == (int32_t)found[0])
		found[1] = info->session;
	return 0;
}

static uint64_t session_of(pid_t pid)
{
	uint64_t found[2] = {(uint64_t)pid, 0};
	struct mempool_client *client;

	if (mempool_connect(&client, daemon_.socket))
		return 0;
	(void)mempool_session_list(client, NULL, one_session, found);
	mempool_disconnect(client);
	return found[1];
}

/* ---- recovery, killed ---- */

/* mempoold, held before its first instruction. Return: its pid, traced; -1 and said why */
static pid_t start_traced(struct trace *trace)
{
	const char *program = getenv("MEMPOOLD");
	int hold[2];
	pid_t pid;

	if (pipe(hold))
		return -1;
	pid = fork();
	if (!pid) {
		char byte;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(hold[1]);
		if (read(hold[0], &byte, 1) != 0)
			_exit(126);
		close(hold[0]);
		if (!freopen(daemon_.log, "a", stderr))
			_exit(126);
		execl(program ? program : MEMPOOLD_PATH, "mempoold", "--socket", daemon_.socket, "--instance",
		      daemon_.instance, (char *)NULL);
		_exit(127);
	}
	close(hold[0]);
	if (trace_begin(trace, pid)) {
		fprintf(stderr, "trace_begin: %s\n", strerror(errno));
		end(pid);
		pid = -1;
	}
	close(hold[1]);
	return pid;
}

/* What the stopped thread is about to call; -1: it has just called something. */
static long call_at(pid_t tid, bool *is_shmp)
{
	struct __ptrace_syscall_info info = {0};
	long word;

	*is_shmp = false;
	if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) <= 0 || info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return -1;
	if (info.entry.nr == SYS_openat) {
		word = ptrace(PTRACE_PEEKDATA, tid, info.entry.args[1], 0);
		*is_shmp = !memcmp(&word, "/dev/shm", 8);
	}
	return (long)info.entry.nr;
}

/* Which stops lie between the first look at shared memory and the socket that listens? Return: 0, -1 */
static int measure(unsigned *firstp, unsigned *lastp)
{
	struct trace trace;
	pid_t pid = start_traced(&trace);

	*firstp = *lastp = 0;
	for (unsigned n = 1; pid > 0 && n < STOPS_MAX && !*lastp; n++) {
		bool is_shm;

		if (trace_run(&trace, 1, NULL) != 1)
			break;
		if (call_at(trace.stopped, &is_shm) == SYS_listen)
			*lastp = n;
		if (is_shm && !*firstp)
			*firstp = n;
	}
	if (pid > 0) {
		trace_kill(&trace);
		end(pid);
	}
	if (*firstp && *lastp > *firstp)
		return 0;
	fprintf(stderr, "the start of a daemon is not what it was: first /dev/shm at %u, listen at %u\n", *firstp,
		*lastp);
	return -1;
}

static int kill_recovery_at(unsigned n)
{
	struct trace trace;
	pid_t pid = start_traced(&trace);
	int r;

	if (pid < 0)
		return -1;
	r = trace_run(&trace, n, NULL);
	trace_kill(&trace);
	end(pid);
	if (r < 0)
		fprintf(stderr, "recovery, stop %u: %s\n", n, strerror(-r));
	return r < 0 ? -1 : 0;
}

/* A whole start, a look, and something for the next recovery to do: a session whose process died with the daemon. */
static int breathe(pid_t client)
{
	pid_t victim;
	int r;

	if (daemon_start(&daemon_, NULL) || look_again(client) || audit(session_of(client), shared->used))
		return -1;
	victim = start_victim();
	r = victim < 0 ? -1 : 0;
	daemon_kill(&daemon_);
	if (victim > 0)
		end(victim);
	return r;
}

static int test_recovery(void)
{
	pid_t client = start_client();
	unsigned first, last, n_done = 0;
	int r = 0;

	if (shared->failure[0])
		return failed(shared->failure, 0);
	daemon_kill(&daemon_);
	r = measure(&first, &last);
	for (unsigned n = first; !r && n <= last; n += STRIDE, n_done++) {
		r = n_done % 8 ? 0 : breathe(client);
		if (!r)
			r = kill_recovery_at(n);
		if (r)
			fprintf(stderr, "after recovery was killed at stop %u of %u to %u\n", n, first, last);
	}
	if (!r)
		r = daemon_start(&daemon_, NULL) || look_again(client) || audit(session_of(client), shared->used) ? -1
														  : 0;
	if (!r)
		printf("recovery killed at %u of %u stops before and after its system calls\n", n_done,
		       last - first + 1);
	end(client);
	return r;
}

/* ---- nothing but the ledgers ---- */

static uint64_t used_when_dead(void)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < N_BLOCKS; i += 5)
		n += shared->blocks[i].used;
	return n;
}

static int test_ledger(void)
{
	pid_t client = start_client();
	struct mempool_client *own;
	struct mempool_pool *pool;
	int r;

	if (shared->failure[0])
		return failed(shared->failure, 0);
	daemon_kill(&daemon_);
	end(client);
	if (daemon_start(&daemon_, NULL) || audit(0, used_when_dead()))
		return -1;
	r = mempool_connect(&own, daemon_.socket);
	if (!r)
		r = mempool_pool_open(own, "pool", &pool);
	for (unsigned i = 0; !r && i < N_BLOCKS; i += 5) {
		const struct block *block = &shared->blocks[i];
		mempool_offset found = 0;
		char name[32];

		snprintf(name, sizeof(name), "block.%u", i);
		r = mempool_find(pool, name, &found);
		if (!r && (found != block->offset ||
			   kill_bad_byte(mempool_ptr(pool, found), i + 1, block->size, block->size) >= 0))
			r = -EBADMSG;
		if (!r)
			r = mempool_free(pool, found);
	}
	if (r)
		return failed("what was published", r);
	mempool_pool_close(pool);
	mempool_disconnect(own);
	printf("all killed: what was published came back, all else was reclaimed\n");
	return audit(0, 0);
}

/* ---- a million ---- */

#define MILLION 1000000u
#define BATCH	1000u
#define MOST_US 20000000 /* not the aim, which is 500 ms on a quiet machine, but what cannot be meant */

static _Noreturn void hold_a_million(int ready)
{
	static size_t sizes[BATCH];
	static mempool_offset offsets[BATCH];
	struct mempool_pool_options options;
	struct mempool_client *client;
	struct mempool_pool *pool;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	mempool_pool_options_init(&options);
	options.lease = MEMPOOL_LEASE_OFF; /* each is an extent */
	for (unsigned i = 0; i < BATCH; i++)
		sizes[i] = 64;
	if (mempool_connect(&client, daemon_.socket) ||
	    mempool_pool_create(client, "million", 256u << 20, &options, &pool))
		_exit(1);
	for (unsigned i = 0; i < MILLION / BATCH; i++)
		if (mempool_alloc_batch(pool, BATCH, sizes, offsets))
			_exit(1);
	if (write(ready, "r", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static uint64_t us_of(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

/* @cpu_usp: out, of the daemon: what is left of it on a quiet machine */
static int start_and_ask(uint64_t *usp, uint64_t *cpu_usp, uint64_t *n_blocksp)
{
	const struct timespec pause = {.tv_nsec = 200000};
	struct mempool_client *client;
	struct mempool_pool *pool;
	struct mempool_stats stats;
	uint64_t begun = now_us();
	struct rusage usage;
	pid_t pid = fork();
	const char *program = getenv("MEMPOOLD");
	int r;

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!freopen(daemon_.log, "a", stderr))
			_exit(126);
		execl(program ? program : MEMPOOLD_PATH, "mempoold", "--socket", daemon_.socket, "--instance",
		      daemon_.instance, (char *)NULL);
		_exit(127);
	}
	while ((r = mempool_connect(&client, daemon_.socket)) && now_us() - begun < MOST_US)
		nanosleep(&pause, NULL); /* between two tries */
	if (!r)
		r = mempool_pool_open(client, "million", &pool);
	if (!r)
		r = mempool_pool_stats(pool, &stats);
	*usp = now_us() - begun;
	kill(pid, SIGKILL);
	wait4(pid, NULL, 0, &usage);
	*cpu_usp = us_of(usage.ru_utime) + us_of(usage.ru_stime);
	if (r)
		return failed("a million blocks: no answer after the start", r);
	*n_blocksp = stats.allocations;
	mempool_pool_close(pool);
	(void)mempool_set_timeout(client, 0); /* there is no daemon to say goodbye to */
	mempool_disconnect(client);
	return 0;
}

static int test_million(void)
{
	uint64_t us = 0, cpu_us = 0, least = UINT64_MAX, least_cpu = UINT64_MAX, n_blocks = 0;
	int ready[2], r = 0;
	char byte;
	pid_t pid;

	if (pipe(ready))
		return -1;
	pid = fork();
	if (!pid)
		hold_a_million(ready[1]);
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		return failed("a million blocks cannot be had", 0);
	close(ready[0]);
	daemon_kill(&daemon_);
	for (unsigned i = 0; !r && i < 3; i++) {
		r = start_and_ask(&us, &cpu_us, &n_blocks);
		if (!r && n_blocks != MILLION) {
			fprintf(stderr, "a million blocks: %llu came back\n", (unsigned long long)n_blocks);
			r = -1;
		}
		if (us < least)
			least = us;
		if (cpu_us < least_cpu)
			least_cpu = cpu_us;
	}
	if (!r)
		printf("killed with %u live blocks: from exec to the first answer %llu ms, of CPU time %llu ms, the "
		       "best of 3\n",
		       MILLION, (unsigned long long)least / 1000, (unsigned long long)least_cpu / 1000);
	if (!r && daemon_start(&daemon_, NULL))
		r = -1;
	end(pid);
	return r;
}

/* ---- all of it ---- */

static int make_pool(void)
{
	struct mempool_client *client;
	struct mempool_pool *pool;
	int r = mempool_connect(&client, daemon_.socket);

	if (!r)
		r = mempool_pool_create(client, "pool", 8u << 20, NULL, &pool);
	if (r)
		return failed("pool", r);
	mempool_pool_close(pool);
	mempool_disconnect(client);
	return 0;
}

int main(int argc, char *argv[])
{
	static const struct {
		const char *name;
		int (*test)(void);
	} tests[] = {{"recovery", test_recovery}, {"ledger", test_ledger}, {"million", test_million}};
	int r = 0;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	for (size_t i = 0; !r && i < N_ELEMENTS(tests); i++) {
		if (argc > 1 && strcmp(argv[1], tests[i].name))
			continue;
		r = daemon_init(&daemon_);
		daemon_.keeps = true;
		if (!r)
			r = daemon_start(&daemon_, NULL);
		if (!r)
			r = make_pool();
		if (!r)
			r = tests[i].test();
		fflush(stdout);
		daemon_deinit(&daemon_);
	}
	if (r)
		fprintf(stderr, "FAILED\n");
	return r ? 1 : 0;
}
