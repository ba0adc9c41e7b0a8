// SPDX-License-Identifier: MIT
/* No malloc of its own while it serves, so that a test may make those of the client fail. */
#include "tests/lib/fake_daemon.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "proto/frame.h"

#define SESSION 4711u

static const uint8_t token[16] = "0123456789abcde";

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void wrong(struct fake_daemon *f, const char *what, uint64_t id)
{
	if (!f->n_wrong++)
		snprintf(f->wrong, sizeof(f->wrong), "%s (request %llu)", what, (unsigned long long)id);
}

/* ---- coming and going: with the mutex ---- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int open_listener(struct fake_daemon *f)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", f->path);
	unlink(f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (f->listener < 0 || bind(f->listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(f->listener, 8))
		return -errno;
	f->is_away = false;
	return 0;
}

static void go(struct fake_daemon *f, int away_ms)
{
	close_fd(&f->stream);
	f->n_in = 0;
	f->n_drops++;
	if (!away_ms)
		return; /* the stream only */
	close_fd(&f->listener);
	f->is_away = true;
	f->back_at_ms = away_ms < 0 ? INT64_MAX : now_ms() + away_ms;
}

/* ---- requests ---- */

static uint32_t block_of(uint64_t offset)
{
	return offset < FAKE_FIRST || offset % FAKE_BLOCK || (offset - FAKE_FIRST) / FAKE_BLOCK >= FAKE_BLOCKS
		       ? FAKE_BLOCKS
		       : (uint32_t)((offset - FAKE_FIRST) / FAKE_BLOCK);
}

static uint64_t take_block(struct fake_daemon *f)
{
	while (f->holds[f->next_block % FAKE_BLOCKS])
		f->next_block++;
	f->holds[f->next_block % FAKE_BLOCKS] = 1;
	f->n_live++;
	return FAKE_FIRST + (uint64_t)(f->next_block++ % FAKE_BLOCKS) * FAKE_BLOCK;
}

static int free_block(struct fake_daemon *f, uint64_t offset, uint64_t id)
{
	uint32_t block = block_of(offset);

	if (block == FAKE_BLOCKS || !f->holds[block]) {
		wrong(f, "a free of what is not live", id);
		return -EFAULT;
	}
	if (!--f->holds[block])
		f->n_live--;
	return 0;
}

static int add_hold(struct fake_daemon *f, uint64_t offset)
{
	uint32_t block = block_of(offset);

	if (block == FAKE_BLOCKS || !f->holds[block])
		return -EFAULT;
	f->holds[block]++;
	return 0;
}

struct outcome {
	Mempool__Wire__Reply reply;
	Mempool__Wire__Block block;
	Mempool__Wire__Blocks blocks;
	Mempool__Wire__PoolReply pool;
	Mempool__Wire__PoolInfo info;
	Mempool__Wire__StatsReply stats;
	uint64_t offsets[512];
	bool has_fd;
};

static void say_block(struct outcome *out, uint64_t offset)
{
	out->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_BLOCK;
	out->reply.block = &out->block;
	out->block.has_offset = out->block.has_size = 1;
	out->block.offset = offset;
	out->block.size = FAKE_BLOCK;
}

static void say_pool(struct outcome *out)
{
	out->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_POOL;
	out->reply.pool = &out->pool;
	out->pool.info = &out->info;
	out->info.has_pool = 1;
	out->info.pool = FAKE_POOL;
	out->info.has_lease = 1; /* each block by request: what is tested is what becomes of requests */
	out->info.lease = MEMPOOL__WIRE__LEASE__LEASE_OFF;
	out->pool.has_first = out->pool.has_segment_bytes = 1;
	out->pool.first = FAKE_FIRST;
	out->pool.segment_bytes = FAKE_FIRST + (uint64_t)FAKE_BLOCKS * FAKE_BLOCK;
	out->has_fd = true;
}

