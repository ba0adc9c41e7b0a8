// SPDX-License-Identifier: MIT
/* What a client must not be able to do to the daemon, or to a stranger's pool. hostile.h has the scene. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "proto/frame.h"
#include "tests/integration/hostile.h"
#include "tests/lib/test.h"

#define FRAME_BYTES	   65536u /* the defaults */
#define FRAME_HELLO_BYTES  16384u
#define UNKNOWN_FIELDS_MAX 16u
#define BATCH_MAX	   4096u

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- frames by hand ---- */

static size_t put_varint(uint8_t *out, uint64_t value)
{
	size_t n = 0;

	for (; value >= 0x80; value >>= 7)
		out[n++] = (uint8_t)(value | 0x80);
	out[n++] = (uint8_t)value;
	return n;
}

/*
 * A valid Hello or Ping of exactly @n_bytes, made so long by an unknown field: two bytes of tag, three of length (not the
 * shortest form, but a legal one), and so many zeros.
 */
static uint8_t *padded(struct wire *wire, size_t n_bytes)
{
	static const uint8_t hello[] = {0x52, 4, 0x08, 1, 0x10, 1}, ping[] = {0xc2, 0x03, 0};
	bool is_first = !wire->last_id;
	uint8_t *frame = calloc(1, FRAME_HEADER_BYTES + n_bytes + 16);
	size_t n = FRAME_HEADER_BYTES, n_zeros;

	CHECK(frame);
	frame_put_header(frame, (uint32_t)n_bytes);
	frame[n++] = 0x08; /* id */
	n += put_varint(frame + n, ++wire->last_id);
	memcpy(frame + n, is_first ? hello : ping, is_first ? sizeof(hello) : sizeof(ping));
	n += is_first ? sizeof(hello) : sizeof(ping);
	CHECK(n_bytes >= n - FRAME_HEADER_BYTES + 5);
	n_zeros = n_bytes - (n - FRAME_HEADER_BYTES) - 5;
	put_varint(frame + n, 2047 << 3 | 2);
	frame[n + 2] = (uint8_t)(n_zeros | 0x80);
	frame[n + 3] = (uint8_t)(n_zeros >> 7 | 0x80);
	frame[n + 4] = (uint8_t)(n_zeros >> 14);
	return frame;
}

/* Send a message of @n_bytes. Return: the status of its answer, or what the daemon said when it closed; 0: closed without */
static int send_padded(struct wire *wire, size_t n_bytes)
{
	uint8_t *frame = padded(wire, n_bytes);
	int r = wire_send_bytes(wire, frame, FRAME_HEADER_BYTES + n_bytes);
	Mempool__Wire__Reply *reply = NULL;

	free(frame);
	CHECK(r == 0 || r == WIRE_E_CLOSED);
	r = wire_receive(wire, &reply);
	CHECK(r == 0);
	r = reply->status;
	if (!reply->id) {
		CHECK(wire_last_word(wire) == 0); /* and nothing comes after it */
		wire_close(wire);
	} else {
		CHECK(reply->id == wire->last_id);
	}
	mempool__wire__reply__free_unpacked(reply, NULL);
	return r;
}

static int last_word_after(struct wire wire, const void *bytes, size_t n_bytes)
{
	int r = wire_send_bytes(&wire, bytes, n_bytes);

	CHECK(r == 0);
	r = wire_last_word(&wire);
	wire_close(&wire);
	return r;
}

static void attack_with_lengths(const struct daemon *d)
{
	static const uint32_t beyond[] = {0x7fffffffu, 0x80000000u, 0xffffffffu};
	struct wire wire;
	uint8_t header[FRAME_HEADER_BYTES + 1] = {0};

	for (int greeted = 0; greeted < 2; greeted++) {
		uint32_t limit = greeted ? FRAME_BYTES : FRAME_HELLO_BYTES;

		for (uint32_t n = limit - 1; n <= limit + 1; n++) {
			wire = greeted ? hostile_greet(d) : hostile_connect(d);
			CHECK(send_padded(&wire, n) == (n <= limit ? 0 : -EMSGSIZE));
			wire_close(&wire);
		}
		for (size_t i = 0; i < N_ELEMENTS(beyond); i++) {
			frame_put_header(header, beyond[i]);
			CHECK(last_word_after(greeted ? hostile_greet(d) : hostile_connect(d), header, 4) == -EMSGSIZE);
		}
		frame_put_header(header, 0);
		CHECK(last_word_after(greeted ? hostile_greet(d) : hostile_connect(d), header, 4) == -EBADMSG);
		frame_put_header(header, 1);
		header[4] = 0x08; /* a tag, and no value */
		CHECK(last_word_after(greeted ? hostile_greet(d) : hostile_connect(d), header, 5) == -EBADMSG);
	}
}

