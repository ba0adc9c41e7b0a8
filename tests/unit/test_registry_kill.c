// SPDX-License-Identifier: MIT
/*
 * A create, a destroy and a start, killed at each call that makes, fills or removes an object: a child runs @body, and is killed at the
 * @nth look of a wrapped call, or at its end.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "registry_world.h"

static unsigned die_at; /* looks left; 0: never */

static void look(void)
{
	if (die_at && !--die_at)
		kill(getpid(), SIGKILL);
}

/* Before and after each call that makes, fills or removes an object. */
#define WRAP(type, name, args, ...)             \
	type __real_##name args;                \
	type __wrap_##name args;                \
	type __wrap_##name args                 \
	{                                       \
		type r;                         \
                                                \
		look();                         \
		r = __real_##name(__VA_ARGS__); \
		look();                         \
		return r;                       \
	}
WRAP(int, shm_open, (const char *name, int flags, mode_t mode), name, flags, mode)
WRAP(int, shm_unlink, (const char *name), name)
WRAP(int, ftruncate, (int fd, off_t n), fd, n)
WRAP(int, posix_fallocate, (int fd, off_t offset, off_t n), fd, offset, n)
WRAP(void *, mmap, (void *at, size_t n, int prot, int flags, int fd, off_t offset), at, n, prot, flags, fd, offset)

/* A daemon starts, is killed at the @first look of its start, or at the @nth in @body. Return: true; false: it came to the end, and was killed there */
static bool die_at_look(unsigned first, void (*body)(struct registry *registry), unsigned nth)
{
	const struct registry_config config = config_of(10);
	struct registry *registry;
	int n_swept, status;
	pid_t child = fork();

	if (!child) {
		die_at = first;
		if (registry_open(&registry, &config, &n_swept))
			_exit(99);
		die_at = nth;
		if (body)
			body(registry);
		die_at = 0;
		kill(getpid(), SIGTERM);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	return WTERMSIG(status) == SIGKILL;
}

static bool die_in(void (*body)(struct registry *registry), unsigned nth)
{
	return die_at_look(0, body, nth);
}

static bool die_in_start(unsigned nth)
{
	return die_at_look(nth, NULL, 0);
}

static const struct registry_call *call_of_7(struct registry *registry)
{
	static struct registry_call call;
	struct directory_session session;
	unsigned state;

	call = (struct registry_call){.request = 7};
	if (!registry_session(registry, &call.slot, &session, &state)) {
		session = (struct directory_session){.uid = WORLD_UID, .pid = 1, .command = "tester"};
		if (registry_add_session(registry, &session, &call.slot))
			_exit(98);
	}
	call.session = session.id;
	return &call;
}

static void create_kept(struct registry *registry)
{
	const struct pool_options options = named("kept");
	struct pool *pool;

	if (registry_create(registry, &options, call_of_7(registry), &pool))
		_exit(97);
}

static void destroy_kept(struct registry *registry)
{
	struct registry_call call = *call_of_7(registry);
	struct pool_warning warning;
	struct pool *pool;

	call.request = 8;
	if (registry_find(registry, "kept", 4, &pool) || registry_remove(registry, pool, false, &call, &warning))
		_exit(96);
}

/* Whether "kept" is there; what is there is whole, what is not has left nothing, and the answer to @request says the same. */
static bool is_kept(uint64_t request, bool when_answered)
{
	const struct registry_config config = config_of(10);
	struct directory_answer answer = {.outcome = -1};
	struct pool_fault fault;
	struct registry_call call;
	struct registry *registry;
	struct pool *pool;
	bool is_there;
	int n_swept;

	assert_int_equal(registry_open(&registry, &config, &n_swept), 0);
	assert_int_equal(registry_recovery(registry)->n_refused, 0);
	is_there = !registry_find(registry, "kept", 4, &pool);
	assert_int_equal(n_objects(), is_there ? 3 : 1);
	call = *call_of_7(registry);
	call.request = request;
	assert_int_equal(registry_answered(registry, &call, &answer), is_there == when_answered);
	if (is_there) {
		assert_int_equal(pool_check(pool, &fault, 1), 0);
		assert_int_equal(registry_recovery(registry)->n_pools, 1);
		if (when_answered)
			assert_int_equal(answer.pool, pool_id(pool));
		pool_unref(pool);
	}
	registry_keep(registry);
	return is_there;
}

static void end_instance(void)
{
	registry_close(open_swept(10));
	assert_int_equal(n_objects(), 0);
}

static void test_registry_create_killed_at_each_step_is_whole_or_not_at_all(void **state)
{
	unsigned n_there = 0, nth = 1;
	bool killed = true;

	(void)state;
	for (; killed; nth++) {
		assert_in_range(nth, 1, 500);
		killed = die_in(create_kept, nth);
		n_there += is_kept(7, true);
		end_instance();
	}
	printf("create: killed at %u places, the pool was there after %u of them\n", nth - 1, n_there);
	assert_in_range(nth, 20, 500);
	assert_true(n_there >= 1 && n_there < nth);
}

static void test_registry_destroy_killed_at_each_step_is_whole_or_not_at_all(void **state)
{
	unsigned n_there = 0, nth = 1;
	bool killed = true;

	(void)state;
	for (; killed; nth++) {
		assert_in_range(nth, 1, 500);
		assert_false(die_in(create_kept, 0));
		assert_true(is_kept(7, true));
		killed = die_in(destroy_kept, nth);
		n_there += is_kept(8, false);
		end_instance();
	}
	printf("destroy: killed at %u places, the pool was there after %u of them\n", nth - 1, n_there);
	assert_in_range(nth, 3, 500);
	assert_false(n_there); /* its commit is before any call */
}

static void test_registry_start_killed_at_each_step_loses_nothing(void **state)
{
	unsigned nth = 1;
	bool killed = true;

	(void)state;
	assert_false(die_in(create_kept, 0));
	for (; killed; nth++) {
		assert_in_range(nth, 1, 500);
		killed = die_in_start(nth);
		assert_true(is_kept(7, true));
	}
	assert_in_range(nth, 10, 500);
	end_instance();
}

static void test_registry_first_start_killed_at_each_step_can_be_begun_again(void **state)
{
	bool killed = true;

	(void)state;
	for (unsigned nth = 1; killed; nth++) {
		struct registry *registry;

		assert_in_range(nth, 1, 500);
		killed = die_in_start(nth);
		assert_int_equal(registry_recovery(registry = open_registry(10))->time_s, 0);
		registry_close(registry);
		assert_int_equal(n_objects(), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registry_create_killed_at_each_step_is_whole_or_not_at_all),
		cmocka_unit_test(test_registry_destroy_killed_at_each_step_is_whole_or_not_at_all),
		cmocka_unit_test(test_registry_start_killed_at_each_step_loses_nothing),
		cmocka_unit_test(test_registry_first_start_killed_at_each_step_can_be_begun_again),
	};

	return registry_world_run("registry-kill", tests);
}
