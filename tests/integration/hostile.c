// SPDX-License-Identifier: MIT
#include "tests/integration/hostile.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/lib/test.h"

int64_t *hostile_result;

/* ---- for attacks ---- */

void hostile_fail(const char *file, int line, const char *condition)
{
	fprintf(stderr, "%s:%d: not so: %s\n", file, line, condition);
	_exit(1);
}

struct wire hostile_connect(const struct daemon *d)
{
	struct wire wire;

	CHECK(wire_open(&wire, d->socket) == 0);
	return wire;
}

struct wire hostile_greet(const struct daemon *d)
{
	struct wire wire = hostile_connect(d);

	CHECK(wire_hello(&wire) == 0);
	return wire;
}

int hostile_ping(struct wire *wire)
{
	Mempool__Wire__Ping ping = MEMPOOL__WIRE__PING__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(PING, ping, &ping);

	return wire_ask(wire, &request, NULL);
}

uint64_t hostile_create(struct wire *wire, const char *name, uint64_t size)
{
	Mempool__Wire__CreatePool create = MEMPOOL__WIRE__CREATE_POOL__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(CREATE_POOL, create_pool, &create);
	Mempool__Wire__Reply *reply = NULL;
	uint64_t pool;

	create.has_name = create.has_size = create.has_mode = 1;
	create.name = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)name, .len = strlen(name)};
	create.size = size;
	create.mode = 0666;
	CHECK(wire_ask(wire, &request, &reply) == 0);
	CHECK(reply->pool && reply->pool->info && wire->fd >= 0);
	pool = reply->pool->info->pool;
	mempool__wire__reply__free_unpacked(reply, NULL);
	return pool;
}

int hostile_alloc(struct wire *wire, uint64_t pool, uint64_t size, uint64_t *offsetp)
{
	Mempool__Wire__Alloc alloc = MEMPOOL__WIRE__ALLOC__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(ALLOC, alloc, &alloc);
	Mempool__Wire__Reply *reply = NULL;
	int status;

	alloc.has_pool = alloc.has_size = 1;
	alloc.pool = pool;
	alloc.size = size;
	status = wire_ask(wire, &request, &reply);
	if (!status) {
		CHECK(reply->block && reply->block->offset);
		*offsetp = reply->block->offset;
	}
	mempool__wire__reply__free_unpacked(reply, NULL);
	return status;
}

int hostile_free(struct wire *wire, uint64_t pool, uint64_t offset)
{
	Mempool__Wire__Free message = MEMPOOL__WIRE__FREE__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(FREE, free, &message);

	message.has_pool = message.has_offset = 1;
	message.pool = pool;
	message.offset = offset;
	return wire_ask(wire, &request, NULL);
}

/* ---- the canary ---- */

#define CANARY_BLOCKS 16u
#define CANARY_BYTES  (1u << 20)

static bool is_asked_to_stop(int stop)
{
	struct pollfd fd = {.fd = stop, .events = POLLIN};

	return poll(&fd, 1, 0) == 1;
}

static void replace(struct wire *wire, uint64_t pool, uint8_t *memory, unsigned round, uint64_t offsets[])
{
	unsigned i = round % CANARY_BLOCKS;
	size_t size = 1 + round * 37 % 4000;

	if (offsets[i]) {
		unsigned old = round - CANARY_BLOCKS;

		for (size_t at = 0; at < 1 + old * 37 % 4000; at++)
			CHECK(memory[offsets[i] + at] == (uint8_t)old);
		CHECK(hostile_free(wire, pool, offsets[i]) == 0);
	}
	CHECK(hostile_alloc(wire, pool, size, &offsets[i]) == 0);
	memset(memory + offsets[i], (uint8_t)round, size);
}

/* Says "r" on @ready once it works, and goes on until @stop is closed. */
static _Noreturn void be_canary(const struct daemon *d, int ready, int stop)
{
	struct wire wire = hostile_greet(d);
	uint64_t pool = hostile_create(&wire, "canary", CANARY_BYTES), offsets[CANARY_BLOCKS] = {0};
	uint8_t *memory = mmap(NULL, 4096 + CANARY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, wire.fd, 0);
	unsigned round = 0;

	CHECK(memory != MAP_FAILED);
	for (; round < 2 * CANARY_BLOCKS || !is_asked_to_stop(stop); round++) {
		replace(&wire, pool, memory, round, offsets);
		if (round == CANARY_BLOCKS)
			CHECK(write(ready, "r", 1) == 1);
	}
	CHECK(hostile_ping(&wire) == 0);
	wire_close(&wire);
	_exit(0);
}

/* ---- the scene ---- */

struct scene {
	struct daemon daemon;
	pid_t canary;
	int stop; /* closed: the canary ends */
	struct wire control;
	int n_fds, n_objects; /* of the daemon before the attack */
};