/* ---- never ready ---- */

/* A byte every few milliseconds, until the daemon has something to say. */
static int dribble(struct wire wire)
{
	uint8_t *frame = padded(&wire, 16000);
	struct pollfd fd = {.fd = wire.socket, .events = POLLIN};
	uint64_t begin = now_ms();
	size_t n = 0;
	int r;

	while (!poll(&fd, 1, 5) && n < 16000 && wire_send_bytes(&wire, frame + n, 1) == 0)
		n++;
	free(frame);
	CHECK(now_ms() - begin >= 250); /* the configured 300 ms, less the clock's grain */
	r = wire_last_word(&wire);
	wire_close(&wire);
	return r;
}

static void attack_with_half_frames(const struct daemon *d)
{
	struct wire idle = hostile_greet(d), silent = hostile_connect(d);
	uint8_t *frame = padded(&(struct wire){.last_id = 1}, 1000);

	CHECK(wire_last_word(&silent) == -ETIMEDOUT);
	wire_close(&silent);
	CHECK(last_word_after(hostile_connect(d), frame, 2) == -ETIMEDOUT);
	CHECK(last_word_after(hostile_greet(d), frame, 2) == -ETIMEDOUT);
	CHECK(last_word_after(hostile_greet(d), frame, 4) == -ETIMEDOUT);
	CHECK(last_word_after(hostile_greet(d), frame, 500) == -ETIMEDOUT);
	CHECK(last_word_after(hostile_greet(d), frame, 1003) == -ETIMEDOUT);
	CHECK(dribble(hostile_connect(d)) == -ETIMEDOUT);
	CHECK(dribble(hostile_greet(d)) == -ETIMEDOUT);
	CHECK(hostile_ping(&idle) == 0); /* who owes nothing has all the time */
	free(frame);
}

/* ---- nonsense ---- */

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static void send_garbage(struct wire *wire, uint64_t *state, bool framed)
{
	uint8_t bytes[FRAME_HEADER_BYTES + 256];
	uint32_t n = 1 + (uint32_t)(next_random(state) % 256);
	int r;

	for (uint32_t i = 0; i < n; i++)
		bytes[FRAME_HEADER_BYTES + i] = (uint8_t)next_random(state);
	frame_put_header(bytes, n);
	r = framed ? wire_send_bytes(wire, bytes, FRAME_HEADER_BYTES + n)
		   : wire_send_bytes(wire, bytes + FRAME_HEADER_BYTES, n);
	CHECK(r == 0 || r == WIRE_E_CLOSED);
}

static void attack_with_garbage(const struct daemon *d)
{
	uint64_t seed = (uint64_t)getpid() * 1000003 ^ now_ms(), state = seed;

	fprintf(stderr, "garbage: seed %" PRIu64 "\n", seed);
	for (int i = 0; i < 1000; i++) {
		struct wire wire = i & 1 ? hostile_greet(d) : hostile_connect(d);
		int r;

		for (unsigned n = 1 + i % 4; n; n--)
			send_garbage(&wire, &state, i & 2);
		CHECK(shutdown(wire.socket, SHUT_WR) == 0 || errno == ENOTCONN);
		r = wire_last_word(&wire);
		CHECK(r == 0 || r == -EBADMSG || r == -EMSGSIZE || r == -EINVAL || r == -E2BIG);
		wire_close(&wire);
	}
}

