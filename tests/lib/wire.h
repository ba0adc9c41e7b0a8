#pragma once
// SPDX-License-Identifier: MIT
/*
 * wire - a client made of raw frames: what a test says to the daemon is exactly what it wants to say
 *
 * Knows frames, ids and descriptors; nothing of sessions. Blocks, but never longer than WIRE_PATIENCE_S.
 */
#include <stdint.h>

#include "proto/mempool.pb-c.h"
#include "proto/util.h"

#define WIRE_PATIENCE_S 20

struct wire {
	int socket; /* -1: closed */
	uint64_t last_id;
	int fd; /* the last descriptor that came, owned; -1: none */
	uint8_t *buffer;
	size_t n_have, n_room;
};

#define WIRE_NULL                      \
	{                              \
		.socket = -1, .fd = -1 \
	}

enum {
	WIRE_E_CLOSED = 1, /* the daemon closed the connection */
};

/** wire_open() - connect to @path. Return: 0, -errno */
int wire_open(struct wire *wire, const char *path) MUST_CHECK;
/** wire_close() - may run twice */
void wire_close(struct wire *wire);

/** wire_send_bytes() - as they are. Return: 0; WIRE_E_CLOSED; -ETIMEDOUT: the daemon does not read; -errno */
int wire_send_bytes(struct wire *wire, const void *data, size_t n_bytes) MUST_CHECK;
/** wire_send() - one frame; takes the next id unless @request has one */
int wire_send(struct wire *wire, Mempool__Wire__Request *request) MUST_CHECK;
/** wire_pack() - the frame that wire_send() would send, malloc'ed; NULL: no memory */
uint8_t *wire_pack(struct wire *wire, Mempool__Wire__Request *request, size_t *n_bytesp);

/**
 * wire_receive() - the next reply, to be freed by mempool__wire__reply__free_unpacked()
 * Return: 0; WIRE_E_CLOSED; -ETIMEDOUT; -EBADMSG: it is no reply; -errno
 */
int wire_receive(struct wire *wire, Mempool__Wire__Reply **replyp) MUST_CHECK;

/** wire_ask() - send and receive. Return: the reply's status (0 or negative); WIRE_E_CLOSED; @replyp may be NULL */
int wire_ask(struct wire *wire, Mempool__Wire__Request *request, Mempool__Wire__Reply **replyp) MUST_CHECK;

/** wire_last_word() - read until the end. Return: the status of a reply with id 0, if one came; 0: closed without; -ETIMEDOUT = open still */
int wire_last_word(struct wire *wire) MUST_CHECK;

/** wire_hello() - Return: as wire_ask() */
int wire_hello(struct wire *wire) MUST_CHECK;

/** wire_resume() - Hello that carries on @session. Return: as wire_ask() */
int wire_resume(struct wire *wire, uint64_t session, const uint8_t token[static 16], Mempool__Wire__Reply **replyp)
	MUST_CHECK;

#define WIRE_REQUEST(kind, field, message)                                            \
	(Mempool__Wire__Request)                                                      \
	{                                                                             \
		.base = PROTOBUF_C_MESSAGE_INIT(&mempool__wire__request__descriptor), \
		.op_case = MEMPOOL__WIRE__REQUEST__OP_##kind, .field = (message)      \
	}
