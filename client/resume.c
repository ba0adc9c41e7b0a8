// SPDX-License-Identifier: MIT
/*
 * Happy path: connect to the socket that answered at first, show the session's id and token, and go on with the first request
 * that is not answered. Failures: nobody there, or too busy: again after a pause that doubles. A daemon that does not know the
 * session, or speaks no version that we do: the session is lost, with a sentence, and is not asked for again.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/connection.h"

#define PROTOCOL_VERSION 1u
#define PAUSE_FIRST_MS	 10u  /* simply picked: a daemon is back in service within a tenth of a second */
#define PAUSE_MAX_MS	 500u /* two tries a second cost nothing */

/* A stream that was of use is followed by another at once; one that was not, like a try that failed, after a longer pause. */
void resume_fell(struct connection *connection)
{
	connection->next_try_ms = now_ms() + connection->pause_ms;
	if (!connection->pause_ms)
		connection->pause_ms = PAUSE_FIRST_MS;
	else if (connection->pause_ms < PAUSE_MAX_MS)
		connection->pause_ms =
			2 * connection->pause_ms < PAUSE_MAX_MS ? 2 * connection->pause_ms : PAUSE_MAX_MS;
}

/* Its id was that of a request before, which is answered: ids rise on a stream. */
static bool say_hello(struct connection *connection)
{
	Mempool__Wire__Request request = MEMPOOL__WIRE__REQUEST__INIT;
	Mempool__Wire__Hello hello = MEMPOOL__WIRE__HELLO__INIT;
	uint8_t frame[128];
	size_t n;

	hello.has_version_min = hello.has_version_max = 1;
	hello.version_min = hello.version_max = PROTOCOL_VERSION;
	hello.has_resume_token = hello.has_resume_session = 1;
	hello.resume_token = (ProtobufCBinaryData){.data = connection->token, .len = sizeof(connection->token)};
	hello.resume_session = connection->session;
	request.op_case = MEMPOOL__WIRE__REQUEST__OP_HELLO;
	request.hello = &hello;
	request.has_id = 1;
	request.id = connection_acked(connection);
	n = mempool__wire__request__pack(&request, frame + FRAME_HEADER_BYTES);
	frame_put_header(frame, (uint32_t)n);
	n += FRAME_HEADER_BYTES;
	return stream_send(&connection->stream, frame, n) == (ssize_t)n; /* a new socket has room for it */
}

static void try(struct connection *connection)
{
	int fd;

	stream_close(&connection->stream);
	fd = stream_connect(connection->path, false);
	if (fd < 0) {
		resume_fell(connection);
		return;
	}
	stream_attach(&connection->stream, fd);
	stream_set_timeout(&connection->stream, connection->timeout_ms);
	connection_rewind(connection);
	connection->state = CONNECTION_GREETING;
	if (!say_hello(connection))
		connection_broke(connection);
}

void resume_drive(struct connection *connection, pthread_cond_t *cond, const struct deadline *deadline)
{
	struct deadline until = {.at_ms = connection->next_try_ms};

	if (connection->is_sending) {
		(void)connection_wait(connection, &connection->sender_left, deadline);
		return;
	}
	if (now_ms() >= connection->next_try_ms) {
		try(connection);
		return;
	}
	if (!deadline->is_never && deadline->at_ms < until.at_ms)
		until = *deadline;
	(void)connection_wait(connection, cond, &until);
}

/* ---- the answer ---- */

static void lose(struct connection *connection, int error, const char *why, const Mempool__Wire__Reply *reply)
{
	char text[sizeof(connection->lost_text)];

	snprintf(text, sizeof(text), "%s%s%s", why, reply->message && *reply->message ? ": " : "",
		 reply->message ? reply->message : "");
	connection_lose(connection, error, text);
}

static void resumed(struct connection *connection, const Mempool__Wire__Reply *reply)
{
	const Mempool__Wire__HelloReply *hello =
		reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_HELLO ? reply->hello : NULL;

	if (!hello || hello->version != PROTOCOL_VERSION) {
		lose(connection, -EPROTO,
		     "the daemon that runs now speaks another protocol version; start this program again with the "
		     "library "
		     "that came with it",
		     reply);
	} else if (!hello->resumed || hello->session != connection->session) {
		lose(connection, -ESTALE,
		     "the session is lost: the daemon that runs now cannot carry it on; connect anew", reply);
	} else {
		connection_begin(connection, hello);
		connection->n_resumes++;
		connection->state = CONNECTION_UP;
	}
}

void resume_answered(struct connection *connection, const Mempool__Wire__Reply *reply)
{
	switch (reply->status) {
	case 0:
		if (reply->id)
			resumed(connection, reply);
		else
			connection_broke(connection);
		return;
	case -ESTALE:
	case -EACCES:
		lose(connection, -ESTALE,
		     "the session is lost: the daemon was started anew without its pools (--ephemeral), or has ended "
		     "the "
		     "session; connect anew",
		     reply);
		return;
	case -EPROTO:
		lose(connection, -EPROTO,
		     "the daemon that runs now speaks another protocol version; start this program again with the "
		     "library "
		     "that came with it",
		     reply);
		return;
	default: /* too many connections, no memory: not for ever */
		connection_broke(connection);
	}
}
