// SPDX-License-Identifier: MIT
/* Framing, limits, deadlines and descriptors of one loop, over socket pairs, in one process. */
#include "tests/lib/test.h"

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/frame.h"
#include "server/connection.h"
#include "server/credentials.h"
#include "server/hook.h"
#include "server/loop.h"
#include "server/session.h"
#include "server/workers.h"
#include "tests/lib/wire.h"

/* ---- requests that take long, one by one ---- */

static struct {
	_Atomic bool is_shut;
	sem_t arrivals; /* requests that came to the gate */
	sem_t permits;	/* requests that may pass it */
} gate;

#define LONG_NS 5000000u /* longer than a turn, and than a user's time */

void hook_point(enum hook_place place, unsigned loop_index)
{
	uint64_t end_ns;

	(void)place;
	(void)loop_index;
	if (!atomic_load(&gate.is_shut))
		return;
	sem_post(&gate.arrivals);
	while (sem_wait(&gate.permits))
		;
	for (end_ns = uv_hrtime() + LONG_NS; uv_hrtime() < end_ns;)
		;
}

bool hook_loses_reply(unsigned op)
{
	(void)op;
	return false;
}

static void gate_permit(unsigned n)
{
	while (n--)
		sem_post(&gate.permits);
}

/* ---- the house ---- */

struct house { /* one loop and what it needs */
	struct sessions sessions;
	struct services services;
	struct admission admission;
	struct workers workers;
	struct loop loop;
	_Atomic uint32_t n_connections;
	char instance[64];
};

static void no_room_needed(void *arg)
{
	(void)arg;
}

static void house_open(struct house *house, const struct limits *limits)
{
	struct registry_config config = {.instance = house->instance, .budget_bytes = UINT64_MAX, .decay_ms = 1000};
	int n_swept;

	memset(house, 0, sizeof(*house));
	snprintf(house->instance, sizeof(house->instance), "test-connection-%d", getpid());
	for (unsigned i = 0; i < QUOTA_KIND_N; i++)
		config.quota_limit[i] = UINT64_MAX;
	assert_int_equal(registry_open(&house->services.registry, &config, &n_swept), 0);
	assert_int_equal(sessions_init(&house->sessions, house->services.registry), 0);
	house->services.sessions = &house->sessions;
	house->services.instance = house->instance;
	house->services.loop_connections = &house->n_connections;
	house->services.n_loops = 1;
	house->services.is_ephemeral = true;
	house->loop.services = &house->services;
	house->loop.admission = &house->admission;
	assert_int_equal(workers_init(&house->workers), 0);
	house->loop.workers = &house->workers;
	house->loop.n_connections = &house->n_connections;
	house->loop.room = no_room_needed;
	house->loop.limits = *limits;
	assert_int_equal(loop_start(&house->loop), 0);
}

static void house_close(struct house *house)
{
	loop_stop(&house->loop);
	loop_join(&house->loop);
	workers_deinit(&house->workers);
	assert_int_equal(house->admission.n_connections, 0);
	assert_int_equal(house->admission.n_before_hello, 0);
	assert_int_equal(house->n_connections, 0);
	sessions_deinit(&house->sessions);
	registry_close(house->services.registry);
}

