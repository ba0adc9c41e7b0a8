// SPDX-License-Identifier: MIT
/*
 * What one request costs, next to an echo of the same messages over libuv and protobuf-c, everything on one core; what an allocation
 * costs in a batch and in a pipeline; and what an idle daemon has for itself. Rounds alternate, medians are printed.
 *
 * The library asks in a pool without leases: in one with leases it hardly ever does, which is shown beside it.
 */
#include <mempool/mempool.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "echo.h"
#include "proto/frame.h"
#include "proto/mempool.pb-c.h"
#include "tests/lib/daemon.h"

enum {
	N_ROUNDS = 7,
	N_REQUESTS = 20000,
	DEPTH = 256,
	N_BATCHES = 200
};

struct peer {
	int fd;
	uint64_t id, pool;
	uint8_t in[1 << 18];
	size_t n_in;
};

static struct peer echo, mempool;

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench_request: %s failed\n", what);
	exit(1);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double values[], size_t n)
{
	qsort(values, n, sizeof(values[0]), by_value);
	return values[n / 2];
}

/* ---- raw frames: the same client code for both servers ---- */

static int dial(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	for (int i = 0; i < 1000; i++) {
		if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
			return fd;
		usleep(1000); /* the echo is starting; bounded */
	}
	return -1;
}

static size_t put(struct peer *peer, Mempool__Wire__Request *request, uint8_t *out)
{
	size_t n;

	request->has_id = 1;
	request->id = ++peer->id;
	n = mempool__wire__request__pack(request, out + FRAME_HEADER_BYTES);
	frame_put_header(out, (uint32_t)n);
	return FRAME_HEADER_BYTES + n;
}

static size_t put_alloc(struct peer *peer, uint8_t *out)
{
	Mempool__Wire__Request request = MEMPOOL__WIRE__REQUEST__INIT;
	Mempool__Wire__Alloc alloc = MEMPOOL__WIRE__ALLOC__INIT;

	alloc.has_pool = alloc.has_size = 1;
	alloc.pool = peer->pool;
	alloc.size = 64;
	request.op_case = MEMPOOL__WIRE__REQUEST__OP_ALLOC;
	request.alloc = &alloc;
	return put(peer, &request, out);
}

static size_t put_free(struct peer *peer, uint64_t offset, uint8_t *out)
{
	Mempool__Wire__Request request = MEMPOOL__WIRE__REQUEST__INIT;
	Mempool__Wire__Free free_request = MEMPOOL__WIRE__FREE__INIT;

	free_request.has_pool = free_request.has_offset = 1;
	free_request.pool = peer->pool;
	free_request.offset = offset;
	request.op_case = MEMPOOL__WIRE__REQUEST__OP_FREE;
	request.free = &free_request;
	return put(peer, &request, out);
}

/* reads @n replies; @offsets: of their blocks, or NULL */
static void get(struct peer *peer, size_t n, uint64_t offsets[])
{
	size_t n_got = 0;

	while (n_got < n) {
		ssize_t n_read = read(peer->fd, peer->in + peer->n_in, sizeof(peer->in) - peer->n_in);
		size_t at = 0;
		uint32_t n_bytes;

		must(n_read > 0, "reading a reply");
		peer->n_in += (size_t)n_read;
		while (!frame_peek(peer->in + at, peer->n_in - at, FRAME_REPLY_BYTES_MAX, &n_bytes)) {
			Mempool__Wire__Reply *reply =
				mempool__wire__reply__unpack(NULL, n_bytes, peer->in + at + FRAME_HEADER_BYTES);

			must(reply && !reply->status, "a request");
			if (offsets && reply->block)
				offsets[n_got] = reply->block->offset;
			if (reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_POOL)
				peer->pool = reply->pool->info->pool;
			mempool__wire__reply__free_unpacked(reply, NULL);
			n_got++;
			at += FRAME_HEADER_BYTES + n_bytes;
		}
		memmove(peer->in, peer->in + at, peer->n_in - at);
		peer->n_in -= at;
	}
}

static void say(struct peer *peer, const uint8_t *bytes, size_t n)
{
	must(send(peer->fd, bytes, n, MSG_NOSIGNAL) == (ssize_t)n, "sending");
}

static void begin_session(struct peer *peer)
{
	Mempool__Wire__Request request = MEMPOOL__WIRE__REQUEST__INIT;
	Mempool__Wire__Hello hello = MEMPOOL__WIRE__HELLO__INIT;
	Mempool__Wire__CreatePool create = MEMPOOL__WIRE__CREATE_POOL__INIT;
	uint8_t out[256];

	hello.has_version_min = hello.has_version_max = 1;
	hello.version_min = hello.version_max = 1;
	request.op_case = MEMPOOL__WIRE__REQUEST__OP_HELLO;
	request.hello = &hello;
	say(peer, out, put(peer, &request, out));
	get(peer, 1, NULL);
	create.has_size = 1;
	create.size = 64u << 20;
	request.op_case = MEMPOOL__WIRE__REQUEST__OP_CREATE_POOL;
	request.create_pool = &create;
	say(peer, out, put(peer, &request, out));
	get(peer, 1, NULL);
}

/* ---- measurements ---- */

static double one_request_us(struct peer *peer)
{
	static double samples[N_REQUESTS];
	uint64_t offset = 4096;
	uint8_t out[256];

	for (int i = 0; i < N_REQUESTS; i++) {
		double begin = now_us();

		say(peer, out, put_alloc(peer, out));
		get(peer, 1, &offset);
		samples[i] = now_us() - begin;
		say(peer, out, put_free(peer, offset, out));
		get(peer, 1, NULL);
	}
	return median(samples, N_REQUESTS);
}

