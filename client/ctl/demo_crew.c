// SPDX-License-Identifier: MIT
/*
 * Happy path: the producer reads a chunk straight into a block and hands {offset, length, session} to the consumer with
 *             the fewest blocks; that one takes the block, counts, tells the demo the result, frees, and tells the
 *             producer, who keeps the time: after a round it begins another or says that this was all.
 * Full pool:  the producer waits for an ack, which says that a block was freed, and tries again.
 * Failures:   whoever fails says so on stderr and ends; the demo sees the pidfd and ends the others.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ctl/demo_crew.h"
#include "ctl/error.h"
#include "mempool/mempool.h"

/*
 * Few sizes, so that a block comes from a slab that has served before, warm and without a request; and few waiting, for the same
 * reason. Smaller chunks would favour the pool: pipes pay more for each.
 */
#define CHUNK_STEP  (64u << 10)
#define CHUNK_SIZES 4u /* one to four steps */
#define CHUNK_MAX   (CHUNK_SIZES * CHUNK_STEP)
#define WRITE_BYTES (64u << 10) /* when copying */
#define AHEAD_POOL  4		/* blocks a consumer may have waiting */
#define AHEAD_COPY  1 /* a pipe holds less than a chunk: a second would only keep the producer from the others */

struct pipes { /* both ends of each, in every process of the crew */
	int start[2], acks[2], results[2], blocks[CREW_CONSUMERS][2];
};

struct worker { /* one process of the crew */
	const struct crew_job *job;
	const struct pipes *pipes;
	struct mempool_client *client;
	struct mempool_pool *pool;
	uint8_t *buffer; /* [CHUNK_MAX], when copying */
	/* producer's */
	unsigned n_ahead[CREW_CONSUMERS];
	uint64_t random;
};

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- what both do ---- */

static void fail(int r, const char *what) __attribute__((noreturn));
static void fail(int r, const char *what)
{
	exit((int)error_report(EXIT_OTHER, r < 0 ? -r : EPIPE, "demo: %s: %s", what,
			       r < 0 ? strerror(-r) : "the other side is gone"));
}

static void say(int fd, const void *data, size_t n_bytes)
{
	int r = demo_pipe_write(fd, data, n_bytes);

	if (r)
		fail(r, "writing to a pipe");
}

static void hear(int fd, void *data, size_t n_bytes)
{
	int r = demo_pipe_read(fd, data, n_bytes);

	if (r)
		fail(r, "reading from a pipe");
}

static void worker_open(struct worker *worker)
{
	int r;

	if (worker->job->way == CREW_COPY) {
		worker->buffer = malloc(CHUNK_MAX);
		if (!worker->buffer)
			error_no_memory();
		return;
	}
	r = mempool_connect(&worker->client, worker->job->socket_path);
	if (!r && worker->job->timeout_ms >= 0)
		r = mempool_set_timeout(worker->client, worker->job->timeout_ms);
	if (!r)
		r = mempool_pool_open(worker->client, worker->job->pool_name, &worker->pool);
	if (r)
		exit((int)error_of_library(r, NULL, "demo: a worker's session"));
}

static void worker_close(struct worker *worker)
{
	mempool_pool_close(worker->pool);
	mempool_disconnect(worker->client);
	free(worker->buffer);
}

/* ---- consumer ---- */

static void *block_receive(struct worker *worker, unsigned me, const struct demo_block *block)
{
	int r;

	if (worker->job->way == CREW_COPY) {
		hear(worker->pipes->blocks[me][0], worker->buffer, block->length);
		return worker->buffer;
	}
	r = mempool_take(worker->pool, block->offset, block->session);
	if (r)
		exit((int)error_of_library(r, NULL, "demo: taking a block over"));
	return mempool_ptr(worker->pool, block->offset);
}

static void block_release(struct worker *worker, const struct demo_block *block)
{
	int r = worker->pool ? mempool_free(worker->pool, block->offset) : 0;

	if (r)
		exit((int)error_of_library(r, NULL, "demo: freeing a block"));
}