static struct wire house_connect_as(struct house *house, uid_t uid)
{
	struct timeval patience = {.tv_sec = WIRE_PATIENCE_S};
	struct wire wire = WIRE_NULL;
	struct pool_identity who;
	struct quota_account *account;
	struct connection *connection;
	char why[256];
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(setsockopt(ends[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	assert_int_equal(setsockopt(ends[1], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
	assert_int_equal(credentials_get(ends[0], &who), 0);
	assert_int_equal(who.uid, getuid());
	assert_int_equal(who.pid, getpid());
	who.uid = uid;
	account = quota_account_of(registry_quota(house->services.registry), who.uid);
	assert_non_null(account);
	assert_int_equal(admission_enter(&house->admission, &house->loop.limits, account, why, sizeof(why)), 0);
	assert_int_equal(connection_new(&connection, &house->loop, ends[0], &who, account), 0);
	connection_post(connection);
	wire.socket = ends[1];
	return wire;
}

static struct wire house_connect(struct house *house)
{
	return house_connect_as(house, getuid());
}

static struct limits defaults(void)
{
	struct limits limits;

	limits_default(&limits);
	return limits;
}

static int ping(struct wire *wire)
{
	Mempool__Wire__Ping message = MEMPOOL__WIRE__PING__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(PING, ping, &message);

	return wire_ask(wire, &request, NULL);
}

static uint8_t *packed_ping(struct wire *wire, size_t *n_bytesp)
{
	Mempool__Wire__Ping message = MEMPOOL__WIRE__PING__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(PING, ping, &message);
	uint8_t *frame = wire_pack(wire, &request, n_bytesp);

	assert_non_null(frame);
	return frame;
}

static void expect_replies(struct wire *wire, uint64_t first, uint64_t last)
{
	Mempool__Wire__Reply *reply;

	for (uint64_t id = first; id <= last; id++) {
		assert_int_equal(wire_receive(wire, &reply), 0);
		assert_int_equal(reply->id, id);
		assert_int_equal(reply->status, 0);
		mempool__wire__reply__free_unpacked(reply, NULL);
	}
}

/* ---- frames ---- */

static void test_connection_takes_a_frame_byte_by_byte(void **state)
{
	struct limits limits = defaults();
	struct house house;
	struct wire wire;
	size_t n;
	uint8_t *frame;

	(void)state;
	house_open(&house, &limits);
	wire = house_connect(&house);
	assert_int_equal(wire_hello(&wire), 0);
	frame = packed_ping(&wire, &n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(wire_send_bytes(&wire, frame + i, 1), 0);
	free(frame);
	expect_replies(&wire, 2, 2);
	wire_close(&wire);
	house_close(&house);
}

/* More in one write than one turn takes, and the last one cut: nobody is forgotten, and the order is kept. */
static void test_connection_takes_more_than_a_turn_in_order(void **state)
{
	enum {
		N = 1000
	};
	struct limits limits = defaults();
	struct house house;
	struct wire wire;
	uint8_t *all = malloc(N * 32), *frame;
	size_t n_all = 0, n, n_last = 0;

	(void)state;
	assert_non_null(all);
	limits.requests_in_flight = 3;
	house_open(&house, &limits);
	wire = house_connect(&house);
	assert_int_equal(wire_hello(&wire), 0);
	for (int i = 0; i < N; i++) {
		frame = packed_ping(&wire, &n);
		assert_true(n <= 32);
		memcpy(all + n_all, frame, n);
		n_all += n;
		n_last = n;
		free(frame);
	}
	assert_int_equal(wire_send_bytes(&wire, all, n_all - n_last + 2), 0);
	expect_replies(&wire, 2, N);
	assert_int_equal(wire_send_bytes(&wire, all + n_all - n_last + 2, n_last - 2), 0);
	expect_replies(&wire, N + 1, N + 1);
	free(all);
	wire_close(&wire);
	house_close(&house);
}

/* Counted, not timed: of so many requests that are let through, one is the other's. */
static void test_connection_turn_ends_when_its_time_is_up(void **state)
{
	enum {
		N = 40
	};
	struct limits limits = defaults();
	struct house house;
	struct wire flood, other;
	uint8_t all[N * 32], *frame;
	size_t n_all = 0, n;

	(void)state;
	assert_int_equal(sem_init(&gate.arrivals, 0, 0), 0);
	assert_int_equal(sem_init(&gate.permits, 0, 0), 0);
	house_open(&house, &limits);
	flood = house_connect(&house);
	other = house_connect(&house);
	assert_int_equal(wire_hello(&flood), 0);
	assert_int_equal(wire_hello(&other), 0);
	for (int i = 0; i < N; i++, n_all += n) {
		frame = packed_ping(&flood, &n);
		assert_true(n <= 32);
		memcpy(all + n_all, frame, n);
		free(frame);
	}
	atomic_store(&gate.is_shut, true);
	assert_int_equal(wire_send_bytes(&flood, all, n_all), 0);
	while (sem_wait(&gate.arrivals))
		;
	frame = packed_ping(&other, &n);
	assert_int_equal(wire_send_bytes(&other, frame, n), 0);
	free(frame);
	gate_permit(3); /* the one that is there, perhaps a turn of its connection, and the other's */
	expect_replies(&other, 2, 2);
	atomic_store(&gate.is_shut, false);
	gate_permit(1); /* one may stand there */
	expect_replies(&flood, 2, N + 1);
	wire_close(&flood);
	wire_close(&other);
	house_close(&house);
	sem_destroy(&gate.arrivals);
	sem_destroy(&gate.permits);
}

static void send_pings(struct wire *wire, unsigned n)
{
	uint8_t *frame;
	size_t n_bytes;

	for (; n; n--) {
		frame = packed_ping(wire, &n_bytes);
		assert_int_equal(wire_send_bytes(wire, frame, n_bytes), 0);
		free(frame);
	}
}

/* Counted, as above: however many connections of one user have requests, another waits for a few of them only. */
static void test_connection_many_of_a_user_share_its_time(void **state)
{
	enum {
		N_FLOODS = 20,
		N = 10
	};
	struct limits limits = defaults();
	struct wire floods[N_FLOODS], other;
	struct house house;

	(void)state;
	assert_int_equal(sem_init(&gate.arrivals, 0, 0), 0);
	assert_int_equal(sem_init(&gate.permits, 0, 0), 0);
	house_open(&house, &limits);
	other = house_connect_as(&house, getuid() + 1);
	assert_int_equal(wire_hello(&other), 0);
	for (int i = 0; i < N_FLOODS; i++) {
		floods[i] = house_connect(&house);
		assert_int_equal(wire_hello(&floods[i]), 0);
	}
	atomic_store(&gate.is_shut, true);
	for (int i = 0; i < N_FLOODS; i++)
		send_pings(&floods[i], N);
	while (sem_wait(&gate.arrivals))
		;
	send_pings(&other, 1);
	gate_permit(
		4); /* the one that is there, one of a round of those that are ready, one of those that are read, and the other's */
	expect_replies(&other, 2, 2);
	atomic_store(&gate.is_shut, false);
	gate_permit(1); /* one may stand there */
	for (int i = 0; i < N_FLOODS; i++) {
		expect_replies(&floods[i], 2, N + 1); /* each had its turns */
		wire_close(&floods[i]);
	}
	wire_close(&other);
	house_close(&house);
	sem_destroy(&gate.arrivals);
	sem_destroy(&gate.permits);
}

static void send_length(struct wire *wire, uint32_t n_bytes)
{
	uint8_t header[FRAME_HEADER_BYTES];

	frame_put_header(header, n_bytes);
	assert_int_equal(wire_send_bytes(wire, header, sizeof(header)), 0);
}

static void test_connection_lengths_end_at_the_limit(void **state)
{
	struct limits limits = defaults();
	struct house house;
	struct wire wire;

	(void)state;
	limits.request_frame = 4096;
	limits.request_frame_before_hello = 512;
	house_open(&house, &limits);
	for (int is_greeted = 0; is_greeted < 2; is_greeted++) {
		uint32_t most = is_greeted ? 4096 : 512;

		for (uint32_t n = most - 1; n <= most + 1; n++) {
			uint8_t garbage[4097];

			memset(garbage, 0xff, sizeof(garbage));
			wire = house_connect(&house);
			if (is_greeted)
				assert_int_equal(wire_hello(&wire), 0);
			send_length(&wire, n);
			if (n <= most) /* it waits for the rest, and then says that it is no request */
				assert_int_equal(wire_send_bytes(&wire, garbage, n), 0);
			assert_int_equal(wire_last_word(&wire), n <= most ? -EBADMSG : -EMSGSIZE);
			wire_close(&wire);
		}
	}
	wire = house_connect(&house);
	send_length(&wire, 0);
	assert_int_equal(wire_last_word(&wire), -EBADMSG);
	wire_close(&wire);
	house_close(&house);
}

/* ---- deadlines ---- */

static void test_connection_deadlines(void **state)
{
	struct limits limits = defaults();
	struct house house;
	struct wire silent, half;

	(void)state;
	limits.time_to_hello_ms = limits.time_to_finish_frame_ms = 50;
	house_open(&house, &limits);
	silent = house_connect(&house);
	half = house_connect(&house);
	assert_int_equal(wire_hello(&half), 0);
	assert_int_equal(wire_last_word(&silent), -ETIMEDOUT);
	assert_int_equal(ping(&half), 0); /* after Hello it may be silent for as long as it likes */
	send_length(&half, 5);
	assert_int_equal(wire_last_word(&half), -ETIMEDOUT);
	wire_close(&silent);
	wire_close(&half);
	house_close(&house);
}

/* ---- back-pressure ---- */

static void ask_info(struct wire *wire)
{
	Mempool__Wire__DaemonInfo message = MEMPOOL__WIRE__DAEMON_INFO__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(DAEMON_INFO, daemon_info, &message);

	assert_int_equal(wire_send(wire, &request), 0);
}

/* Replies pile up; a descriptor is among them; whoever reads late gets all, and it with the frame that says so. */
static void test_connection_late_reader_gets_all_in_order(void **state)
{
	enum {
		N = 2000
	};
	struct limits limits = defaults();
	Mempool__Wire__CreatePool create = MEMPOOL__WIRE__CREATE_POOL__INIT;
	Mempool__Wire__DaemonInfo info = MEMPOOL__WIRE__DAEMON_INFO__INIT;
	Mempool__Wire__Request create_request = WIRE_REQUEST(CREATE_POOL, create_pool, &create);
	Mempool__Wire__Request info_request = WIRE_REQUEST(DAEMON_INFO, daemon_info, &info);
	Mempool__Wire__Reply *reply;
	struct house house;
	struct wire wire;
	uint8_t *all = malloc((N + 1) * 32), *frame;
	size_t n_all = 0, n;

	(void)state;
	assert_non_null(all);
	limits.queued_reply_pause = 4096;
	house_open(&house, &limits);
	wire = house_connect(&house);
	assert_int_equal(wire_hello(&wire), 0);
	create.has_size = 1;
	create.size = 65536;
	for (int i = 0; i < N + 1; i++) {
		frame = wire_pack(&wire, i == N / 2 ? &create_request : &info_request, &n);
		assert_non_null(frame);
		memcpy(all + n_all, frame, n);
		n_all += n;
		free(frame);
		info_request.has_id = 0; /* the next one */
	}
	/* In one write: many small ones fill a socket that nobody reads from by their number. */
	assert_int_equal(wire_send_bytes(&wire, all, n_all), 0);
	free(all);
	expect_replies(&wire, 2, N / 2 + 1);
	assert_int_equal(wire.fd, -1);
	assert_int_equal(wire_receive(&wire, &reply), 0);
	assert_int_equal(reply->status, 0);
	assert_int_equal(reply->n_fds, 1);
	assert_true(wire.fd >= 0);
	mempool__wire__reply__free_unpacked(reply, NULL);
	expect_replies(&wire, N / 2 + 3, N + 2);
	wire_close(&wire);
	house_close(&house);
}

/* ---- sessions ---- */

static uint32_t states(struct house *house, enum session_state wanted)
{
	struct session_row rows[16];
	uint32_t n_wanted = 0, n;
	bool more;

	n = sessions_list(&house->sessions, NULL, 0, 0, rows, N_ELEMENTS(rows), &more);
	for (uint32_t i = 0; i < n; i++) {
		n_wanted += rows[i].state == wanted;
		if (rows[i].pool)
			pool_unref(rows[i].pool);
	}
	return n_wanted;
}

/* We live, so a session whose connection is gone is away; goodbye ends it before it answers. */
static void test_connection_lost_is_away_and_goodbye_is_gone(void **state)
{
	Mempool__Wire__Goodbye goodbye = MEMPOOL__WIRE__GOODBYE__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(GOODBYE, goodbye, &goodbye);
	struct limits limits = defaults();
	struct wire lost, polite, other;
	struct house house;

	(void)state;
	house_open(&house, &limits);
	lost = house_connect(&house);
	polite = house_connect(&house);
	other = house_connect(&house);
	assert_int_equal(wire_hello(&lost), 0);
	assert_int_equal(wire_hello(&polite), 0);
	assert_int_equal(wire_hello(&other), 0);
	assert_int_equal(states(&house, SESSION_ACTIVE), 3);
	wire_close(&lost);
	while (!states(&house, SESSION_AWAY)) /* ctest bounds it */
		assert_int_equal(ping(&other), 0);
	assert_int_equal(states(&house, SESSION_ACTIVE), 2);
	assert_int_equal(wire_ask(&polite, &request, NULL), 0);
	assert_int_equal(states(&house, SESSION_ACTIVE), 1);
	assert_int_equal(wire_last_word(&polite), 0);
	wire_close(&polite);
	wire_close(&other);
	house_close(&house);
}

static void set_workers(struct house *house, unsigned n)
{
	pthread_mutex_lock(&house->workers.mutex);
	house->workers.n = n;
	pthread_mutex_unlock(&house->workers.mutex);
}

static bool is_somebody_waiting(struct house *house)
{
	bool is;

	pthread_mutex_lock(&house->workers.mutex);
	is = house->workers.waiting;
	pthread_mutex_unlock(&house->workers.mutex);
	return is;
}

/* A job that has no turn yet holds up neither who resumes its session nor a stop, and is not executed. */
static void test_connection_lost_takes_its_waiting_job_along(void **state)
{
	Mempool__Wire__CreatePool message = MEMPOOL__WIRE__CREATE_POOL__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(CREATE_POOL, create_pool, &message), again = request;
	struct limits limits = defaults();
	struct house house;
	struct wire wire, next;
	struct session *session;
	uint8_t token[DIRECTORY_TOKEN_BYTES];
	struct pool *pool;

	(void)state;
	message.has_size = message.has_name = 1;
	message.size = 65536;
	message.name = (ProtobufCBinaryData){1, (uint8_t *)"p"};
	house_open(&house, &limits);
	wire = house_connect(&house);
	assert_int_equal(wire_hello(&wire), 0);
	session = sessions_first(&house.sessions);
	memcpy(token, session->token, sizeof(token));
	set_workers(&house, 0);
	assert_int_equal(wire_send(&wire, &request), 0);
	while (!is_somebody_waiting(&house))
		sched_yield();
	next = house_connect(&house);
	assert_int_equal(wire_resume(&next, session->identity.session, token, NULL), 0);
	assert_false(is_somebody_waiting(&house));
	assert_int_equal(wire_last_word(&wire), 0);
	assert_int_equal(registry_find(house.services.registry, "p", 1, &pool), REGISTRY_E_NO_POOL);
	assert_int_equal(wire_send(&next, &again), 0); /* and waits in its turn, until the stop */
	while (!is_somebody_waiting(&house))
		sched_yield();
	set_workers(&house, 1); /* for the session's end; nothing looks at the job again */
	wire_close(&wire);
	house_close(&house);
	wire_close(&next);
}

static void test_connection_loop_starts_and_stops_with_clients(void **state)
{
	struct limits limits = defaults();
	struct wire wires[4];
	struct house house;

	(void)state;
	for (int round = 0; round < 100; round++) {
		house_open(&house, &limits);
		for (size_t i = 0; i < N_ELEMENTS(wires); i++) {
			wires[i] = house_connect(&house);
			if (i)
				assert_int_equal(wire_hello(&wires[i]), 0);
			if (i == 1)
				ask_info(&wires[i]);
			if (i == 2)
				send_length(&wires[i], 100);
		}
		house_close(&house);
		for (size_t i = 0; i < N_ELEMENTS(wires); i++)
			wire_close(&wires[i]);
	}
}

static void test_connection_takes_new_limits(void **state)
{
	struct limits limits = defaults();
	struct house house;
	struct wire wire;

	(void)state;
	house_open(&house, &limits);
	wire = house_connect(&house);
	assert_int_equal(wire_hello(&wire), 0);
	limits.request_frame = 1024;
	assert_int_equal(loop_set_limits(&house.loop, &limits), 0);
	assert_int_equal(ping(&wire), 0); /* posted before: it has arrived by the time of the answer, or of the next */
	assert_int_equal(ping(&wire), 0);
	send_length(&wire, 1025);
	assert_int_equal(wire_last_word(&wire), -EMSGSIZE);
	wire_close(&wire);
	house_close(&house);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connection_takes_a_frame_byte_by_byte),
		cmocka_unit_test(test_connection_takes_more_than_a_turn_in_order),
		cmocka_unit_test(test_connection_turn_ends_when_its_time_is_up),
		cmocka_unit_test(test_connection_many_of_a_user_share_its_time),
		cmocka_unit_test(test_connection_lengths_end_at_the_limit),
		cmocka_unit_test(test_connection_deadlines),
		cmocka_unit_test(test_connection_late_reader_gets_all_in_order),
		cmocka_unit_test(test_connection_lost_is_away_and_goodbye_is_gone),
		cmocka_unit_test(test_connection_lost_takes_its_waiting_job_along),
		cmocka_unit_test(test_connection_loop_starts_and_stops_with_clients),
		cmocka_unit_test(test_connection_takes_new_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