static int execute(struct fake_daemon *f, const Mempool__Wire__Request *request, struct outcome *out)
{
	int r = 0;

	switch ((int)request->op_case) {
	case MEMPOOL__WIRE__REQUEST__OP_ALLOC:
		say_block(out, take_block(f));
		break;
	case MEMPOOL__WIRE__REQUEST__OP_FREE:
		return free_block(f, request->free->offset, request->id);
	case MEMPOOL__WIRE__REQUEST__OP_REALLOC:
		say_block(out, take_block(f));
		out->block.has_moved = out->block.moved = 1;
		out->block.has_old_size = 1;
		out->block.old_size = FAKE_BLOCK;
		break;
	case MEMPOOL__WIRE__REQUEST__OP_ALLOC_BATCH:
		out->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_BLOCKS;
		out->reply.blocks = &out->blocks;
		out->blocks.offsets = out->offsets;
		for (size_t i = 0; i < request->alloc_batch->n_sizes && i < N_ELEMENTS(out->offsets); i++)
			out->offsets[out->blocks.n_offsets++] = take_block(f);
		break;
	case MEMPOOL__WIRE__REQUEST__OP_FREE_BATCH:
		for (size_t i = 0; i < request->free_batch->n_offsets; i++)
			r = free_block(f, request->free_batch->offsets[i], request->id) ?: r;
		return r;
	case MEMPOOL__WIRE__REQUEST__OP_FIND: /* the first block has whatever name is asked for */
		say_block(out, FAKE_FIRST);
		return request->find->retain ? add_hold(f, FAKE_FIRST) : 0;
	case MEMPOOL__WIRE__REQUEST__OP_RETAIN:
		return add_hold(f, request->retain->offset);
	case MEMPOOL__WIRE__REQUEST__OP_INSPECT:
		say_block(out, request->inspect->offset);
		break;
	case MEMPOOL__WIRE__REQUEST__OP_STATS:
		out->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_STATS;
		out->reply.stats = &out->stats;
		out->stats.has_used = 1;
		out->stats.used = f->n_live * FAKE_BLOCK;
		break;
	case MEMPOOL__WIRE__REQUEST__OP_CREATE_POOL:
	case MEMPOOL__WIRE__REQUEST__OP_OPEN_POOL:
		say_pool(out);
		break;
	}
	return 0;
}

static void record(struct fake_daemon *f, const Mempool__Wire__Request *request, struct fake_answer *answer)
{
	struct outcome out = {
		.reply = MEMPOOL__WIRE__REPLY__INIT,
		.block = MEMPOOL__WIRE__BLOCK__INIT,
		.blocks = MEMPOOL__WIRE__BLOCKS__INIT,
		.pool = MEMPOOL__WIRE__POOL_REPLY__INIT,
		.info = MEMPOOL__WIRE__POOL_INFO__INIT,
		.stats = MEMPOOL__WIRE__STATS_REPLY__INIT,
	};

	if (answer->id && answer->id > request->acked)
		wrong(f, "an answer is overwritten that was not acknowledged", request->id);
	f->executed[request->op_case % FAKE_N_KINDS]++;
	answer->id = request->id;
	answer->status = execute(f, request, &out);
	out.reply.has_id = out.reply.has_status = 1;
	out.reply.id = request->id;
	out.reply.status = answer->status;
	out.reply.has_n_fds = 1;
	out.reply.n_fds = out.has_fd;
	answer->has_fd = out.has_fd;
	answer->n_result = mempool__wire__reply__get_packed_size(&out.reply);
	if (answer->n_result > sizeof(answer->result))
		abort();
	mempool__wire__reply__pack(&out.reply, answer->result);
}

/* Return: false: the client is gone */
static bool put(struct fake_daemon *f, const uint8_t *frame, size_t n, const int *fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct iovec piece = {(void *)(uintptr_t)frame, n};
	struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

	if (fd) {
		memcpy(CMSG_DATA(&control.header), fd, sizeof(*fd));
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
	}
	return sendmsg(f->stream, &message, MSG_NOSIGNAL) == (ssize_t)n;
}

static bool put_answer(struct fake_daemon *f, const struct fake_answer *answer, const int *fd, bool half, bool junk)
{
	static uint8_t frame[FRAME_HEADER_BYTES + sizeof(answer->result)];
	size_t n = FRAME_HEADER_BYTES + answer->n_result;

	frame_put_header(frame, junk ? 0 : (uint32_t)answer->n_result);
	memcpy(frame + FRAME_HEADER_BYTES, answer->result, answer->n_result);
	return put(f, frame, half ? (n + 1) / 2 : n, answer->has_fd ? fd : NULL);
}

/* ---- hello ---- */