static struct scene *current; /* for hostile_clean() */

static void start_canary(struct scene *scene)
{
	int ready[2], stop[2];
	char byte;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	assert_int_equal(pipe2(stop, O_CLOEXEC), 0);
	fflush(NULL);
	scene->canary = fork();
	assert_true(scene->canary >= 0);
	if (!scene->canary) {
		close(stop[1]);
		be_canary(&scene->daemon, ready[1], stop[0]);
	}
	close(ready[1]);
	close(stop[0]);
	scene->stop = stop[1];
	assert_int_equal(read(ready[0], &byte, 1), 1); /* 0: it ended */
	close(ready[0]);
}

static void stop_canary(struct scene *scene)
{
	int status;

	close(scene->stop);
	assert_int_equal(waitpid(scene->canary, &status, 0), scene->canary);
	scene->canary = 0;
	assert_int_equal(status, 0); /* it saw no error */
}

static uint64_t now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

/* What an attack used goes when the daemon has seen its end, which is not the moment when we see it. */
static void wait_for_before(struct scene *scene)
{
	uint64_t until = now_s() + WIRE_PATIENCE_S;
	int n_fds, n_objects;

	do {
		assert_int_equal(hostile_ping(&scene->control), 0);
		n_fds = daemon_n_fds(&scene->daemon);
		n_objects = daemon_n_objects(&scene->daemon);
	} while ((n_fds != scene->n_fds || n_objects != scene->n_objects) && now_s() < until);
	assert_int_equal(n_fds, scene->n_fds);
	assert_int_equal(n_objects, scene->n_objects);
}

static void destroy(struct wire *wire, ProtobufCBinaryData name)
{
	Mempool__Wire__DestroyPool message = MEMPOOL__WIRE__DESTROY_POOL__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(DESTROY_POOL, destroy_pool, &message);

	message.has_name = 1;
	message.name = name;
	assert_int_equal(wire_ask(wire, &request, NULL), 0);
}

/* Named pools outlive who made them, as they should. */
static void destroy_strange_pools(struct wire *wire)
{
	Mempool__Wire__ListPools list = MEMPOOL__WIRE__LIST_POOLS__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(LIST_POOLS, list_pools, &list);
	Mempool__Wire__Reply *reply = NULL;

	assert_int_equal(wire_ask(wire, &request, &reply), 0);
	for (size_t i = 0; i < reply->list_pools->n_pools; i++) {
		ProtobufCBinaryData name = reply->list_pools->pools[i]->name;

		if (name.len != 6 || memcmp(name.data, "canary", 6))
			destroy(wire, name);
	}
	mempool__wire__reply__free_unpacked(reply, NULL);
}

static int attack_status(const struct daemon *d, const struct attack *attack)
{
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		if (attack->uid)
			CHECK(!setgroups(0, NULL) && !setresgid(attack->uid, attack->uid, attack->uid) &&
			      !setresuid(attack->uid, attack->uid, attack->uid));
		attack->run(d);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

int hostile_clean(void **state)
{
	(void)state;
	if (!current)
		return 0;
	if (current->canary > 0) {
		kill(current->canary, SIGKILL);
		waitpid(current->canary, NULL, 0);
	}
	wire_close(&current->control);
	daemon_deinit(&current->daemon);
	current = NULL;
	return 0;
}

static void set_scene(struct scene *scene, const char *config)
{
	const char *args[] = {"--threads", "2", NULL, NULL, NULL};
	char path[96];

	*scene = (struct scene){.control = WIRE_NULL};
	assert_int_equal(daemon_init(&scene->daemon), 0);
	current = scene;
	if (config) {
		assert_int_equal(daemon_write_file(&scene->daemon, "conf", config, path), 0);
		args[2] = "--config";
		args[3] = path;
	}
	assert_int_equal(daemon_start(&scene->daemon, args), 0);
	start_canary(scene);
	assert_int_equal(wire_open(&scene->control, scene->daemon.socket), 0);
	assert_int_equal(wire_hello(&scene->control), 0);
	scene->n_fds = daemon_n_fds(&scene->daemon);
	scene->n_objects = daemon_n_objects(&scene->daemon);
}

void hostile_run(const struct attack *attack)
{
	static struct scene scene;
	int status;

	if (!hostile_result) {
		hostile_result = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		assert_true(hostile_result != MAP_FAILED);
	}
	*hostile_result = 0;
	set_scene(&scene, attack->config);
	status = attack_status(&scene.daemon, attack);
	if (attack->dies)
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	else
		assert_int_equal(status, 0);
	destroy_strange_pools(&scene.control);
	wait_for_before(&scene);
	stop_canary(&scene);
	wire_close(&scene.control);
	assert_int_equal(daemon_stop(&scene.daemon), 0);
	hostile_clean(NULL);
}
