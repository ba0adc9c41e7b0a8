// SPDX-License-Identifier: MIT
/* A whole server in this process: started and stopped, with clients, at each failure on the way. */
#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/hook.h"
#include "server/log.h"
#include "server/server.h"
#include "tests/lib/fault.h"
#include "tests/lib/wire.h"

/* ---- a loop that can be held up: this definition takes the place of server/hook.c ---- */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_moved = PTHREAD_COND_INITIALIZER;
static int held_loop = -1; /* gate */
static bool is_held;	   /* gate: it has arrived */

void hook_point(enum hook_place place, unsigned loop_index)
{
	(void)place;
	pthread_mutex_lock(&gate);
	while (held_loop == (int)loop_index) {
		is_held = true;
		pthread_cond_broadcast(&gate_moved);
		pthread_cond_wait(&gate_moved, &gate);
	}
	is_held = false;
	pthread_mutex_unlock(&gate);
}

bool hook_loses_reply(unsigned op)
{
	(void)op;
	return false;
}

static void hold_loop(int loop_index)
{
	pthread_mutex_lock(&gate);
	held_loop = loop_index;
	pthread_cond_broadcast(&gate_moved);
	pthread_mutex_unlock(&gate);
}

static void wait_until_held(void)
{
	pthread_mutex_lock(&gate);
	while (!is_held)
		pthread_cond_wait(&gate_moved, &gate);
	pthread_mutex_unlock(&gate);
}

/* ---- a server in this process ---- */

struct place {
	char dir[64], socket[96], instance[64];
	struct server_config config;
	struct server *server;
	pthread_t thread; /* of server_run(), when it runs */
};

static void place_open(struct place *place)
{
	memset(place, 0, sizeof(*place));
	snprintf(place->dir, sizeof(place->dir), "/tmp/test-server-XXXXXX");
	assert_non_null(mkdtemp(place->dir));
	snprintf(place->socket, sizeof(place->socket), "%s/s", place->dir);
	snprintf(place->instance, sizeof(place->instance), "test-server-%d", getpid());
	place->config = (struct server_config){
		.socket_path = place->socket, .instance = place->instance, .n_loops = 2, .ephemeral = true};
	limits_default(&place->config.limits);
}

static void place_close(struct place *place)
{
	assert_int_equal(rmdir(place->dir), 0); /* the socket is gone */
}

static void *run(void *arg)
{
	struct place *place = arg;

	return (void *)(intptr_t)server_run(place->server, NULL, NULL);
}

static void place_run(struct place *place)
{
	assert_int_equal(server_new(&place->server, &place->config), 0);
	assert_int_equal(pthread_create(&place->thread, NULL, run, place), 0);
}

static void place_stop(struct place *place)
{
	void *result;

	kill(getpid(), SIGTERM);
	pthread_join(place->thread, &result);
	assert_null(result);
	place->server = server_free(place->server);
}

static unsigned count_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_server_starts_and_stops_a_hundred_times(void **state)
{
	struct place place;
	struct wire wires[5];
	unsigned n_fds = 0;

	(void)state;
	place_open(&place);
	for (int round = 0; round < 100; round++) {
		place_run(&place);
		for (size_t i = 0; i < N_ELEMENTS(wires); i++) {
			wires[i] = (struct wire)WIRE_NULL;
			assert_int_equal(wire_open(&wires[i], place.socket), 0);
			if (i)
				assert_int_equal(wire_hello(&wires[i]), 0);
		}
		if (round % 2)
			wire_close(&wires[2]);
		place_stop(&place);
		for (size_t i = 0; i < N_ELEMENTS(wires); i++)
			wire_close(&wires[i]);
		n_fds = n_fds ? n_fds : count_fds(); /* libuv keeps a few from the first time on */
		assert_int_equal(count_fds(), n_fds);
	}
	place_close(&place);
}

