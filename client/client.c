// SPDX-License-Identifier: MIT
/*
 * Happy path: connect, Hello, take the liveness lock, say so. Failures: whatever was made is let go of, in reverse order.
 * On close: new calls are refused, running ones of this process are waited for, then what is queued and Goodbye; the liveness lock is let
 * go of in any case, so that a daemon that could not be told sees that the session is over.
 */
#include "client/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/heaps.h"

#define PROTOCOL_VERSION   1u
#define TIMEOUT_DEFAULT_MS 10000
#define SYSTEM_SOCKET	   "/run/mempoold/mempoold.sock"

/* ---- the way in and out ---- */

static int enter(struct mempool_client *client, const char *asked)
{
	bool is_closed;

	if (!process_is(client->generation))
		return error_set(-ECHILD, "%s: the handle is the parent process's; connect anew after fork()", asked);
	pthread_mutex_lock(&client->mutex);
	is_closed = client->is_closed;
	client->n_running += !is_closed;
	pthread_mutex_unlock(&client->mutex);
	return is_closed ? error_set(-ENOTCONN, "%s: the client is disconnected", asked) : 0;
}

static void leave(struct mempool_client *client)
{
	pthread_mutex_lock(&client->mutex);
	if (!--client->n_running)
		pthread_cond_broadcast(&client->idle);
	pthread_mutex_unlock(&client->mutex);
}

static int explain(struct mempool_client *client, int r, const char *asked)
{
	char why[512];
	int lost = connection_lost(&client->connection, why, sizeof(why));

	if (lost && lost == r)
		return error_set(r, "%s: %s", asked, why);
	switch (r) {
	case -ETIMEDOUT:
		return error_set(r, "%s: the daemon did not answer in time; see mempool_set_timeout()", asked);
	case -ENOMEM:
		return error_set(r, "%s: this process is out of memory", asked);
	case -EMSGSIZE:
		return error_set(-E2BIG, "%s: the request is too long", asked);
	default:
		return error_set(
			-EHOSTDOWN,
			"%s: no daemon was there in time; start mempoold again and the session goes on, or see "
			"mempool_set_timeout()",
			asked);
	}
}

/* With the daemon's own sentence where there is one. */
static int refused(const Mempool__Wire__Reply *reply, const char *asked)
{
	int status = reply->status < 0 && reply->status > -4096 ? reply->status : -EPROTO;

	if (reply->message && *reply->message)
		return error_set(status, "%s", reply->message);
	return error_set(status, "%s: %s", asked, strerror(-status));
}

/* @r: what connection_call() returned */
static int judge(struct mempool_client *client, int r, const char *asked, struct call *call)
{
	if (r)
		return explain(client, r, asked);
	if (call->reply->status) {
		r = refused(call->reply, asked);
		call_deinit(call);
	}
	return r;
}

int client_call(struct mempool_client *client, Mempool__Wire__Request *request, uint64_t pool, const char *asked,
		struct call *call)
{
	int r = enter(client, asked);

	if (r)
		return r;
	r = judge(client, connection_call(&client->connection, request, pool, true, call), asked, call);
	leave(client);
	return r;
}

int client_do(struct mempool_client *client, Mempool__Wire__Request *request, uint64_t pool, const char *asked)
{
	struct call call;
	int r = client_call(client, request, pool, asked, &call);

	if (!r)
		call_deinit(&call);
	return r;
}

int client_do_each(struct mempool_client *client, unsigned n, Mempool__Wire__Request requests[], uint64_t pool,
		   const char *asked)
{
	struct call calls[CONNECTION_EACH_MAX];
	int results[CONNECTION_EACH_MAX];
	int r = enter(client, asked);

	if (r)
		return r;
	connection_call_each(&client->connection, n, requests, pool, calls, results);
	for (unsigned i = 0; i < n; i++) {
		if (!r)
			r = judge(client, results[i], asked, &calls[i]);
		call_deinit(&calls[i]);
	}
	leave(client);
	return r;
}