static void consumer_run(struct worker *worker, unsigned me)
{
	const struct demo_ack ack = {.consumer = me};
	struct demo_block block;

	for (hear(worker->pipes->blocks[me][0], &block, sizeof(block)); block.length;
	     hear(worker->pipes->blocks[me][0], &block, sizeof(block))) {
		const void *data = block_receive(worker, me, &block);
		struct demo_result result = {.index = block.index,
					     .consumer = me,
					     .flags = block.flags,
					     .tally = tally_of(data, block.length)};

		block_release(worker, &block);
		say(worker->pipes->results[1], &result, sizeof(result));
		say(worker->pipes->acks[1], &ack, sizeof(ack));
	}
}

/* ---- producer ---- */

static void await_ack(struct worker *worker)
{
	struct demo_ack ack;

	hear(worker->pipes->acks[0], &ack, sizeof(ack));
	worker->n_ahead[ack.consumer]--;
}

static unsigned n_ahead_of_all(const struct worker *worker)
{
	unsigned n = 0;

	for (unsigned i = 0; i < CREW_CONSUMERS; i++)
		n += worker->n_ahead[i];
	return n;
}

/* choose_consumer() - the one with the fewest blocks waiting; waits while each has as many as it may */
static unsigned choose_consumer(struct worker *worker)
{
	const unsigned n_max = worker->job->way == CREW_POOL ? AHEAD_POOL : AHEAD_COPY;
	unsigned best;

	for (;;) {
		best = 0;
		for (unsigned i = 1; i < CREW_CONSUMERS; i++) {
			if (worker->n_ahead[i] < worker->n_ahead[best])
				best = i;
		}
		if (worker->n_ahead[best] < n_max)
			return best;
		await_ack(worker);
	}
}

/* Sizes that differ, the same in every run: a xorshift generator (Marsaglia 2003) from a constant. */
static uint64_t next_length(struct worker *worker, uint64_t left)
{
	uint64_t length;

	worker->random ^= worker->random << 13;
	worker->random ^= worker->random >> 7;
	worker->random ^= worker->random << 17;
	length = (1 + worker->random % CHUNK_SIZES) * CHUNK_STEP;
	return length < left ? length : left;
}

static mempool_offset block_get(struct worker *worker, uint64_t length)
{
	mempool_offset offset;

	for (;;) {
		offset = mempool_alloc(worker->pool, length);
		if (offset)
			return offset;
		if (errno != ENOSPC || !n_ahead_of_all(worker))
			exit((int)error_of_library(-errno, NULL, "demo: getting a block"));
		await_ack(worker);
	}
}

