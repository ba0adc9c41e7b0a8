// SPDX-License-Identifier: MIT
#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/output.h"

struct pair {
	int ours, theirs;
	struct output output;
};

static struct pair pair_open(void)
{
	struct pair pair = {0};
	int ends[2], small = 1; /* raised to the kernel's least */

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	pair.ours = ends[0];
	pair.theirs = ends[1];
	return pair;
}

static void pair_close(struct pair *pair)
{
	output_clear(&pair->output);
	close(pair->ours);
	close(pair->theirs);
}

static int open_null(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* Return: bytes read, 0 when there is nothing now; *n_fds counts, and closes, what came with them. */
static size_t take(int socket, uint8_t *data, size_t n_bytes, unsigned *n_fds)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct iovec vector = {.iov_base = data, .iov_len = n_bytes};
	struct msghdr message = {
		.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	int fd;

	assert_true(n >= 0 || errno == EAGAIN);
	if (header) {
		assert_int_equal(header->cmsg_len, CMSG_LEN(sizeof(fd)));
		memcpy(&fd, CMSG_DATA(header), sizeof(fd));
		close(fd);
		(*n_fds)++;
	}
	return n > 0 ? (size_t)n : 0;
}

static void test_output_sends_at_once_what_fits(void **state)
{
	struct pair pair = pair_open();
	uint8_t data[16];
	unsigned n_fds = 0;

	(void)state;
	assert_int_equal(output_send(&pair.output, pair.ours, (const uint8_t *)"hello", 5, -1), 0);
	assert_null(pair.output.head);
	assert_int_equal(take(pair.theirs, data, sizeof(data), &n_fds), 5);
	assert_memory_equal(data, "hello", 5);
	assert_int_equal(n_fds, 0);
	pair_close(&pair);
}

/* More than the socket takes, with a descriptor in the middle: bytes stay in order, and it comes with its frame. */
static void test_output_keeps_order_and_descriptors(void **state)
{
	enum {
		N_BEFORE = 300000,
		N_AFTER = 200000
	};
	struct pair pair = pair_open();
	uint8_t *data = malloc(N_BEFORE + N_AFTER), chunk[4096];
	size_t n_read = 0, n;
	unsigned n_fds = 0;

	(void)state;
	assert_non_null(data);
	for (size_t i = 0; i < N_BEFORE + N_AFTER; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 24);
	assert_int_equal(output_send(&pair.output, pair.ours, data, N_BEFORE, -1), 0);
	assert_true(pair.output.n_bytes > 0);
	assert_int_equal(output_send(&pair.output, pair.ours, data + N_BEFORE, 8, open_null()), 0);
	assert_int_equal(output_send(&pair.output, pair.ours, data + N_BEFORE + 8, N_AFTER - 8, -1), 0);
	while (n_read < N_BEFORE + N_AFTER) {
		n = take(pair.theirs, chunk, sizeof(chunk), &n_fds);
		assert_memory_equal(chunk, data + n_read, n);
		n_read += n;
		assert_true(n_fds == 0 || n_read > N_BEFORE);
		if (!n)
			assert_int_equal(output_flush(&pair.output, pair.ours), 0);
	}
	assert_int_equal(n_fds, 1);
	assert_null(pair.output.head);
	assert_int_equal(pair.output.n_bytes, 0);
	free(data);
	pair_close(&pair);
}

static unsigned count_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_output_to_nobody_fails_and_closes_the_descriptor(void **state)
{
	struct pair pair = pair_open();
	unsigned n_before;

	(void)state;
	close(pair.theirs);
	n_before = count_fds();
	assert_int_equal(output_send(&pair.output, pair.ours, (const uint8_t *)"x", 1, open_null()), -EPIPE);
	assert_int_equal(count_fds(), n_before);
	pair.theirs = open_null();
	pair_close(&pair);
}

static void test_output_cleared_closes_what_it_kept(void **state)
{
	struct pair pair = pair_open();
	unsigned n_before = count_fds();
	static uint8_t much[300000];

	(void)state;
	assert_int_equal(output_send(&pair.output, pair.ours, much, sizeof(much), -1), 0);
	assert_int_equal(output_send(&pair.output, pair.ours, much, 8, open_null()), 0);
	assert_int_equal(count_fds(), n_before + 1);
	output_clear(&pair.output);
	assert_int_equal(count_fds(), n_before);
	assert_int_equal(pair.output.n_bytes, 0);
	pair_close(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output_sends_at_once_what_fits),
		cmocka_unit_test(test_output_keeps_order_and_descriptors),
		cmocka_unit_test(test_output_to_nobody_fails_and_closes_the_descriptor),
		cmocka_unit_test(test_output_cleared_closes_what_it_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