int client_free(struct mempool_client *client, Mempool__Wire__Request *request, uint64_t pool, bool *waitsp,
		const char *asked, struct call *call)
{
	int r = enter(client, asked);

	*call = (struct call){.fd = -1};
	if (r)
		return r;
	r = connection_call(&client->connection, request, pool, *waitsp, call);
	if (!r && call->reply->status)
		r = refused(call->reply, asked);
	else if (r == -ENOMEM)
		r = CLIENT_E_TOO_LONG;
	else if (client_is_silent(r))
		*waitsp = false, r = 0; /* queued */
	else if (r)
		r = explain(client, r, asked);
	leave(client);
	return r;
}

/* ---- structs that grow ---- */

/* A caller's struct of @size bytes into ours of @n_known: what we do not know must be zero. */
int import_struct(void *ours, size_t n_known, const void *theirs, size_t size, const char *asked)
{
	const uint8_t *bytes = theirs;

	if (size < sizeof(size_t))
		return error_set(-EINVAL, "%s: struct_size is not set", asked);
	for (size_t i = n_known; i < size; i++)
		if (bytes[i])
			return error_set(-E2BIG,
					 "%s: options that this library does not know; it is older than the caller",
					 asked);
	memset(ours, 0, n_known);
	memcpy(ours, theirs, size < n_known ? size : n_known);
	return 0;
}

/* ---- life ---- */

bool client_is_lost(struct mempool_client *client)
{
	char why[8];

	return connection_lost(&client->connection, why, sizeof(why)) != 0;
}

void client_ref(struct mempool_client *client)
{
	atomic_fetch_add_explicit(&client->n_refs, 1, memory_order_relaxed);
}

void client_unref(struct mempool_client *client)
{
	if (atomic_fetch_sub_explicit(&client->n_refs, 1, memory_order_acq_rel) != 1)
		return;
	connection_deinit(&client->connection, process_is(client->generation));
	if (client->liveness_fd >= 0)
		close(client->liveness_fd);   /* the session has ended; in a forked child: it never had the lock */
	if (process_is(client->generation)) { /* a thread of the parent's may wait on them */
		pthread_cond_destroy(&client->idle);
		pthread_mutex_destroy(&client->mutex);
	}
	free(client);
}

/* The first socket that answers, and its path. @tried: which ones did not, for the sentence */
static int find_daemon(const char *path, const char **foundp, char user_path[static 256], char *tried, size_t n_tried)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	int fd;

	if (!path || !*path)
		path = getenv("MEMPOOL_SOCKET");
	if (path && *path) {
		snprintf(tried, n_tried, "%s", path);
		*foundp = path;
		return stream_connect(path, true);
	}
	*tried = '\0';
	if (runtime && *runtime) {
		snprintf(user_path, 256, "%s/mempoold.sock", runtime);
		*foundp = user_path;
		fd = stream_connect(user_path, true);
		if (fd >= 0)
			return fd;
		snprintf(tried, n_tried, "%s and ", user_path);
	}
	snprintf(tried + strlen(tried), n_tried - strlen(tried), SYSTEM_SOCKET);
	*foundp = SYSTEM_SOCKET;
	return stream_connect(SYSTEM_SOCKET, true);
}

static int connect_failed(int error, const char *tried)
{
	if (error == -ENAMETOOLONG)
		return error_set(error, "connect: %s: the path is too long for a socket; use a shorter one", tried);
	if (error == -ECONNREFUSED || error == -ENOENT)
		return error_set(-ECONNREFUSED,
				 "connect: no daemon answers at %s; start mempoold, or name its socket by "
				 "MEMPOOL_SOCKET",
				 tried);
	return error_set(error, "connect: %s: %s", tried, strerror(-error));
}

static int say_liveness(struct mempool_client *client)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	Mempool__Wire__Liveness liveness = MEMPOOL__WIRE__LIVENESS__INIT;
	REQUEST(request, LIVENESS, liveness, liveness);

	if (fcntl(client->liveness_fd, F_SETLK, &lock))
		return 0; /* nobody else can have it: a file system without locks. The daemon has its other proof */
	return client_do(client, &request, 0, "connect: liveness");
}

/* For a daemon that could not be told: nobody holds the lock, so the session is over. One that was told does not look. */
static void unlock_liveness(const struct mempool_client *client)
{
	struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_len = 1};

	if (client->liveness_fd >= 0)
		(void)fcntl(client->liveness_fd, F_SETLK, &lock);
}

