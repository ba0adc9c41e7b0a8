// SPDX-License-Identifier: MIT
/* Sessions that outlive their daemon: what is found again, what can only end, and who may carry one on. */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/credentials.h"
#include "server/log.h"
#include "server/session.h"

struct bench { /* a daemon without sockets, that can be started again */
	char instance[64];
	struct registry *registry;
	struct sessions sessions;
};

static void bench_start(struct bench *bench)
{
	struct registry_config config = {.instance = bench->instance, .budget_bytes = UINT64_MAX, .decay_ms = 1000};
	int n_swept;

	for (unsigned i = 0; i < QUOTA_KIND_N; i++)
		config.quota_limit[i] = UINT64_MAX;
	assert_int_equal(registry_open(&bench->registry, &config, &n_swept), 0);
	assert_int_equal(n_swept, 0);
	assert_int_equal(sessions_init(&bench->sessions, bench->registry), 0);
	assert_int_equal(sessions_recover(&bench->sessions, bench->instance), 0);
}

static void bench_stop(struct bench *bench)
{
	sessions_deinit(&bench->sessions);
	bench->registry = registry_keep(bench->registry);
}

static void bench_restart(struct bench *bench)
{
	bench_stop(bench);
	bench_start(bench);
}

static int setup(void **state)
{
	static struct bench bench;

	snprintf(bench.instance, sizeof(bench.instance), "test-session-%d", getpid());
	bench_start(&bench);
	*state = &bench;
	return 0;
}

static struct session *begin(struct bench *bench, bool with_lock)
{
	struct pool_identity who = {.uid = 7, .gid = 8, .pid = getpid(), .command = "tester"};
	struct session *session;

	assert_int_equal(session_new(&session, &bench->sessions, &who,
				     quota_account_of(registry_quota(bench->registry), 7),
				     with_lock ? bench->instance : NULL),
			 0);
	return session;
}

static struct pool *create(struct bench *bench, const struct session *session, const char *name)
{
	const struct registry_call call = {.slot = session->slot, .session = session->identity.session, .request = 1};
	struct pool_options options = {
		.n_name_bytes = (uint32_t)strlen(name), .size = 65536, .max_size = 65536, .uid = 7, .mode = 0666};
	struct pool *pool;

	memcpy(options.name, name, options.n_name_bytes);
	assert_int_equal(registry_create(bench->registry, &options, &call, &pool), 0);
	return pool;
}

static struct pool_member *join(struct session *session, struct pool *pool)
{
	struct pool_member *member;

	if (session->n_memberships == session->n_alloced)
		assert_int_equal(session_make_room(session), 0);
	assert_int_equal(session_join(session, pool, &member), 0);
	return member;
}

static struct session *only(struct bench *bench)
{
	assert_non_null(bench->sessions.head);
	assert_ptr_equal(bench->sessions.head, bench->sessions.tail);
	return bench->sessions.head;
}

static void end(struct session *session)
{
	session_end(session);
	session_free(session);
}

static int teardown(void **state)
{
	struct bench *bench = *state;

	while (bench->sessions.head)
		end(bench->sessions.head);
	sessions_deinit(&bench->sessions);
	registry_close(bench->registry);
	return 0;
}

static uint64_t n_sessions(struct bench *bench)
{
	struct directory_recovery figures;

	registry_figures(bench->registry, &figures);
	return figures.n_sessions;
}

static void test_session_is_there_after_a_restart(void **state)
{
	struct bench *bench = *state;
	struct session *session = begin(bench, true), *found;
	uint8_t token[DIRECTORY_TOKEN_BYTES];
	uint64_t id = session->identity.session;
	struct pool *pool = create(bench, session, "shared"), *private = create(bench, session, "");
	struct pool_member *member = join(session, pool);
	struct pool_block block;
	struct pool_stats stats;
	void *home;

	memcpy(token, session->token, sizeof(token));
	join(session, private);
	assert_int_equal(pool_alloc(member, 100, 0, POOL_MAY_BLOCK, &block), 0);
	pool_unref(pool);
	pool_unref(private);
	for (int i = 0; i < 2; i++) {
		bench_restart(bench);
		session = only(bench);
		assert_int_equal(session->identity.session, id);
		assert_string_equal(session->identity.command, "tester");
		assert_int_equal(session->state, SESSION_AWAY);
		assert_int_equal(session->n_memberships, 2);
		assert_true(session->liveness.segment.fd >= 0);
		assert_int_equal(session->account->used[QUOTA_SESSIONS], 1);
		assert_true(sessions_find(&bench->sessions, id, token, &found, &home));
		assert_ptr_equal(found, session);
		assert_null(home);
		assert_false(sessions_find(&bench->sessions, id + 1, token, &found, &home));
		token[0] ^= 1;
		assert_false(sessions_find(&bench->sessions, id, token, &found, &home));
		token[0] ^= 1;
	}
	assert_int_equal(registry_find(bench->registry, "shared", 6, &pool), 0);
	member = session_member(session, pool_id(pool));
	assert_non_null(member);
	assert_int_equal(pool_free(member, block.offset), 0);
	assert_int_equal(pool_alloc(member, 100, 0, POOL_MAY_BLOCK, &block), 0);
	end(session);
	pool_stats(pool, &stats);
	assert_int_equal(stats.allocations, 0);
	pool_unref(pool);
	assert_int_equal(n_sessions(bench), 0);
	bench_restart(bench);
	assert_null(bench->sessions.head);
	assert_int_equal(registry_recovery(bench->registry)->n_pools, 1); /* not the private one */
}