/* A Ping with @n unknown fields of one byte. Return: as send_padded() */
static int ping_with_unknown(struct wire *wire, size_t n)
{
	uint8_t *frame = malloc(FRAME_HEADER_BYTES + 16 + 3 * n);
	size_t at = FRAME_HEADER_BYTES;
	Mempool__Wire__Reply *reply;
	int r;

	CHECK(frame);
	frame[at++] = 0x08;
	at += put_varint(frame + at, ++wire->last_id);
	memcpy(frame + at, "\xc2\x03", 3);
	at += 3;
	for (size_t i = 0; i < n; i++, at += 3)
		memcpy(frame + at, "\xf8\x7f\x01", 3); /* field 2047, a varint */
	frame_put_header(frame, (uint32_t)(at - FRAME_HEADER_BYTES));
	CHECK(wire_send_bytes(wire, frame, at) == 0);
	free(frame);
	CHECK(wire_receive(wire, &reply) == 0);
	r = reply->status;
	mempool__wire__reply__free_unpacked(reply, NULL);
	return r;
}

static void attack_with_unknown_fields(const struct daemon *d)
{
	struct wire wire = hostile_greet(d);

	CHECK(ping_with_unknown(&wire, 0) == 0);
	CHECK(ping_with_unknown(&wire, UNKNOWN_FIELDS_MAX - 1) == 0);
	CHECK(ping_with_unknown(&wire, UNKNOWN_FIELDS_MAX) == 0);
	CHECK(ping_with_unknown(&wire, UNKNOWN_FIELDS_MAX + 1) == -EINVAL);
	CHECK(hostile_ping(&wire) == 0);		  /* a refusal is an answer */
	CHECK(ping_with_unknown(&wire, 21000) == -E2BIG); /* 63,000 bytes that decode to megabytes */
	CHECK(wire_last_word(&wire) == 0);
	wire_close(&wire);
}

/* How many unknown fields the daemon decodes: each is an object of its own. */
static void attack_objects(const struct daemon *d)
{
	int64_t n = 0;

	for (;; n++) {
		struct wire wire = hostile_greet(d);
		int r = ping_with_unknown(&wire, (size_t)n);

		wire_close(&wire);
		if (r == -E2BIG)
			break;
		CHECK(r == 0);
		CHECK(n < UNKNOWN_FIELDS_MAX);
	}
	*hostile_result = n - 1;
}

/* How long a message with one long unknown field the daemon decodes. */
static void attack_arena(const struct daemon *d)
{
	size_t good = 64, bad = 8192;

	while (bad - good > 1) {
		struct wire wire = hostile_greet(d);
		size_t middle = (good + bad) / 2;
		int r = send_padded(&wire, middle);

		wire_close(&wire);
		CHECK(r == 0 || r == -E2BIG);
		*(r ? &bad : &good) = middle;
	}
	*hostile_result = (int64_t)good;
}

/* ---- too much ---- */

static int alloc_batch(struct wire *wire, uint64_t pool, size_t n, uint64_t size, uint64_t offsets[])
{
	static uint64_t sizes[2 * BATCH_MAX];
	Mempool__Wire__AllocBatch batch = MEMPOOL__WIRE__ALLOC_BATCH__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(ALLOC_BATCH, alloc_batch, &batch);
	Mempool__Wire__Reply *reply = NULL;
	int status;

	for (size_t i = 0; i < n; i++)
		sizes[i] = size;
	batch.has_pool = 1;
	batch.pool = pool;
	batch.n_sizes = n;
	batch.sizes = sizes;
	status = wire_ask(wire, &request, &reply);
	CHECK(reply && reply->id);
	if (!status) {
		CHECK(reply->blocks && reply->blocks->n_offsets == n);
		memcpy(offsets, reply->blocks->offsets, n * sizeof(*offsets));
	}
	mempool__wire__reply__free_unpacked(reply, NULL);
	return status;
}

static int free_batch(struct wire *wire, uint64_t pool, size_t n, uint64_t offsets[])
{
	Mempool__Wire__FreeBatch batch = MEMPOOL__WIRE__FREE_BATCH__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(FREE_BATCH, free_batch, &batch);

	batch.has_pool = 1;
	batch.pool = pool;
	batch.n_offsets = n;
	batch.offsets = offsets;
	return wire_ask(wire, &request, NULL);
}