static double pipelined_us(struct peer *peer)
{
	static uint8_t out[DEPTH * 64];
	uint64_t offsets[DEPTH] = {0};
	double spent = 0;

	for (int batch = 0; batch < N_BATCHES; batch++) {
		double begin = now_us();
		size_t n = 0;

		for (int i = 0; i < DEPTH; i++)
			n += put_alloc(peer, out + n);
		say(peer, out, n);
		get(peer, DEPTH, offsets);
		spent += now_us() - begin;
		n = 0;
		for (int i = 0; i < DEPTH; i++)
			n += put_free(peer, offsets[i], out + n);
		say(peer, out, n);
		get(peer, DEPTH, NULL);
	}
	return spent / N_BATCHES / DEPTH;
}

static double batch_us(struct mempool_pool *pool)
{
	mempool_offset offsets[DEPTH];
	size_t sizes[DEPTH];
	double spent = 0;

	for (int i = 0; i < DEPTH; i++)
		sizes[i] = 64;
	for (int batch = 0; batch < N_BATCHES; batch++) {
		double begin = now_us();

		must(!mempool_alloc_batch(pool, DEPTH, sizes, offsets), "a batch");
		spent += now_us() - begin;
		must(!mempool_free_batch(pool, DEPTH, offsets), "freeing a batch");
	}
	return spent / N_BATCHES / DEPTH;
}

static double library_us(struct mempool_pool *pool)
{
	static double samples[N_REQUESTS];

	for (int i = 0; i < N_REQUESTS; i++) {
		double begin = now_us();
		mempool_offset offset = mempool_alloc(pool, 64);

		samples[i] = now_us() - begin;
		must(offset && !mempool_free(pool, offset), "alloc or free by the library");
	}
	return median(samples, N_REQUESTS);
}

static unsigned long switches(pid_t pid)
{
	char path[64], line[128];
	unsigned long n, sum = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "voluntary_ctxt_switches: %lu", &n) == 1)
			sum += n;
	if (file)
		fclose(file);
	return sum;
}

static struct mempool_pool *make_pool(struct mempool_client *client, const char *name, enum mempool_lease lease)
{
	struct mempool_pool_options options;
	struct mempool_pool *pool;

	mempool_pool_options_init(&options);
	options.fill = MEMPOOL_FILL_NONE;
	options.lease = lease;
	must(!mempool_pool_create(client, name, 64u << 20, &options, &pool), mempool_last_error());
	return pool;
}

int main(void)
{
	static double echo_us[N_ROUNDS], request_us[N_ROUNDS], lib_us[N_ROUNDS], pipe_us[N_ROUNDS],
		echo_pipe_us[N_ROUNDS], bulk_us[N_ROUNDS], slot_us[N_ROUNDS], bulk_slot_us[N_ROUNDS];
	struct mempool_client *client;
	struct mempool_pool *asking, *leasing;
	struct daemon daemon;
	unsigned long before;
	char path[128];
	cpu_set_t one;
	pid_t child;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	must(!sched_setaffinity(0, sizeof(one), &one), "pinning to a core"); /* inherited by both servers */
	must(!daemon_init(&daemon) && !daemon_start(&daemon, (const char *[]){"--threads", "1", NULL}),
	     "starting mempoold");
	before = switches(daemon.pid);
	sleep(2); /* this is what is measured: two seconds of nothing to do */
	printf("idle daemon: %ld KiB private, %lu wake-ups of its main thread in 2 s\n", daemon_private_kib(&daemon),
	       switches(daemon.pid) - before);
	snprintf(path, sizeof(path), "%s/echo", daemon.dir);
	child = fork();
	if (!child)
		echo_serve(path);
	echo.fd = dial(path);
	mempool.fd = dial(daemon.socket);
	must(echo.fd >= 0 && mempool.fd >= 0, "connecting");
	begin_session(&mempool);
	must(!mempool_connect(&client, daemon.socket), mempool_last_error());
	asking = make_pool(client, "asking", MEMPOOL_LEASE_OFF);
	leasing = make_pool(client, "leasing", MEMPOOL_LEASE_AUTO);
	for (int round = 0; round < N_ROUNDS; round++) {
		echo_us[round] = one_request_us(&echo);
		request_us[round] = one_request_us(&mempool);
		lib_us[round] = library_us(asking);
		slot_us[round] = library_us(leasing);
		echo_pipe_us[round] = pipelined_us(&echo);
		pipe_us[round] = pipelined_us(&mempool);
		bulk_us[round] = batch_us(asking);
		bulk_slot_us[round] = batch_us(leasing);
	}
	printf("one request, both on one core, median: echo %.2f us, alloc %.2f us (%.2f x), by the library %.2f us "
	       "(%.2f x); from a slab, without one: %.3f us, the clock's two readings included\n",
	       median(echo_us, N_ROUNDS), median(request_us, N_ROUNDS),
	       median(request_us, N_ROUNDS) / median(echo_us, N_ROUNDS), median(lib_us, N_ROUNDS),
	       median(lib_us, N_ROUNDS) / median(echo_us, N_ROUNDS), median(slot_us, N_ROUNDS));
	printf("256 pipelined, an allocation: echo %.3f us, alloc %.3f us\n", median(echo_pipe_us, N_ROUNDS),
	       median(pipe_us, N_ROUNDS));
	printf("256 in a batch, an allocation: %.3f us by a request (goal 0.5), %.3f us from slabs\n",
	       median(bulk_us, N_ROUNDS), median(bulk_slot_us, N_ROUNDS));
	mempool_pool_close(asking);
	mempool_pool_close(leasing);
	mempool_disconnect(client);
	close(mempool.fd);
	close(echo.fd);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	daemon_deinit(&daemon);
	return 0;
}
