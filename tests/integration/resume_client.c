// SPDX-License-Identifier: MIT
/* resume_client - see there */
#include "tests/integration/resume_client.h"

#include <string.h>

#include "tests/lib/test.h"

/* ---- coming and going ---- */

static void forget_reply(struct client *client)
{
	if (client->reply)
		mempool__wire__reply__free_unpacked(client->reply, NULL);
	client->reply = NULL;
}

void client_begin(struct client *client, const struct daemon *d)
{
	Mempool__Wire__Hello hello = MEMPOOL__WIRE__HELLO__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(HELLO, hello, &hello);
	Mempool__Wire__Reply *reply;

	*client = (struct client){.d = d, .wire = WIRE_NULL, .last_id = 1};
	hello.has_version_min = hello.has_version_max = 1;
	hello.version_min = hello.version_max = 1;
	assert_int_equal(wire_open(&client->wire, d->socket), 0);
	assert_int_equal(wire_ask(&client->wire, &request, &reply), 0);
	assert_int_equal(reply->hello->token.len, 16);
	assert_false(reply->hello->has_resumed);
	memcpy(client->token, reply->hello->token.data, 16);
	client->session = reply->hello->session;
	mempool__wire__reply__free_unpacked(reply, NULL);
}

int client_resume(struct client *client)
{
	Mempool__Wire__Reply *reply = NULL;
	int r;

	wire_close(&client->wire);
	assert_int_equal(wire_open(&client->wire, client->d->socket), 0);
	client->wire.last_id = 1000000; /* of a Hello that resumes, the id does not count */
	r = wire_resume(&client->wire, client->session, client->token, &reply);
	if (!r) {
		assert_int_equal(reply->hello->session, client->session);
		assert_true(reply->hello->resumed);
		assert_false(reply->hello->has_token);
	}
	if (reply)
		mempool__wire__reply__free_unpacked(reply, NULL);
	return r;
}

int ask_as(struct client *client, Mempool__Wire__Request *request, uint64_t id)
{
	forget_reply(client);
	request->has_id = 1;
	request->id = id;
	return wire_ask(&client->wire, request, &client->reply);
}

int ask(struct client *client, Mempool__Wire__Request *request)
{
	return ask_as(client, request, ++client->last_id);
}

void client_end(struct client *client)
{
	Mempool__Wire__Goodbye goodbye = MEMPOOL__WIRE__GOODBYE__INIT;
	Mempool__Wire__Request request = WIRE_REQUEST(GOODBYE, goodbye, &goodbye);

	assert_int_equal(ask(client, &request), 0);
	forget_reply(client);
	wire_close(&client->wire);
}

/* ---- requests ---- */

uint64_t offset_of(const struct client *client)
{
	assert_non_null(client->reply->block);
	return client->reply->block->offset;
}

uint64_t allocate(struct client *client, uint64_t pool, uint64_t size)
{
	assert_int_equal(ASK(client, ALLOC, alloc, Alloc, alloc, HAS(pool, pool), HAS(size, size)), 0);
	return offset_of(client);
}

int release(struct client *client, uint64_t pool, uint64_t offset)
{
	return ASK(client, FREE, free, Free, free, HAS(pool, pool), HAS(offset, offset));
}

uint64_t n_blocks(struct client *client, uint64_t pool)
{
	assert_int_equal(ASK(client, STATS, stats, Stats, stats, HAS(pool, pool)), 0);
	return client->reply->stats->allocations;
}

void expect_sound(struct client *client, uint64_t pool)
{
	assert_int_equal(ASK(client, CHECK, check, Check, check, HAS(pool, pool)), 0);
	assert_int_equal(client->reply->check->n_faults, 0);
}

uint64_t create(struct client *client, const char *name)
{
	assert_int_equal(ASK(client, CREATE_POOL, create_pool, CreatePool, create_pool,
			     HAS(name, ((ProtobufCBinaryData){strlen(name), (uint8_t *)(uintptr_t)name})),
			     HAS(size, 1 << 20), HAS(max_size, 4 << 20)),
			 0);
	return client->reply->pool->info->pool;
}