static void attack_with_batches(const struct daemon *d)
{
	static const uint64_t huge[] = {UINT64_MAX, UINT64_MAX - 15, INT64_MAX, UINT64_C(1) << 63, UINT64_C(1) << 52};
	static uint64_t offsets[2 * BATCH_MAX];
	struct wire wire = hostile_greet(d);
	uint64_t pool = hostile_create(&wire, "batches", 1 << 20), offset;

	for (size_t n = BATCH_MAX - 1; n <= BATCH_MAX; n++) {
		CHECK(alloc_batch(&wire, pool, n, 16, offsets) == 0);
		CHECK(free_batch(&wire, pool, n, offsets) == 0);
		CHECK(free_batch(&wire, pool, n, offsets) < 0);
	}
	CHECK(alloc_batch(&wire, pool, BATCH_MAX + 1, 16, offsets) == -EINVAL);
	CHECK(free_batch(&wire, pool, BATCH_MAX + 1, offsets) == -EINVAL);
	CHECK(alloc_batch(&wire, pool, 0, 16, offsets) == -EINVAL);
	CHECK(free_batch(&wire, pool, 0, offsets) == -EINVAL);
	for (size_t i = 0; i < N_ELEMENTS(huge); i++) { /* sums that wrap to little */
		int r = alloc_batch(&wire, pool, 2, huge[i], offsets);

		CHECK(r == -ENOSPC || r == -EINVAL);
		r = hostile_alloc(&wire, pool, huge[i], &offset);
		CHECK(r == -ENOSPC || r == -EINVAL);
		CHECK(hostile_free(&wire, pool, huge[i]) == -EFAULT);
	}
	CHECK(alloc_batch(&wire, pool, 1, 1 << 20, offsets) == 0); /* all of it is there still */
	wire_close(&wire);
}

