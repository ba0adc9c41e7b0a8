// SPDX-License-Identifier: MIT
/* Sessions, from Hello to Goodbye, and what is told of them and of the daemon. */
#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>

#include "dispatch_world.h"

static int refuse_begin(struct peer *peer)
{
	(void)peer;
	return -EMFILE;
}

static void test_dispatch_hello_that_nobody_can_watch_leaves_nothing(void **state)
{
	struct bench *bench = *state;
	struct client client = client_open(bench, 0);
	uint32_t *groups = malloc(sizeof(*groups));

	assert_non_null(groups);
	*groups = 5;
	client.peer.identity.groups = groups;
	client.peer.identity.n_groups = 1;
	client.peer.begun = refuse_begin;
	assert_int_equal(
		SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1), SET(wants_liveness, 1)),
		-EMFILE);
	assert_null(client.peer.session);
	assert_null(bench->sessions.head);
	assert_int_equal(client.peer.account->used[QUOTA_SESSIONS], 0);
	client.peer.begun = NULL; /* and the next one works, with the groups it had */
	assert_int_equal(SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1)), 0);
	assert_int_equal(client.peer.session->identity.n_groups, 1);
	assert_ptr_equal(client.peer.session->identity.groups, groups);
	client_close(&client);
}

static void test_dispatch_sessions_end_at_the_quota(void **state)
{
	struct bench *bench = *state;
	struct client first, second;

	atomic_store(&registry_quota(bench->services.registry)->limit[QUOTA_SESSIONS], 1);
	first = client_greet(bench, 4242);
	second = client_open(bench, 4242);
	assert_int_equal(SAY(&second, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1)), -EDQUOT);
	client_close(&first);
	assert_int_equal(SAY(&second, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1)), 0);
	client_close(&second);
}

/* Another process holds the lock for it: to the process that asks, its own would look free. */
static pid_t hold_lock(int fd, int *stopp)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	int ready[2], stop[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(stop), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		close(stop[1]);
		if (fcntl(fd, F_SETLK, &lock) || write(ready[1], "r", 1) != 1)
			_exit(1);
		_exit(read(stop[0], &byte, 1) ? 1 : 0);
	}
	close(ready[1]);
	close(stop[0]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	*stopp = stop[1];
	return pid;
}

static void test_dispatch_liveness_is_believed_when_the_lock_is_held(void **state)
{
	struct client client = client_open(*state, 0);
	int stop, status;
	pid_t pid;

	assert_int_equal(
		SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1), SET(wants_liveness, 1)), 0);
	assert_true(client.fd >= 0);
	pid = hold_lock(client.fd, &stop);
	assert_int_equal(SAY(&client, LIVENESS, liveness, Liveness), 0);
	assert_false(liveness_proves_death(&client.peer.session->liveness));
	close(stop);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(liveness_proves_death(&client.peer.session->liveness));
	client_close(&client);
}

static void test_dispatch_liveness_without_a_lock_is_refused(void **state)
{
	struct client client = client_open(*state, 0);

	assert_int_equal(
		SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1), SET(wants_liveness, 1)), 0);
	assert_int_equal(SAY(&client, LIVENESS, liveness, Liveness), -EINVAL);
	assert_false(liveness_proves_death(&client.peer.session->liveness)); /* unknown is alive */
	client_close(&client);
	client = client_greet(*state, 0);
	assert_int_equal(SAY(&client, LIVENESS, liveness, Liveness), -EINVAL); /* not asked for in Hello */
	client_close(&client);
}

static void test_dispatch_goodbye_gives_back_before_it_answers(void **state)
{
	struct bench *bench = *state;
	struct client client = client_greet(bench, 0), other = client_greet(bench, 0);
	uint64_t pool = create(&client, "g", 1 << 20);

	alloc(&client, pool, 1000);
	assert_int_equal(SAY(&client, GOODBYE, goodbye, Goodbye), 0);
	assert_true(client.was_slow);
	assert_int_equal(client.result, DISPATCH_E_CLOSE);
	assert_true(client.peer.session->is_ended);
	assert_int_equal(SAY(&other, OPEN_POOL, open_pool, OpenPool, SET(name, BYTES("g"))), 0);
	assert_int_equal(other.reply->pool->info->allocations, 0);
	assert_int_equal(SAY(&other, LIST_SESSIONS, list_sessions, ListSessions), 0);
	assert_int_equal(other.reply->list_sessions->n_sessions, 1);
	client_close(&client);
	client_close(&other);
}

static void test_dispatch_list_sessions_by_session_and_pool(void **state)
{
	struct client client = client_greet(*state, 0), other = client_greet(*state, 0);
	Mempool__Wire__ListSessionsReply *list;
	uint64_t a = create(&client, "a", 1 << 16), b = create(&client, "b", 1 << 16);

	alloc(&client, b, 100);
	alloc(&client, b, 100);
	assert_int_equal(SAY(&client, LIST_SESSIONS, list_sessions, ListSessions), 0);
	list = client.reply->list_sessions;
	assert_int_equal(list->n_sessions, 3);
	assert_int_equal(list->more, 0);
	assert_int_equal(list->sessions[0]->pool, a);
	assert_int_equal(list->sessions[0]->blocks, 0);
	assert_int_equal(list->sessions[1]->pool, b);
	assert_int_equal(list->sessions[1]->blocks, 2);
	assert_true(list->sessions[1]->bytes >= 200);
	assert_memory_equal(list->sessions[1]->pool_name.data, "b", 1);
	assert_int_equal(list->sessions[2]->session, other.peer.session->identity.session);
	assert_int_equal(list->sessions[2]->pool, 0);
	assert_int_equal(SAY(&client, LIST_SESSIONS, list_sessions, ListSessions, SET(name, BYTES("b"))), 0);
	assert_int_equal(client.reply->list_sessions->n_sessions, 1);
	assert_int_equal(SAY(&client, LIST_SESSIONS, list_sessions, ListSessions,
			     SET(after_session, client.peer.session->identity.session), SET(after_pool, a)),
			 0);
	assert_int_equal(client.reply->list_sessions->n_sessions, 2);
	assert_int_equal(SAY(&client, LIST_SESSIONS, list_sessions, ListSessions, SET(name, BYTES("no"))), -ENOENT);
	client_close(&client);
	client_close(&other);
}

static void test_dispatch_daemon_info(void **state)
{
	struct bench *bench = *state;
	struct client client = client_greet(bench, 0);

	bench->loop_connections[1] = 3;
	assert_int_equal(SAY(&client, DAEMON_INFO, daemon_info, DaemonInfo), 0);
	assert_int_equal(client.reply->daemon_info->n_loop_connections, 2);
	assert_int_equal(client.reply->daemon_info->loop_connections[1], 3);
	assert_int_equal(client.reply->daemon_info->n_limits, limits_table_n);
	assert_int_equal(client.reply->daemon_info->pid, getpid());
	client_close(&client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(hello_that_nobody_can_watch_leaves_nothing),
		TEST(sessions_end_at_the_quota),
		TEST(liveness_is_believed_when_the_lock_is_held),
		TEST(liveness_without_a_lock_is_refused),
		TEST(goodbye_gives_back_before_it_answers),
		TEST(list_sessions_by_session_and_pool),
		TEST(daemon_info),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