/* Out of descriptors once: the spare one carries the refusal. As long as they last: callers wait, and are served after. */
static void test_server_accept_that_fails_ends_nothing(void **state)
{
	struct wire before = WIRE_NULL, refused = WIRE_NULL, late = WIRE_NULL;
	struct place place;

	(void)state;
	place_open(&place);
	place_run(&place);
	assert_int_equal(wire_open(&before, place.socket), 0);
	assert_int_equal(wire_hello(&before), 0);

	fault_arm(FAULT_ACCEPT, 1, false);
	assert_int_equal(wire_open(&refused, place.socket), 0);
	assert_int_equal(wire_last_word(&refused), -EAGAIN);
	assert_int_equal(fault_disarm(), 1);

	fault_arm_some(FAULT_ACCEPT, 6); /* two of each try: the spare one as well */
	assert_int_equal(wire_open(&late, place.socket), 0);
	assert_int_equal(
		wire_ask(&before, &WIRE_REQUEST(PING, ping, &(Mempool__Wire__Ping)MEMPOOL__WIRE__PING__INIT), NULL), 0);
	assert_int_equal(wire_hello(&late), 0);
	assert_int_equal(fault_disarm(), 6);

	wire_close(&before);
	wire_close(&refused);
	wire_close(&late);
	place_stop(&place);
	place_close(&place);
}

static void test_server_second_one_on_an_instance_is_refused(void **state)
{
	struct place first, second;

	(void)state;
	place_open(&first);
	place_open(&second);
	assert_int_equal(server_new(&first.server, &first.config), 0);
	assert_int_equal(server_new(&second.server, &second.config), -EADDRINUSE);
	assert_null(second.server);
	first.server = server_free(first.server);
	assert_int_equal(server_new(&second.server, &second.config), 0);
	second.server = server_free(second.server);
	place_close(&first);
	place_close(&second);
}

static int bind_at(const char *path, int backlog)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (backlog)
		assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static void test_server_socket_in_the_way(void **state)
{
	struct place place;
	struct stat node;
	mode_t umask_before;
	int fd;

	(void)state;
	place_open(&place);
	close(bind_at(place.socket, 1)); /* stale: nobody listens */
	umask_before = umask(077);
	assert_int_equal(server_new(&place.server, &place.config), 0);
	assert_int_equal(umask(umask_before), 077);
	assert_int_equal(stat(place.socket, &node), 0);
	assert_int_equal(node.st_mode, S_IFSOCK | 0666);
	place.server = server_free(place.server);
	fd = bind_at(place.socket, 5); /* alive */
	assert_int_equal(server_new(&place.server, &place.config), -EADDRINUSE);
	close(fd);
	assert_int_equal(unlink(place.socket), 0);
	fd = open(place.socket, O_CREAT | O_WRONLY | O_CLOEXEC, 0600); /* a file of somebody */
	assert_int_equal(server_new(&place.server, &place.config), -EADDRINUSE);
	close(fd);
	assert_int_equal(unlink(place.socket), 0);
	place_close(&place);
}

static void test_server_path_too_long_is_refused_not_cut(void **state)
{
	struct place place;
	char path[300];

	(void)state;
	place_open(&place);
	memset(path, 'x', sizeof(path));
	memcpy(path, place.dir, strlen(place.dir));
	path[strlen(place.dir)] = '/';
	path[108] = '\0';
	place.config.socket_path = path;
	assert_int_equal(server_new(&place.server, &place.config), -ENAMETOOLONG);
	path[107] = '\0';
	assert_int_equal(server_new(&place.server, &place.config), 0);
	assert_int_equal(access(path, F_OK), 0);
	place.server = server_free(place.server);
	place_close(&place);
}

static void test_server_socket_of_somebody_else_stays(void **state)
{
	struct place place;

	(void)state;
	place_open(&place);
	assert_int_equal(server_new(&place.server, &place.config), 0);
	assert_int_equal(unlink(place.socket), 0);
	close(bind_at(place.socket, 1));
	place.server = server_free(place.server);
	assert_int_equal(access(place.socket, F_OK), 0);
	assert_int_equal(unlink(place.socket), 0);
	place_close(&place);
}

static int open_pool(struct wire *wire, const char *name)
{
	Mempool__Wire__OpenPool message = MEMPOOL__WIRE__OPEN_POOL__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(OPEN_POOL, open_pool, &message);

	message.has_name = 1;
	message.name = (ProtobufCBinaryData){strlen(name), (uint8_t *)(uintptr_t)name};
	return wire_ask(wire, &request, NULL);
}