/* Asks and never reads, until the socket takes no more. */
static void ask_until_stuck(struct wire *wire)
{
	Mempool__Wire__DaemonInfo info = MEMPOOL__WIRE__DAEMON_INFO__INIT;
	struct pollfd fd = {.fd = wire->socket, .events = POLLOUT};

	for (;;) {
		Mempool__Wire__Request request = WIRE_REQUEST(DAEMON_INFO, daemon_info, &info);
		size_t n;
		uint8_t *frame = wire_pack(wire, &request, &n);
		ssize_t sent;

		CHECK(frame);
		sent = send(wire->socket, frame, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		free(frame);
		if (sent == (ssize_t)n)
			continue;
		if (sent < 0 && errno == EAGAIN && poll(&fd, 1, 200) == 1 && !(fd.revents & (POLLHUP | POLLERR)))
			continue; /* it only fell behind */
		return;
	}
}

#define N_SLOW 20

static void attack_by_not_reading(const struct daemon *d)
{
	long before = daemon_private_kib(d), after;
	struct wire wires[N_SLOW];

	for (int i = 0; i < N_SLOW; i++) {
		wires[i] = hostile_greet(d);
		ask_until_stuck(&wires[i]);
	}
	after = daemon_private_kib(d);
	fprintf(stderr, "%d clients that never read: %ld KiB more\n", N_SLOW, after - before);
	CHECK(before > 0 && after > 0);
	/* For each: 64 KiB of replies before the pause and as much in the last turn, and 64 KiB of requests. */
	CHECK(after - before < N_SLOW * SLOW_CLIENT_KIB);
	for (int i = 0; i < N_SLOW; i++)
		wire_close(&wires[i]);
}

/* Here the limits close: at once above one, after a while above the other. */
static void attack_by_reading_too_late(const struct daemon *d)
{
	struct wire wire = hostile_greet(d);
	struct pollfd fd = {.fd = wire.socket, .events = 0}; /* POLLHUP comes unasked */
	uint64_t begin;

	ask_until_stuck(&wire);
	begin = now_ms();
	CHECK(poll(&fd, 1, WIRE_PATIENCE_S * 1000) == 1 && (fd.revents & POLLHUP));
	CHECK(now_ms() - begin < WIRE_PATIENCE_S * 1000);
	wire_close(&wire);
}

/* ---- descriptors ---- */

#define N_FDS_EACH 100

static void send_with_fds(struct wire *wire, const void *bytes, size_t n_bytes)
{
	union {
		char bytes[CMSG_SPACE(N_FDS_EACH * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec piece = {(void *)(uintptr_t)bytes, n_bytes};
	struct msghdr message = {
		.msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	int fds[N_FDS_EACH];

	for (int i = 0; i < N_FDS_EACH; i++)
		fds[i] = STDERR_FILENO;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	CHECK(sendmsg(wire->socket, &message, MSG_NOSIGNAL) == (ssize_t)n_bytes);
}

static void attack_with_fds(const struct daemon *d)
{
	struct wire wire = hostile_greet(d);
	Mempool__Wire__Ping ping = MEMPOOL__WIRE__PING__INIT;
	int before = daemon_n_fds(d);

	for (int i = 0; i < 20; i++) {
		Mempool__Wire__Request request = WIRE_REQUEST(PING, ping, &ping);
		Mempool__Wire__Reply *reply;
		size_t n;
		uint8_t *frame = wire_pack(&wire, &request, &n);

		CHECK(frame);
		if (i & 1) { /* in the middle of a frame */
			CHECK(wire_send_bytes(&wire, frame, 3) == 0);
			send_with_fds(&wire, frame + 3, n - 3);
		} else {
			send_with_fds(&wire, frame, n);
		}
		free(frame);
		CHECK(wire_receive(&wire, &reply) == 0 && reply->status == 0);
		mempool__wire__reply__free_unpacked(reply, NULL);
	}
	CHECK(daemon_n_fds(d) == before);
	wire_close(&wire);
}

/* ---- too many ---- */

/* Return: the status of Hello, or of the refusal of the connection itself. */
static int try_greet(const struct daemon *d, struct wire *wire)
{
	int r;

	*wire = hostile_connect(d);
	r = wire_hello(wire);
	if (r == WIRE_E_CLOSED || r == -EPIPE)
		r = wire_last_word(wire);
	if (r)
		wire_close(wire);
	return r;
}

/* When one has gone, another may come, as soon as the daemon has noticed. */
static void greet_when_noticed(const struct daemon *d, struct wire *wire)
{
	uint64_t until = now_ms() + WIRE_PATIENCE_S * 1000;
	int r;

	do
		r = try_greet(d, wire);
	while (r && now_ms() < until);
	CHECK(r == 0);
}

static void fill_connections(const struct daemon *d, unsigned n_allowed, int refusal)
{
	struct wire wires[16], one;

	for (unsigned i = 0; i < n_allowed; i++)
		CHECK(try_greet(d, &wires[i]) == 0);
	CHECK(try_greet(d, &one) == refusal);
	CHECK(try_greet(d, &one) == refusal);
	wire_close(&wires[0]);
	greet_when_noticed(d, &wires[0]);
	CHECK(try_greet(d, &one) == refusal);
	for (unsigned i = 0; i < n_allowed; i++) {
		CHECK(hostile_ping(&wires[i]) == 0);
		wire_close(&wires[i]);
	}
}

static void attack_connections_total(const struct daemon *d)
{
	fill_connections(d, 6 - 2, -EAGAIN); /* the canary and the control connection are two of them */
}

static void attack_connections_per_uid(const struct daemon *d)
{
	fill_connections(d, 3, -EDQUOT);
}

static void attack_sessions_per_uid(const struct daemon *d)
{
	struct wire wires[3], one;

	for (int i = 0; i < 3; i++)
		CHECK(try_greet(d, &wires[i]) == 0);
	one = hostile_connect(d);
	CHECK(wire_hello(&one) == -EDQUOT);
	wire_close(&one);
	for (int i = 0; i < 3; i++)
		CHECK(hostile_ping(&wires[i]) == 0);
}

static void attack_connections_before_hello(const struct daemon *d)
{
	struct wire silent[3], one;

	for (int i = 0; i < 3; i++)
		silent[i] = hostile_connect(d); /* accepted in this order */
	CHECK(try_greet(d, &one) == -EAGAIN);
	CHECK(wire_hello(&silent[0]) == 0); /* none of those any more */
	CHECK(try_greet(d, &one) == 0);
	wire_close(&silent[1]);
	greet_when_noticed(d, &silent[1]);
	CHECK(hostile_ping(&one) == 0);
}

static void attack_connections_before_hello_of_one_user(const struct daemon *d)
{
	struct wire silent[2], one;

	for (int i = 0; i < 2; i++)
		silent[i] = hostile_connect(d);
	CHECK(try_greet(d, &one) == -EAGAIN);
	CHECK(wire_hello(&silent[1]) == 0);
	CHECK(try_greet(d, &one) == 0);
	wire_close(&silent[0]);
	CHECK(hostile_ping(&one) == 0);
}

/* All at once, from one below the limit to far above: each is answered, in order, and the connection goes on. */
static void attack_requests_in_flight(const struct daemon *d)
{
	struct wire wire = hostile_greet(d);
	Mempool__Wire__Ping ping = MEMPOOL__WIRE__PING__INIT;
	static const int counts[] = {3, 4, 5, 2000};

	for (size_t k = 0; k < N_ELEMENTS(counts); k++) {
		static uint8_t frames[2000 * 32];
		size_t n_bytes = 0, n;
		uint64_t first = wire.last_id + 1;

		for (int i = 0; i < counts[k]; i++) {
			Mempool__Wire__Request request = WIRE_REQUEST(PING, ping, &ping);
			uint8_t *frame = wire_pack(&wire, &request, &n);

			CHECK(frame && n <= 32);
			memcpy(frames + n_bytes, frame, n);
			n_bytes += n;
			free(frame);
		}
		CHECK(wire_send_bytes(&wire, frames, n_bytes) == 0);
		for (int i = 0; i < counts[k]; i++) {
			Mempool__Wire__Reply *reply;

			CHECK(wire_receive(&wire, &reply) == 0 && reply->status == 0 &&
			      reply->id == first + (uint64_t)i);
			mempool__wire__reply__free_unpacked(reply, NULL);
		}
	}
	CHECK(hostile_ping(&wire) == 0);
}

/* ---- what it owns ---- */

static void ask_everything(struct wire *wire, uint64_t pool)
{
	Mempool__Wire__Visualize visualize = MEMPOOL__WIRE__VISUALIZE__INIT;
	Mempool__Wire__Check check = MEMPOOL__WIRE__CHECK__INIT;
	Mempool__Wire__Stats stats = MEMPOOL__WIRE__STATS__INIT;
	Mempool__Wire__Request requests[] = {
		WIRE_REQUEST(VISUALIZE, visualize, &visualize),
		WIRE_REQUEST(CHECK, check, &check),
		WIRE_REQUEST(STATS, stats, &stats),
	};

	visualize.has_pool = visualize.has_cells = check.has_pool = stats.has_pool = 1;
	visualize.pool = check.pool = stats.pool = pool;
	visualize.cells = 64;
	for (size_t i = 0; i < N_ELEMENTS(requests); i++) {
		int r = wire_ask(wire, &requests[i], NULL);

		CHECK(r <= 0 && r != -ETIMEDOUT && r != -EBADMSG);
	}
}

/* The segment is the client's to write, so also to cut short, to punch and to stretch; the books are not in it. */
static void attack_segment(const struct daemon *d)
{
	struct wire wire = hostile_greet(d);
	uint64_t pool = hostile_create(&wire, "cut", 8 << 20), offsets[64], more;

	for (int i = 0; i < 64; i++)
		CHECK(hostile_alloc(&wire, pool, 65536, &offsets[i]) == 0);
	for (int way = 0; way < 3; way++) {
		if (way == 0)
			CHECK(ftruncate(wire.fd, 0) == 0);
		else if (way == 1)
			CHECK(fallocate(wire.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8 << 20) == 0);
		else
			CHECK(ftruncate(wire.fd, INT64_C(1) << 40) == 0);
		for (int i = 0; i < 16; i++)
			CHECK(hostile_free(&wire, pool, offsets[way * 16 + i]) == 0);
		for (int i = 0; i < 16; i++)
			CHECK(hostile_alloc(&wire, pool, 100000, &more) <= 0);
		ask_everything(&wire, pool);
	}
	wire_close(&wire);
}

/* ---- the end ---- */

static void attack_after_goodbye(const struct daemon *d)
{
	struct wire wire = hostile_greet(d);
	Mempool__Wire__Goodbye goodbye = MEMPOOL__WIRE__GOODBYE__INIT;
	Mempool__Wire__CreatePool create = MEMPOOL__WIRE__CREATE_POOL__INIT;
	Mempool__Wire__Request first = WIRE_REQUEST(GOODBYE, goodbye, &goodbye);
	Mempool__Wire__Request second = WIRE_REQUEST(CREATE_POOL, create_pool, &create);
	Mempool__Wire__Reply *reply;
	uint8_t *frames[2], both[256];
	size_t n[2];

	create.has_name = create.has_size = 1;
	create.name = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t) "late", .len = 4};
	create.size = 4096;
	frames[0] = wire_pack(&wire, &first, &n[0]);
	frames[1] = wire_pack(&wire, &second, &n[1]);
	CHECK(frames[0] && frames[1] && n[0] + n[1] <= sizeof(both));
	memcpy(both, frames[0], n[0]);
	memcpy(both + n[0], frames[1], n[1]);
	CHECK(wire_send_bytes(&wire, both, n[0] + n[1]) == 0);
	CHECK(wire_receive(&wire, &reply) == 0 && reply->id == first.id && reply->status == 0);
	mempool__wire__reply__free_unpacked(reply, NULL);
	CHECK(wire_receive(&wire, &reply) == WIRE_E_CLOSED);
	wire_close(&wire);
	wire = hostile_greet(d);
	hostile_create(&wire, "late", 4096); /* the name is free: the first never was */
	free(frames[0]);
	free(frames[1]);
}

static void attack_and_die(const struct daemon *d)
{
	struct wire wires[50];

	for (int i = 0; i < 50; i++) {
		Mempool__Wire__AllocBatch batch = MEMPOOL__WIRE__ALLOC_BATCH__INIT;
		Mempool__Wire__Request request = WIRE_REQUEST(ALLOC_BATCH, alloc_batch, &batch);
		static uint64_t sizes[1000];
		char name[16];

		for (int j = 0; j < 1000; j++)
			sizes[j] = 64;
		wires[i] = hostile_greet(d);
		snprintf(name, sizeof(name), "orphan%d", i % 5);
		batch.has_pool = 1;
		batch.pool = i < 5 ? hostile_create(&wires[i], name, 1 << 20) : (uint64_t)i;
		batch.n_sizes = 1000;
		batch.sizes = sizes;
		CHECK(wire_send(&wires[i], &request) == 0);
	}
	raise(SIGKILL);
}

/* ---- tests ---- */

#define TEST(name, ...)                                           \
	static void test_hostile_##name(void **state)             \
	{                                                         \
		(void)state;                                      \
		hostile_run(&(const struct attack){__VA_ARGS__}); \
	}

TEST(lengths_end_at_the_limit, .run = attack_with_lengths)
TEST(half_frames_run_out_of_time, .run = attack_with_half_frames,
     .config = "[limits]\ntime_to_hello = 300ms\ntime_to_finish_frame = 300ms\n")
TEST(garbage_is_answered_or_closed, .run = attack_with_garbage)
TEST(unknown_fields_are_counted, .run = attack_with_unknown_fields)
TEST(batches_end_at_the_limit, .run = attack_with_batches)
TEST(slow_reader_waits, .run = attack_by_not_reading)
TEST(slow_reader_is_closed_after_a_while, .run = attack_by_reading_too_late,
     .config = "[limits]\nqueued_reply_pause = 32K\nqueued_reply_slow = 32K\nqueued_reply_slow_time = 300ms\n")
TEST(slow_reader_is_closed_at_once, .run = attack_by_reading_too_late,
     .config = "[limits]\nqueued_reply_pause = 1K\nqueued_reply_slow = 1K\nqueued_reply_close = 1K\n")
TEST(descriptors_are_not_taken, .run = attack_with_fds)
TEST(connections_end_at_the_total, .run = attack_connections_total, .config = "[limits]\nconnections_total = 6\n")
TEST(connections_end_at_the_users_share, .run = attack_connections_per_uid,
     .config = "[limits]\nconnections_per_uid = 3\n", .uid = 65534)
TEST(sessions_end_at_the_users_quota, .run = attack_sessions_per_uid, .config = "[quota]\nsessions = 3\n", .uid = 65534)
TEST(connections_before_hello_end_at_the_limit, .run = attack_connections_before_hello,
     .config = "[limits]\nconnections_before_hello = 3\n")
TEST(connections_before_hello_end_at_the_users_half, .run = attack_connections_before_hello_of_one_user,
     .config = "[limits]\nconnections_before_hello = 4\n", .uid = 65534)
TEST(requests_beyond_the_limit_wait, .run = attack_requests_in_flight, .config = "[limits]\nrequests_in_flight = 4\n")
TEST(segment_cut_punched_and_stretched, .run = attack_segment)
TEST(goodbye_is_the_last_word, .run = attack_after_goodbye)

static void test_hostile_death_leaves_nothing_behind(void **state)
{
	(void)state;
	hostile_run(&(const struct attack){.run = attack_and_die, .dies = true});
}

/* One more is allowed, one more is taken: the limit is exact. */
static void test_hostile_decoding_ends_at_the_limit(void **state)
{
	static const char *const objects[] = {"[limits]\ndecode_objects = 8\n", "[limits]\ndecode_objects = 9\n",
					      "[limits]\ndecode_objects = 10\n"};
	static const char *const arenas[] = {"[limits]\ndecode_arena = 4096\n", "[limits]\ndecode_arena = 4112\n"};
	int64_t n_objects[N_ELEMENTS(objects)], n_bytes[N_ELEMENTS(arenas)];

	(void)state;
	for (size_t i = 0; i < N_ELEMENTS(objects); i++) {
		hostile_run(&(const struct attack){.run = attack_objects, .config = objects[i]});
		n_objects[i] = *hostile_result;
	}
	assert_true(n_objects[0] > 0);
	assert_int_equal(n_objects[1], n_objects[0] + 1);
	assert_int_equal(n_objects[2], n_objects[0] + 2);
	for (size_t i = 0; i < N_ELEMENTS(arenas); i++) {
		hostile_run(&(const struct attack){.run = attack_arena, .config = arenas[i]});
		n_bytes[i] = *hostile_result;
	}
	assert_true(n_bytes[0] > 64);
	assert_int_equal(n_bytes[1], n_bytes[0] + 16);
}

/* What only another user can show: root and the daemon's own user have no quota. */
static void test_hostile_quota_of_another_user(void **state)
{
	if (geteuid()) {
		print_message("skipped: only root can become another user\n");
		skip();
	}
	test_hostile_connections_end_at_the_users_share(state);
	test_hostile_sessions_end_at_the_users_quota(state);
}

#define HOSTILE(name) cmocka_unit_test_teardown(name, hostile_clean)

int main(int argc, char *argv[]) /* a pattern as in "*slow*": only those */
{
	const struct CMUnitTest tests[] = {
		HOSTILE(test_hostile_lengths_end_at_the_limit),
		HOSTILE(test_hostile_half_frames_run_out_of_time),
		HOSTILE(test_hostile_garbage_is_answered_or_closed),
		HOSTILE(test_hostile_unknown_fields_are_counted),
		HOSTILE(test_hostile_decoding_ends_at_the_limit),
		HOSTILE(test_hostile_batches_end_at_the_limit),
		HOSTILE(test_hostile_slow_reader_waits),
		HOSTILE(test_hostile_slow_reader_is_closed_after_a_while),
		HOSTILE(test_hostile_slow_reader_is_closed_at_once),
		HOSTILE(test_hostile_descriptors_are_not_taken),
		HOSTILE(test_hostile_connections_end_at_the_total),
		HOSTILE(test_hostile_connections_before_hello_end_at_the_limit),
		HOSTILE(test_hostile_connections_before_hello_end_at_the_users_half),
		HOSTILE(test_hostile_quota_of_another_user),
		HOSTILE(test_hostile_requests_beyond_the_limit_wait),
		HOSTILE(test_hostile_segment_cut_punched_and_stretched),
		HOSTILE(test_hostile_goodbye_is_the_last_word),
		HOSTILE(test_hostile_death_leaves_nothing_behind),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