static void welcome(struct fake_daemon *f, const Mempool__Wire__Request *request)
{
	Mempool__Wire__Reply reply = MEMPOOL__WIRE__REPLY__INIT;
	Mempool__Wire__HelloReply hello = MEMPOOL__WIRE__HELLO_REPLY__INIT;
	bool resumes = request->hello->has_resume_session;
	struct fake_answer answer = {0};

	reply.has_id = reply.has_status = 1;
	reply.id = request->id;
	if (resumes && f->n_bad_hellos) {
		f->n_bad_hellos--;
		go(f, 0);
		return;
	}
	if (resumes &&
	    (!f->has_session || request->hello->resume_session != SESSION ||
	     request->hello->resume_token.len != sizeof(token) ||
	     memcmp(request->hello->resume_token.data, token, sizeof(token)) || request->hello->wants_liveness))
		wrong(f, "a resume without the session's id and token", request->id);
	hello.has_version = hello.has_session = hello.has_max_in_flight = hello.has_max_batch = 1;
	hello.version = resumes && f->welcome == FAKE_OTHER_VERSION ? 2 : 1;
	hello.session = SESSION + (resumes && f->welcome == FAKE_NEW_SESSION);
	hello.max_in_flight = FAKE_RING;
	hello.max_batch = 256;
	hello.has_resumed = 1;
	hello.resumed = resumes && f->welcome == FAKE_RESUMED;
	hello.has_token = !hello.resumed;
	hello.token = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)token, .len = sizeof(token)};
	reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_HELLO;
	reply.hello = &hello;
	if (!resumes) {
		reply.has_n_fds = 1;
		reply.n_fds = answer.has_fd = true;
		f->has_session = true;
	} else if (f->welcome == FAKE_REFUSED) {
		reply.status = f->refusal;
		reply.id = f->refuses_in_frame_0 ? 0 : request->id;
		reply.message = (char *)(uintptr_t) "the fake daemon says no";
		reply.result_case = MEMPOOL__WIRE__REPLY__RESULT__NOT_SET;
		if (f->n_refusals && !--f->n_refusals)
			f->welcome = FAKE_RESUMED;
	}
	f->n_resumes += resumes && !reply.status;
	answer.n_result = mempool__wire__reply__get_packed_size(&reply);
	mempool__wire__reply__pack(&reply, answer.result);
	if (!put_answer(f, &answer, &f->liveness, false, false) || reply.status)
		go(f, 0);
}

/* ---- one request ---- */

/* Return: whether this is the request and the point to go at; then it has gone */
static bool goes_at(struct fake_daemon *f, enum fake_point point)
{
	int away_ms = f->away_ms;

	if (f->point != point || f->skip)
		return false;
	f->skip = f->every;
	f->point = f->every ? point % (FAKE_POINT_N - 1) + 1 : FAKE_NOWHERE;
	go(f, away_ms);
	return true;
}

static void serve(struct fake_daemon *f, const Mempool__Wire__Request *request)
{
	struct fake_answer *answer = &f->ring[request->id % FAKE_RING];
	bool half = f->point == FAKE_HALF_REPLY && !f->skip, junk = f->point == FAKE_JUNK_REPLY && !f->skip;

	if (request->id <= f->last_id)
		wrong(f, "ids do not rise", request->id);
	f->last_id = request->id;
	if (request->op_case == MEMPOOL__WIRE__REQUEST__OP_HELLO) {
		welcome(f, request);
		return;
	}
	if (goes_at(f, FAKE_BEFORE_DOING))
		return;
	if (request->acked >= request->id)
		wrong(f, "acknowledges what it asks for", request->id);
	else if (request->id - request->acked > f->max_open)
		f->max_open = request->id - request->acked;
	if (answer->id > request->id)
		wrong(f, "asks for what it has acknowledged", request->id);
	if (answer->id == request->id)
		f->n_again++;
	else
		record(f, request, answer);
	if (goes_at(f, FAKE_BEFORE_REPLY))
		return;
	if (!put_answer(f, answer, &f->memory, half, junk)) {
		go(f, 0);
		return;
	}
	if (goes_at(f, FAKE_HALF_REPLY) || goes_at(f, FAKE_JUNK_REPLY) || goes_at(f, FAKE_AFTER_REPLY))
		return;
	if (f->skip)
		f->skip--;
}

static void read_stream(struct fake_daemon *f)
{
	uint32_t n_bytes;
	size_t at = 0;
	ssize_t n;

	if (f->has_session && f->last_id && goes_at(f, FAKE_BEFORE_READ))
		return;
	n = recv(f->stream, f->in + f->n_in, sizeof(f->in) - f->n_in, MSG_DONTWAIT);
	if (n <= 0) {
		close_fd(&f->stream);
		f->n_in = 0;
		return;
	}
	f->n_in += (size_t)n;
	while (f->stream >= 0 && !frame_peek(f->in + at, f->n_in - at, FRAME_REQUEST_BYTES, &n_bytes)) {
		Mempool__Wire__Request *request =
			mempool__wire__request__unpack(NULL, n_bytes, f->in + at + FRAME_HEADER_BYTES);

		at += FRAME_HEADER_BYTES + n_bytes;
		if (!request) {
			wrong(f, "what came is no request", 0);
			go(f, 0);
			return;
		}
		serve(f, request);
		mempool__wire__request__free_unpacked(request, NULL);
	}
	if (f->stream < 0)
		return;
	memmove(f->in, f->in + at, f->n_in - at);
	f->n_in -= at;
}

