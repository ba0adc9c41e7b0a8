// SPDX-License-Identifier: MIT
/* From bytes to a request, and what ends a connection: each refusal, without a socket. */
#include <errno.h>

#include "dispatch_world.h"

static void test_dispatch_wants_hello_first(void **state)
{
	struct client client = client_open(*state, 0);

	assert_int_equal(SAY(&client, PING, ping, Ping), -EINVAL);
	assert_says(&client, "Hello");
	assert_int_equal(client.result, 0); /* a refusal is an answer */
	assert_int_equal(SAY(&client, HELLO, hello, Hello), -EINVAL);
	assert_int_equal(SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 9)), 0);
	assert_int_equal(client.reply->hello->version, 1);
	assert_int_equal(client.reply->hello->session, client.peer.session->identity.session);
	assert_int_equal(client.reply->hello->max_request_bytes, 65536);
	assert_int_equal(client.reply->hello->max_batch, DISPATCH_BATCH_MAX);
	assert_int_equal(SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1)), -EINVAL);
	assert_int_equal(SAY(&client, PING, ping, Ping), 0);
	client_close(&client);
}

/* However many the daemon takes at once: as many as it can answer again. */
static void test_dispatch_hello_tells_how_many_may_be_in_flight(void **state)
{
	static const uint64_t limits[][2] = {{5, 5}, {127, 127}, {128, 128}, {129, 128}, {65536, 128}};
	struct bench *bench = *state;

	for (size_t i = 0; i < N_ELEMENTS(limits); i++) {
		struct client client;

		bench->limits.requests_in_flight = limits[i][0];
		client = client_greet(bench, 0);
		assert_int_equal(client.reply->hello->max_in_flight, limits[i][1]);
		client_close(&client);
	}
}

/* While it stops, a session that it has put by for the next daemon is none that has ended. */
static void test_dispatch_resume_while_stopping_is_for_the_next_daemon(void **state)
{
	struct bench *bench = *state;
	struct client client = client_open(bench, 0);

	for (int stops = 0; stops < 2; stops++) {
		bench->services.is_stopping = stops;
		assert_int_equal(SAY(&client, HELLO, hello, Hello, SET(version_min, 1), SET(version_max, 1),
				     SET(resume_session, 77), SET(resume_token, BYTES("0123456789abcdef"))),
				 stops ? -EAGAIN : -ESTALE);
		assert_int_equal(client.result, DISPATCH_E_CLOSE);
	}
	assert_null(client.peer.session);
	client_close(&client);
}

static void test_dispatch_other_version_is_closed(void **state)
{
	struct client client = client_open(*state, 0);

	assert_int_equal(SAY(&client, HELLO, hello, Hello, SET(version_min, 2), SET(version_max, 9)), -EPROTO);
	assert_int_equal(client.result, DISPATCH_E_CLOSE);
	assert_null(client.peer.session);
	assert_int_equal(SAY(&client, HELLO, hello, Hello, SET(version_min, 0), SET(version_max, 0)), -EPROTO);
	client_close(&client);
}

static void test_dispatch_bytes_that_are_no_request_are_closed(void **state)
{
	struct client client = client_greet(*state, 0);

	assert_int_equal(say_bytes(&client, (const uint8_t *)"\xff\xff\xff", 3), -EBADMSG);
	assert_int_equal(client.result, DISPATCH_E_CLOSE);
	assert_int_equal(client.reply->id, 0);
	client_close(&client);
}

static void test_dispatch_ids_rise(void **state)
{
	struct client client = client_greet(*state, 0);
	Mempool__Wire__Ping ping = MEMPOOL__WIRE__PING__INIT;
	Mempool__Wire__Request request = MEMPOOL__WIRE__REQUEST__INIT;

	request.op_case = MEMPOOL__WIRE__REQUEST__OP_PING;
	request.ping = &ping;
	request.has_id = 1;
	request.id = 50;
	assert_int_equal(say(&client, &request), 0);
	assert_int_equal(client.reply->id, 50);
	assert_int_equal(say(&client, &request), -EINVAL); /* again */
	assert_int_equal(client.result, DISPATCH_E_CLOSE);
	assert_int_equal(client.reply->id, 0);
	request.id = 0;
	assert_int_equal(say(&client, &request), -EINVAL);
	assert_int_equal(client.result, DISPATCH_E_CLOSE);
	client_close(&client);
}

static void test_dispatch_unknown_kind_is_refused(void **state)
{
	struct client client = client_greet(*state, 0);
	static const uint8_t none[] = {0x08, 90}, future[] = {0x08, 91, 0xc2, 0x3e, 0x00}; /* field 1000 */

	assert_int_equal(say_bytes(&client, none, sizeof(none)), -EINVAL);
	assert_int_equal(client.result, 0);
	assert_int_equal(say_bytes(&client, future, sizeof(future)), -EINVAL);
	assert_int_equal(client.reply->id, 91);
	client_close(&client);
}

static void test_dispatch_unknown_fields_end_at_the_limit(void **state)
{
	struct client client = client_greet(*state, 0);
	uint8_t message[256];

	for (unsigned n = DISPATCH_UNKNOWN_MAX - 1; n <= DISPATCH_UNKNOWN_MAX + 1; n++) {
		size_t at = 0;

		message[at++] = 0x08;
		message[at++] = (uint8_t)(60 + n);
		memcpy(message + at, "\xc2\x03\x00", 3); /* Ping */
		for (at += 3; at < 5 + 3 * n; at += 3)
			memcpy(message + at, "\xf8\x7f\x01", 3);
		assert_int_equal(say_bytes(&client, message, at), n > DISPATCH_UNKNOWN_MAX ? -EINVAL : 0);
		assert_int_equal(client.result, 0);
	}
	client_close(&client);
}

static void test_dispatch_request_beyond_the_arena_is_closed(void **state)
{
	struct bench *bench = *state;
	struct client client = client_greet(bench, 0);

	arena_deinit(&bench->arena);
	assert_int_equal(arena_init(&bench->arena, 4096, 1), 0);
	assert_int_equal(SAY(&client, PING, ping, Ping), -E2BIG);
	assert_int_equal(client.result, DISPATCH_E_CLOSE);
	client_close(&client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(wants_hello_first),
		TEST(hello_tells_how_many_may_be_in_flight),
		TEST(resume_while_stopping_is_for_the_next_daemon),
		TEST(other_version_is_closed),
		TEST(bytes_that_are_no_request_are_closed),
		TEST(ids_rise),
		TEST(unknown_kind_is_refused),
		TEST(unknown_fields_end_at_the_limit),
		TEST(request_beyond_the_arena_is_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