static void read_file(const struct worker *worker, void *data, uint64_t n_bytes, uint64_t from)
{
	uint64_t done = 0;

	while (done < n_bytes) {
		ssize_t n = pread(worker->job->file_fd, (char *)data + done, n_bytes - done, (off_t)(from + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			fail(-errno, "reading the file");
		if (!n)
			exit((int)error_report(EXIT_OTHER, EIO, "demo: the file became shorter while it was read"));
		done += (uint64_t)n;
	}
}

static void block_send(struct worker *worker, unsigned consumer, const struct demo_block *block)
{
	int fd = worker->pipes->blocks[consumer][1];

	say(fd, block, sizeof(*block));
	for (uint64_t done = 0; worker->buffer && done < block->length; done += WRITE_BYTES) {
		uint64_t left = block->length - done;

		say(fd, worker->buffer + done, left < WRITE_BYTES ? left : WRITE_BYTES);
	}
	worker->n_ahead[consumer]++;
}

/* produce_round() - the whole file once; the last round is one that ends after @end_s. Return: whether to go on */
static bool produce_round(struct worker *worker, uint64_t *indexp, double end_s)
{
	struct demo_block block = {.session = mempool_session(worker->client)};
	uint64_t n_file = worker->job->file_bytes;

	for (uint64_t from = 0; from < n_file; from += block.length) {
		unsigned consumer = choose_consumer(worker);

		block.length = next_length(worker, n_file - from);
		if (worker->pool)
			block.offset = block_get(worker, block.length);
		read_file(worker, worker->pool ? mempool_ptr(worker->pool, block.offset) : worker->buffer, block.length,
			  from);
		block.index = (*indexp)++;
		if (from + block.length == n_file)
			block.flags = BLOCK_ENDS_ROUND | (now_s() < end_s ? 0 : BLOCK_ENDS_ALL);
		block_send(worker, consumer, &block);
	}
	return !(block.flags & BLOCK_ENDS_ALL);
}

static void producer_run(struct worker *worker)
{
	const struct demo_block end = {.length = 0};
	double end_s = now_s() + worker->job->seconds;
	uint64_t index = 0;

	worker->random = UINT64_C(0x9e3779b97f4a7c15);
	while (produce_round(worker, &index, end_s))
		;
	while (n_ahead_of_all(worker)) /* blocks that nobody took yet would end with our session */
		await_ack(worker);
	for (unsigned i = 0; i < CREW_CONSUMERS; i++)
		say(worker->pipes->blocks[i][1], &end, sizeof(end));
}

/* ---- processes ---- */

static void worker_main(const struct crew_job *job, const struct pipes *pipes, unsigned who, pid_t parent)
	__attribute__((noreturn));
static void worker_main(const struct crew_job *job, const struct pipes *pipes, unsigned who, pid_t parent)
{
	struct worker worker = {.job = job, .pipes = pipes};
	char start;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent) /* it was too late to be told */
		_exit(EXIT_OTHER);
	hear(pipes->start[0], &start, sizeof(start));
	worker_open(&worker);
	if (who == 0)
		producer_run(&worker);
	else
		consumer_run(&worker, who - 1);
	worker_close(&worker);
	_exit(EXIT_DONE); /* not exit(): stdio's buffers are the parent's */
}

static void pipe_close(int fds[2])
{
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

static void pipes_deinit(struct pipes *pipes)
{
	pipe_close(pipes->start);
	pipe_close(pipes->acks);
	pipe_close(pipes->results);
	for (unsigned i = 0; i < CREW_CONSUMERS; i++)
		pipe_close(pipes->blocks[i]);
}

static int pipes_init(struct pipes *pipes)
{
	int r;

	memset(pipes, 0xff, sizeof(*pipes)); /* -1 each */
	r = pipe2(pipes->start, O_CLOEXEC) || pipe2(pipes->acks, O_CLOEXEC) || pipe2(pipes->results, O_CLOEXEC);
	for (unsigned i = 0; !r && i < CREW_CONSUMERS; i++)
		r = pipe2(pipes->blocks[i], O_CLOEXEC);
	if (!r)
		return 0;
	r = -errno;
	pipes_deinit(pipes);
	return r;
}

static int crew_fork(struct crew *crew, const struct pipes *pipes)
{
	pid_t parent = getpid();

	for (unsigned who = 0; who < CREW_SIZE; who++) {
		pid_t pid = fork();

		if (pid < 0)
			return -errno;
		if (!pid)
			worker_main(&crew->job, pipes, who, parent);
		crew->pids[who] = pid;
		crew->pidfds[who] = pidfd_open(pid, 0);
		if (crew->pidfds[who] < 0)
			return -errno; /* crew_deinit() knows it by its pid */
	}
	return 0;
}

int crew_new(struct crew *crew, const struct crew_job *job)
{
	struct pipes pipes;
	int r = pipes_init(&pipes);

	*crew = CREW_NULL;
	crew->job = *job;
	if (r)
		return r;
	r = crew_fork(crew, &pipes);
	crew->start_fd = pipes.start[1];
	crew->results_fd = pipes.results[0];
	pipes.start[1] = pipes.results[0] = -1;
	pipes_deinit(&pipes);
	if (r)
		crew_deinit(crew);
	return r;
}

int crew_start(struct crew *crew)
{
	return demo_pipe_write(crew->start_fd, (char[CREW_SIZE]){0}, CREW_SIZE);
}

int crew_reap(struct crew *crew, unsigned who)
{
	int status = 0;

	if (crew->pidfds[who] >= 0)
		close(crew->pidfds[who]);
	crew->pidfds[who] = -1;
	while (waitpid(crew->pids[who], &status, 0) < 0 && errno == EINTR)
		;
	crew->pids[who] = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void crew_deinit(struct crew *crew)
{
	for (unsigned who = 0; who < CREW_SIZE; who++) {
		if (crew->pids[who])
			kill(crew->pids[who], SIGKILL);
	}
	for (unsigned who = 0; who < CREW_SIZE; who++) {
		if (crew->pids[who])
			crew_reap(crew, who);
	}
	if (crew->start_fd >= 0)
		close(crew->start_fd);
	if (crew->results_fd >= 0)
		close(crew->results_fd);
	*crew = CREW_NULL;
}
