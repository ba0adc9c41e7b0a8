#pragma once
// SPDX-License-Identifier: MIT
/*
 * resume_client - a client made of raw frames that remembers what it needs to come back
 *
 * Knows a session's token and the ids of its requests, so that a test may say a request again. Fails the cmocka test it runs in.
 */
#include <stdint.h>

#include "tests/lib/daemon.h"
#include "tests/lib/wire.h"

struct client {
	const struct daemon *d;
	struct wire wire;
	uint64_t session, last_id;
	uint8_t token[16];
	Mempool__Wire__Reply *reply; /* the last one, owned */
};

/** client_begin() - connect to @d, with a session of its own */
void client_begin(struct client *client, const struct daemon *d);
/** client_resume() - on a new connection. Return: status */
int client_resume(struct client *client) MUST_CHECK;
/** client_end() - say goodbye, and close */
void client_end(struct client *client);

/** ask_as() - with @id, again perhaps. Return: as wire_ask() */
int ask_as(struct client *client, Mempool__Wire__Request *request, uint64_t id) MUST_CHECK;
/** ask() - with the next id. Return: as wire_ask() */
int ask(struct client *client, Mempool__Wire__Request *request) MUST_CHECK;

#define HAS(field, value) .has_##field = 1, .field = (value)
#define TEXT(text)                                                                          \
	(ProtobufCBinaryData)                                                               \
	{                                                                                   \
		.len = sizeof(text) - 1, .data = (uint8_t *)(uintptr_t)(const char *)(text) \
	}
#define MESSAGE(Type, NAME, ...)                                                                   \
	&(Mempool__Wire__##Type)                                                                   \
	{                                                                                          \
		.base = PROTOBUF_C_MESSAGE_INIT(&mempool__wire__##NAME##__descriptor), __VA_ARGS__ \
	}
#define ASK(client, KIND, field, Type, NAME, ...) \
	ask(client, &WIRE_REQUEST(KIND, field, MESSAGE(Type, NAME, __VA_ARGS__)))

/** offset_of() - of the block in the last reply */
uint64_t offset_of(const struct client *client);
uint64_t allocate(struct client *client, uint64_t pool, uint64_t size);
/** release() - Return: status */
int release(struct client *client, uint64_t pool, uint64_t offset) MUST_CHECK;
uint64_t n_blocks(struct client *client, uint64_t pool);
/** expect_sound() - the daemon's check finds nothing */
void expect_sound(struct client *client, uint64_t pool);
/** create() - 1 MiB that may grow to 4. Return: its id */
uint64_t create(struct client *client, const char *name);