/* ---- the thread ---- */

static void accept_stream(struct fake_daemon *f)
{
	int fd = accept(f->listener, NULL, NULL);

	if (fd < 0)
		return;
	close_fd(&f->stream); /* the fence: what the old one holds is not executed any more */
	f->stream = fd;
	f->n_in = 0;
	f->last_id = 0;
}

static void obey(struct fake_daemon *f)
{
	char byte;

	if (read(f->wake[0], &byte, 1) != 1)
		abort();
	if (f->must_go)
		go(f, -1);
	if (f->must_come && open_listener(f))
		abort();
	f->must_go = f->must_come = false;
	pthread_cond_broadcast(&f->turned);
}

static void *run(void *arg)
{
	struct fake_daemon *f = arg;

	pthread_mutex_lock(&f->mutex);
	while (!f->is_stopping) {
		struct pollfd fds[3] = {{.fd = f->wake[0], .events = POLLIN},
					{.fd = f->listener, .events = POLLIN},
					{.fd = f->is_deaf ? -1 : f->stream, .events = POLLIN}};
		int wait_ms = -1;

		if (f->is_away && f->back_at_ms != INT64_MAX) {
			int64_t left_ms = f->back_at_ms - now_ms();

			if (left_ms <= 0) {
				if (open_listener(f))
					abort();
				continue;
			}
			wait_ms = (int)left_ms;
		}
		pthread_mutex_unlock(&f->mutex);
		poll(fds, 3, wait_ms);
		pthread_mutex_lock(&f->mutex);
		if (fds[0].revents)
			obey(f);
		else if (fds[2].revents)
			read_stream(f);
		else if (fds[1].revents)
			accept_stream(f);
	}
	pthread_mutex_unlock(&f->mutex);
	return NULL;
}

static void command(struct fake_daemon *f, bool *what)
{
	pthread_mutex_lock(&f->mutex);
	*what = true;
	if (write(f->wake[1], "x", 1) != 1)
		abort();
	while (*what)
		pthread_cond_wait(&f->turned, &f->mutex);
	pthread_mutex_unlock(&f->mutex);
}

void fake_go(struct fake_daemon *f)
{
	command(f, &f->must_go);
}

void fake_come(struct fake_daemon *f)
{
	command(f, &f->must_come);
}

void fake_fault(struct fake_daemon *f, enum fake_point point, unsigned skip, int away_ms)
{
	pthread_mutex_lock(&f->mutex);
	f->point = point;
	f->skip = skip;
	f->away_ms = away_ms;
	pthread_mutex_unlock(&f->mutex);
}

uint64_t fake_count(struct fake_daemon *f, unsigned kind)
{
	uint64_t n;

	pthread_mutex_lock(&f->mutex);
	n = f->executed[kind];
	pthread_mutex_unlock(&f->mutex);
	return n;
}

uint64_t fake_live(struct fake_daemon *f)
{
	uint64_t n;

	pthread_mutex_lock(&f->mutex);
	n = f->n_live;
	pthread_mutex_unlock(&f->mutex);
	return n;
}

int fake_start(struct fake_daemon *f)
{
	memset(f, 0, sizeof(*f));
	f->listener = f->stream = -1;
	strcpy(f->dir, "/tmp/mempool-fake.XXXXXX");
	if (!mkdtemp(f->dir))
		return -errno;
	snprintf(f->path, sizeof(f->path), "%s/socket", f->dir);
	f->memory = memfd_create("fake", MFD_CLOEXEC);
	f->liveness = memfd_create("fake-liveness", MFD_CLOEXEC);
	if (f->memory < 0 || f->liveness < 0 || ftruncate(f->memory, FAKE_FIRST + (off_t)FAKE_BLOCKS * FAKE_BLOCK) ||
	    pipe(f->wake) || open_listener(f))
		return -errno;
	pthread_mutex_init(&f->mutex, NULL);
	pthread_cond_init(&f->turned, NULL);
	return -pthread_create(&f->thread, NULL, run, f);
}

void fake_stop(struct fake_daemon *f)
{
	pthread_mutex_lock(&f->mutex);
	f->is_stopping = true;
	if (write(f->wake[1], "x", 1) != 1)
		abort();
	pthread_mutex_unlock(&f->mutex);
	pthread_join(f->thread, NULL);
	close_fd(&f->stream);
	close_fd(&f->listener);
	close_fd(&f->memory);
	close_fd(&f->liveness);
	close_fd(&f->wake[0]);
	close_fd(&f->wake[1]);
	unlink(f->path);
	rmdir(f->dir);
	pthread_cond_destroy(&f->turned);
	pthread_mutex_destroy(&f->mutex);
}