static void test_server_configured_pools_are_there_from_the_start(void **state)
{
	struct pool_options pools[2] = {
		{.name = "first", .n_name_bytes = 5, .size = 65536, .max_size = 65536, .mode = 0666},
		{.name = "later", .n_name_bytes = 5, .size = 65536, .max_size = 65536, .mode = 0666},
	};
	struct place place;
	struct wire wire = WIRE_NULL;

	(void)state;
	place_open(&place);
	place.config.pools = pools;
	place.config.n_pools = 1;
	assert_int_equal(server_new(&place.server, &place.config), 0);
	place.config.n_pools = 2;
	server_set_config(place.server, &place.config); /* as SIGHUP does */
	assert_int_equal(pthread_create(&place.thread, NULL, run, &place), 0);
	assert_int_equal(wire_open(&wire, place.socket), 0);
	assert_int_equal(wire_hello(&wire), 0);
	assert_int_equal(open_pool(&wire, "first"), 0);
	assert_int_equal(open_pool(&wire, "later"), 0);
	assert_int_equal(open_pool(&wire, "never"), -ENOENT);
	place_stop(&place);
	wire_close(&wire);
	place_close(&place);
}

static uint64_t create_pool(struct wire *wire)
{
	Mempool__Wire__CreatePool message = MEMPOOL__WIRE__CREATE_POOL__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(CREATE_POOL, create_pool, &message);
	Mempool__Wire__Reply *reply;
	uint64_t pool;

	message.has_size = 1;
	message.size = 65536;
	assert_int_equal(wire_ask(wire, &request, &reply), 0);
	pool = reply->pool->info->pool;
	mempool__wire__reply__free_unpacked(reply, NULL);
	return pool;
}

static void alloc_and_free(struct wire *wire, uint64_t pool)
{
	Mempool__Wire__Alloc alloc = MEMPOOL__WIRE__ALLOC__INIT;
	Mempool__Wire__Free message = MEMPOOL__WIRE__FREE__INIT;
	Mempool__Wire__Request alloc_request = WIRE_REQUEST(ALLOC, alloc, &alloc);
	Mempool__Wire__Request free_request = WIRE_REQUEST(FREE, free, &message);
	Mempool__Wire__Reply *reply;

	alloc.has_pool = alloc.has_size = message.has_pool = message.has_offset = 1;
	alloc.pool = message.pool = pool;
	alloc.size = 100;
	assert_int_equal(wire_ask(wire, &alloc_request, &reply), 0);
	message.offset = reply->block->offset;
	mempool__wire__reply__free_unpacked(reply, NULL);
	assert_int_equal(wire_ask(wire, &free_request, NULL), 0);
}

/* One loop stands still in the middle of a request; two pools are served by the others all the same. */
static void test_server_held_loop_holds_up_nobody_else(void **state)
{
	Mempool__Wire__Ping message = MEMPOOL__WIRE__PING__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(PING, ping, &message);
	struct wire wires[3];
	Mempool__Wire__Reply *reply;
	struct place place;
	uint64_t pools[3];

	(void)state;
	place_open(&place);
	place.config.n_loops = 3;
	place_run(&place);
	for (int i = 0; i < 3; i++) { /* dealt in turn: one on each loop */
		wires[i] = (struct wire)WIRE_NULL;
		assert_int_equal(wire_open(&wires[i], place.socket), 0);
		assert_int_equal(wire_hello(&wires[i]), 0);
		pools[i] = create_pool(&wires[i]);
	}
	hold_loop(0);
	assert_int_equal(wire_send(&wires[0], &request), 0);
	wait_until_held();
	for (int round = 0; round < 100; round++) {
		alloc_and_free(&wires[1], pools[1]);
		alloc_and_free(&wires[2], pools[2]);
	}
	hold_loop(-1);
	assert_int_equal(wire_receive(&wires[0], &reply), 0);
	assert_int_equal(reply->status, 0);
	mempool__wire__reply__free_unpacked(reply, NULL);
	alloc_and_free(&wires[0], pools[0]);
	for (int i = 0; i < 3; i++)
		wire_close(&wires[i]);
	place_stop(&place);
	place_close(&place);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server_starts_and_stops_a_hundred_times),
		cmocka_unit_test(test_server_accept_that_fails_ends_nothing),
		cmocka_unit_test(test_server_second_one_on_an_instance_is_refused),
		cmocka_unit_test(test_server_socket_in_the_way),
		cmocka_unit_test(test_server_path_too_long_is_refused_not_cut),
		cmocka_unit_test(test_server_socket_of_somebody_else_stays),
		cmocka_unit_test(test_server_configured_pools_are_there_from_the_start),
		cmocka_unit_test(test_server_held_loop_holds_up_nobody_else),
	};

	log_open(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