static int hello(struct mempool_client *client)
{
	Mempool__Wire__Hello hello = MEMPOOL__WIRE__HELLO__INIT;
	const Mempool__Wire__HelloReply *answer;
	struct call call;
	int r;
	REQUEST(request, HELLO, hello, hello);

	SET(hello, version_min, PROTOCOL_VERSION);
	SET(hello, version_max, PROTOCOL_VERSION);
	SET(hello, wants_liveness, 1);
	r = client_call(client, &request, 0, "connect: hello", &call);
	if (r)
		return r;
	answer = call.reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_HELLO ? call.reply->hello : NULL;
	if (!answer || answer->version != PROTOCOL_VERSION || !answer->session) {
		call_deinit(&call);
		return error_set(-EPROTO, "connect: the daemon speaks another protocol version");
	}
	client->session = answer->session;
	pthread_mutex_lock(&client->connection.mutex);
	connection_begin(&client->connection, answer);
	pthread_mutex_unlock(&client->connection.mutex);
	client->liveness_fd = call.fd;
	call.fd = -1;
	call_deinit(&call);
	return client->liveness_fd >= 0 ? say_liveness(client) : 0;
}

/* Its heaps hand out nothing any more: the daemon gives their numbers, and in time the same slots, to others. */
static void lost(void *arg)
{
	heaps_end(arg);
}

static int client_new(struct mempool_client **clientp, int fd, const char *path)
{
	struct mempool_client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return -ENOMEM;
	r = process_begin(&client->generation);
	if (!r)
		r = connection_init(&client->connection, fd, path);
	if (r) {
		free(client);
		return r;
	}
	client->liveness_fd = -1;
	client->connection.on_lost = lost;
	client->connection.on_lost_arg = client;
	atomic_init(&client->n_refs, 1);
	pthread_mutex_init(&client->mutex, NULL); /* cannot fail on Linux without attributes */
	pthread_cond_init(&client->idle, NULL);
	connection_set_timeout(&client->connection, TIMEOUT_DEFAULT_MS);
	*clientp = client;
	return 0;
}

int mempool_connect(struct mempool_client **out, const char *socket_path)
{
	struct mempool_client *client;
	char tried[512], user_path[256];
	const char *path;
	int fd, r;

	if (!out)
		return error_set(-EINVAL, "connect: no place for the result");
	fd = find_daemon(socket_path, &path, user_path, tried, sizeof(tried));
	if (fd < 0)
		return connect_failed(fd, tried);
	r = client_new(&client, fd, path);
	if (r) {
		close(fd);
		return error_set(r, "connect: this process is out of memory");
	}
	r = hello(client);
	if (r) {
		/* no Goodbye, which would wait for a silent daemon once more: a session without pool and lock ends with its connection */
		client_unref(client);
		/* it went while it was asked, or came back without a session that had not begun */
		return r == -EHOSTDOWN || r == -ESTALE ? connect_failed(-ECONNREFUSED, tried) : r;
	}
	*out = client;
	return 0;
}

void mempool_disconnect(struct mempool_client *client)
{
	if (!client)
		return;
	if (!process_is(client->generation)) { /* a forked child: only its own memory; nothing is said to the daemon */
		client_unref(client);
		return;
	}
	pthread_mutex_lock(&client->mutex);
	client->is_closed = true;
	pthread_mutex_unlock(&client->mutex);
	heaps_end(client); /* what is in them is the daemon's to reclaim, and nobody may be at it any more */
	pthread_mutex_lock(&client->mutex);
	while (client->n_running)
		pthread_cond_wait(&client->idle, &client->mutex);
	pthread_mutex_unlock(&client->mutex);
	connection_end(&client->connection);
	unlock_liveness(client);
	client_unref(client);
}

int mempool_set_timeout(struct mempool_client *client, int ms)
{
	CLIENT_CALL(client);

	if (!client || ms < -1)
		return error_set(-EINVAL, "set_timeout: no client, or less than -1 ms");
	if (!process_is(client->generation))
		return error_set(-ECHILD, "set_timeout: the handle is the parent process's");
	connection_set_timeout(&client->connection, ms);
	return 0;
}

uint64_t mempool_session(struct mempool_client *client)
{
	return client ? client->session : 0;
}