static void test_session_whose_end_had_begun_can_only_end(void **state)
{
	struct bench *bench = *state;
	struct session *session = begin(bench, false), *found;
	uint8_t token[DIRECTORY_TOKEN_BYTES];
	uint64_t id = session->identity.session;
	void *home;

	memcpy(token, session->token, sizeof(token));
	registry_set_session(bench->registry, session->slot, DIRECTORY_ENDING);
	bench_restart(bench);
	assert_int_equal(only(bench)->state, SESSION_ENDING);
	assert_false(sessions_find(&bench->sessions, id, token, &found, &home));
	end(only(bench));
	assert_int_equal(n_sessions(bench), 0);
}

/* A pool that could not be recovered while the session ended, and can now. */
static void test_session_that_only_a_pool_knows_can_only_end(void **state)
{
	struct bench *bench = *state;
	struct session *session = begin(bench, false), *other = begin(bench, false);
	struct pool *pool = create(bench, session, "shared"), *private = create(bench, session, ""), *found;
	struct pool_member *member = join(session, pool);
	uint64_t ids[2] = {session->identity.session, other->identity.session}, hidden = pool_id(private);
	struct pool_block block;
	struct pool_stats stats;

	join(other, pool);
	assert_int_equal(pool_alloc(member, 100, 0, POOL_MAY_BLOCK, &block), 0);
	pool_unref(pool);
	pool_unref(private); /* made, and never opened */
	registry_remove_session(bench->registry, session->slot);
	bench_restart(bench);
	session = bench->sessions.head;
	assert_int_equal(session->identity.session, ids[0]);
	assert_int_equal(session->slot, SESSION_NO_SLOT);
	assert_int_equal(session->state, SESSION_ENDING);
	assert_int_equal(session->next->identity.session, ids[1]);
	assert_int_equal(session->next->state, SESSION_AWAY);
	end(session);
	assert_int_equal(only(bench)->identity.session, ids[1]);
	assert_int_equal(registry_find(bench->registry, "shared", 6, &pool), 0);
	pool_stats(pool, &stats);
	assert_int_equal(stats.allocations, 0);
	assert_int_equal(stats.sessions, 1);
	pool_unref(pool);
	assert_int_equal(registry_find_id(bench->registry, hidden, &found), REGISTRY_E_NO_POOL);
}

static void test_session_destroyed_pool_is_not_kept(void **state)
{
	struct bench *bench = *state;
	struct session *session = begin(bench, false);
	struct pool *pool = create(bench, session, "gone");
	struct pool_warning warning;

	join(session, pool);
	assert_int_equal(registry_remove(bench->registry, pool, false, NULL, &warning), 0);
	pool_unref(pool);
	bench_restart(bench);
	assert_int_equal(only(bench)->n_memberships, 0);
	assert_int_equal(registry_recovery(bench->registry)->n_pools, 0);
}

/*
 * Takes the lock on @fd, says so on @tell, and lives. Another program: a mere fork would share the instance's lock, with the
 * mapping of its ledger.
 */
static _Noreturn void hold(int fd, int tell)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};

	if (fcntl(fd, F_SETLK, &lock) || write(tell, "x", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static void test_session_is_of_its_own_process_only(void **state)
{
	struct bench *bench = *state;
	struct session *session = begin(bench, true);
	struct pool_identity peer = {.uid = 7, .pid = getpid()};
	char words[2][16], c;
	int ends[2], fd;
	pid_t child;

	assert_true(session_is_of(session, &peer));
	peer.uid = 8;
	assert_false(session_is_of(session, &peer));
	peer.uid = 7;
	peer.pid = getppid();
	assert_false(session_is_of(session, &peer));
	peer.pid = 0;
	assert_false(session_is_of(session, &peer));

	session->pid_space++;			     /* seen from another namespace: pids cannot be compared */
	assert_false(session_is_of(session, &peer)); /* and nobody has said that he holds the lock */
	fd = dup(session->liveness.segment.fd);
	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (!child) {
		snprintf(words[0], sizeof(words[0]), "%d", fd);
		snprintf(words[1], sizeof(words[1]), "%d", ends[1]);
		execl("/proc/self/exe", "test_session", words[0], words[1], NULL);
		_exit(127);
	}
	assert_int_equal(read(ends[0], &c, 1), 1);
	session_confirm_lock(session);
	assert_true(session_is_of(session, &peer));
	bench_restart(bench); /* which asks the same object */
	session = only(bench);
	session->pid_space++;
	assert_true(session->liveness.is_confirmed);
	assert_true(session_is_of(session, &peer));
	assert_false(liveness_proves_death(&session->liveness));
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_false(session_is_of(session, &peer));
	assert_true(liveness_proves_death(&session->liveness));
	close(fd);
	close(ends[0]);
	close(ends[1]);
	end(session);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_session_##name, setup, teardown)

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
		TEST(is_there_after_a_restart),
		TEST(whose_end_had_begun_can_only_end),
		TEST(that_only_a_pool_knows_can_only_end),
		TEST(destroyed_pool_is_not_kept),
		TEST(is_of_its_own_process_only),
	};

	if (argc == 3)
		hold(atoi(argv[1]), atoi(argv[2]));
	log_open(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
