// SPDX-License-Identifier: MIT
/*
 * Parts are started in the order of struct server's flags and stopped in the reverse one; server_free() stops what was
 * started, so that a start that failed half-way needs no ladder of its own.
 *
 * A start brings back what the last daemon left before the socket opens: pools first, then sessions, which are dealt to the loops
 * before the first connection is.
 *
 * On close: the acceptor first, so that nobody comes in; the loops, each of which answers running jobs, flushes, closes
 * its connections and lets go of its sessions; then nobody looks at a pool any more, and the registry may go. All of it stays in
 * shared memory for the next daemon, unless this one is ephemeral: then sessions are ended and pools destroyed.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/acceptor.h"
#include "server/decay.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/server.h"
#include "server/session.h"
#include "server/socket.h"
#include "server/status.h"
#include "server/watch.h"
#include "server/workers.h"

struct server {
	uv_loop_t uv; /* of the main thread */
	uv_signal_t sigterm, sigint, sighup;
	struct decay decay;
	struct acceptor acceptor;
	struct socket_listener listener;
	struct admission admission;
	struct workers workers;
	struct services services;
	struct sessions sessions;
	struct registry *registry;
	struct limits limits;
	char *instance, *socket_path;
	bool is_ephemeral;
	unsigned n_loops;
	struct loop *loops;		    /* [n_loops], of which n_started run */
	_Atomic uint32_t *loop_connections; /* [n_loops] */
	unsigned n_started;
	bool has_said_why; /* it cannot start */
	bool has_uv, has_workers, has_decay, has_signals, has_sessions, has_acceptor;
	bool is_serving; /* it started: from here on a stop may destroy what it found */
	void (*reload)(void *arg, struct server *server);
	void *reload_arg;
};

/* ---- signals ---- */

static void stop_cb(uv_signal_t *handle, int signal)
{
	struct server *server = handle->data;

	log_line(LOG_LEVEL_INFO, "%s: stopping", strsignal(signal));
	uv_stop(&server->uv);
}

static void reload_cb(uv_signal_t *handle, int signal)
{
	struct server *server = handle->data;

	(void)signal;
	if (server->reload)
		server->reload(server->reload_arg, server);
}

static int start_signals(struct server *server)
{
	int r;

	uv_signal_init(&server->uv, &server->sigterm);
	uv_signal_init(&server->uv, &server->sigint);
	uv_signal_init(&server->uv, &server->sighup);
	server->sigterm.data = server->sigint.data = server->sighup.data = server;
	server->has_signals = true;
	signal(SIGPIPE, SIG_IGN); /* a peer that is gone is an error of the write */
	signal(SIGXFSZ, SIG_IGN); /* and a file too large is one of the allocation */
	r = uv_signal_start(&server->sigterm, stop_cb, SIGTERM);
	r = r ? r : uv_signal_start(&server->sigint, stop_cb, SIGINT);
	return r ? r : uv_signal_start(&server->sighup, reload_cb, SIGHUP);
}

/* ---- start ---- */

static int start_uv(struct server *server)
{
	int r = uv_loop_init(&server->uv);

	if (r)
		return r;
	server->has_uv = true;
	r = workers_init(&server->workers);
	if (r)
		return r;
	server->has_workers = true;
	r = decay_open(&server->decay, &server->uv);
	server->has_decay = !r;
	return r;
}

static void tell(void *arg, const char *sentence)
{
	(void)arg;
	log_line(LOG_LEVEL_ERROR, "%s", sentence);
}

static void log_recovery(const struct server *server)
{
	const struct directory_recovery *recovery = registry_recovery(server->registry);

	if (recovery->n_pools || recovery->n_sessions || recovery->n_refused)
		log_line(LOG_LEVEL_INFO,
			 "brought back after a %s: %llu pool%s with %llu block%s, %llu byte%s, and %llu session%s, in "
			 "%llu.%03llu ms",
			 recovery->was_stopped ? "stop" : "kill", (unsigned long long)recovery->n_pools,
			 plural(recovery->n_pools), (unsigned long long)recovery->n_blocks, plural(recovery->n_blocks),
			 (unsigned long long)recovery->n_bytes, plural(recovery->n_bytes),
			 (unsigned long long)recovery->n_sessions, plural(recovery->n_sessions),
			 (unsigned long long)recovery->took_us / 1000, (unsigned long long)recovery->took_us % 1000);
}

static int start_registry(struct server *server)
{
	struct registry_config config = {
		.instance = server->instance,
		.budget_bytes = server->limits.total_bytes,
		.decay_ms = server->limits.decay_ms,
		.decay_wanted = decay_wanted,
		.decay_arg = &server->decay,
		.tell = tell,
	};
	int n_swept = 0;
	int r;

	memcpy(config.quota_limit, server->limits.quota, sizeof(config.quota_limit));
	config.quota_limit[QUOTA_CONNECTIONS] = server->limits.connections_per_uid;
	r = registry_open(&server->registry, &config, &n_swept);
	if (r) {
		log_line(LOG_LEVEL_ERROR, "instance %s (/dev/shm/mempool.%s) cannot start: %s%s%s", server->instance,
			 server->instance, status_of(r).wrong, *status_of(r).advice ? "; " : "", status_of(r).advice);
		server->has_said_why = true;
		return status_of(r).error;
	}
	log_recovery(server);
	if (n_swept)
		log_line(LOG_LEVEL_WARNING,
			 "removed %d shared memory objects that were being made or removed when a daemon of this "
			 "instance died",
			 n_swept);
	r = sessions_init(&server->sessions, server->registry);
	server->has_sessions = !r;
	server->services.registry = server->registry;
	return r ? r : sessions_recover(&server->sessions, server->instance);
}

static void create_pools(struct server *server, const struct pool_options pools[], size_t n_pools, int *rp)
{
	*rp = 0;
	for (size_t i = 0; i < n_pools; i++) {
		struct pool *pool;
		int r = registry_create(server->registry, pools + i, NULL, &pool);

		if (!r) {
			pool_unref(pool);
			log_line(LOG_LEVEL_INFO, "pool \"%.*s\" of %llu bytes created", (int)pools[i].n_name_bytes,
				 pools[i].name, (unsigned long long)pools[i].size);
		} else if (r != REGISTRY_E_NAME_TAKEN) {
			log_line(LOG_LEVEL_ERROR, "pool \"%.*s\" of %llu bytes cannot be created: %s; %s",
				 (int)pools[i].n_name_bytes, pools[i].name, (unsigned long long)pools[i].size,
				 status_of(r).wrong, status_of(r).advice);
			*rp = status_of(r).error;
		}
	}
}

static int start_socket(struct server *server)
{
	int r = socket_listen(&server->listener, server->socket_path);

	if (r)
		log_line(LOG_LEVEL_ERROR, "cannot listen on %s: %s; %s", server->socket_path, strerrordesc_np(-r),
			 r == -EADDRINUSE     ? "another daemon does, or the file is no socket: choose another --socket"
			 : r == -ENAMETOOLONG ? "a socket's path has at most 107 bytes: choose a shorter --socket"
					      : "see that the directory exists and may be written to");
	return r;
}

static int start_loops(struct server *server)
{
	int r = 0;

	for (unsigned i = 0; i < server->n_loops && !r; i++) {
		struct loop *loop = server->loops + i;

		loop->index = i;
		loop->services = &server->services;
		loop->admission = &server->admission;
		loop->workers = &server->workers;
		loop->n_connections = server->loop_connections + i;
		loop->room = acceptor_room;
		loop->room_arg = &server->acceptor;
		loop->limits = server->limits;
		r = loop_start(loop);
		server->n_started += !r;
	}
	return r;
}

/* Each has a home before the first connection can ask for it. */
static int deal_sessions(struct server *server)
{
	struct session *session, *next;
	unsigned i = 0;
	int r = 0;

	for (session = sessions_first(&server->sessions); session && !r; session = next) {
		next = sessions_next(&server->sessions, session); /* the loop may end this one at once */
		r = watch_adopt(server->loops + i++ % server->n_loops, session);
	}
	return r;
}

static int start_acceptor(struct server *server)
{
	int r;

	server->acceptor.loops = server->loops;
	server->acceptor.n_loops = server->n_loops;
	server->acceptor.admission = &server->admission;
	server->acceptor.quota = registry_quota(server->registry);
	server->acceptor.limits = &server->limits;
	r = acceptor_open(&server->acceptor, &server->uv, server->listener.fd);
	server->has_acceptor = !r;
	return r;
}

static int start_threads(struct server *server)
{
	sigset_t before;
	int r;

	workers_mask_signals(&before);
	decay_start(&server->decay, server->registry);
	r = start_loops(server);
	r = r ? r : deal_sessions(server);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

static int start(struct server *server, const struct server_config *config)
{
	int r;

	r = start_uv(server);
	r = r ? r : start_registry(server);
	if (!r)
		create_pools(server, config->pools, config->n_pools, &r);
	r = r ? r : start_socket(server);
	r = r ? r : start_signals(server);
	r = r ? r : start_threads(server);
	return r ? r : start_acceptor(server);
}

static void fill_services(struct server *server)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	server->services = (struct services){
		.sessions = &server->sessions,
		.instance = server->instance,
		.started_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
		.loop_connections = server->loop_connections,
		.n_loops = server->n_loops,
		.is_ephemeral = server->is_ephemeral,
	};
}

int server_new(struct server **serverp, const struct server_config *config)
{
	struct server *server = calloc(1, sizeof(*server));
	int r = -ENOMEM;

	assert(config->n_loops);
	if (!server) {
		log_line(LOG_LEVEL_ERROR, "out of memory at start");
		return -ENOMEM;
	}
	server->listener.fd = -1;
	server->acceptor.spare_fd = -1;
	server->limits = config->limits;
	server->is_ephemeral = config->ephemeral;
	server->n_loops = config->n_loops;
	server->loops = calloc(config->n_loops, sizeof(*server->loops));
	server->loop_connections = calloc(config->n_loops, sizeof(*server->loop_connections));
	server->instance = strdup(config->instance);
	server->socket_path = strdup(config->socket_path);
	if (server->loops && server->loop_connections && server->instance && server->socket_path) {
		fill_services(server);
		r = start(server, config);
	}
	if (r) {
		if (!server->has_said_why)
			log_line(LOG_LEVEL_ERROR, "the daemon cannot start: %s",
				 strerrordesc_np(-r) ?: "unknown error");
		server_free(server);
		return r;
	}
	server->is_serving = true;
	log_line(LOG_LEVEL_INFO, "instance %s serves %s with %u loop%s", server->instance, server->socket_path,
		 server->n_loops, plural(server->n_loops));
	*serverp = server;
	return 0;
}

int server_run(struct server *server, void (*reload)(void *arg, struct server *server), void *arg)
{
	server->reload = reload;
	server->reload_arg = arg;
	uv_run(&server->uv, UV_RUN_DEFAULT);
	return 0;
}

void server_set_config(struct server *server, const struct server_config *config)
{
	struct quota *quota = registry_quota(server->registry);
	int ignored;

	server->limits = config->limits;
	for (unsigned i = 0; i < QUOTA_KIND_N; i++)
		atomic_store_explicit(&quota->limit[i], config->limits.quota[i], memory_order_relaxed);
	atomic_store_explicit(&quota->limit[QUOTA_CONNECTIONS], config->limits.connections_per_uid,
			      memory_order_relaxed);
	for (unsigned i = 0; i < server->n_started; i++)
		if (loop_set_limits(server->loops + i, &config->limits))
			log_line(LOG_LEVEL_ERROR, "loop %u: no memory for the new limits: it keeps the old ones", i);
	create_pools(server, config->pools, config->n_pools, &ignored); /* each failure is in the log */
}

/* ---- stop ---- */

static void stop_loops(struct server *server)
{
	atomic_store(&server->services.is_stopping, true); /* before the first session is put by */
	for (unsigned i = 0; i < server->n_started; i++)
		loop_stop(server->loops + i);
	for (unsigned i = 0; i < server->n_started; i++)
		loop_join(server->loops + i);
	server->n_started = 0;
}

static void close_signals(struct server *server)
{
	uv_close((uv_handle_t *)&server->sigterm, NULL);
	uv_close((uv_handle_t *)&server->sigint, NULL);
	uv_close((uv_handle_t *)&server->sighup, NULL);
}

static void close_uv(struct server *server)
{
	int r;

	if (server->has_decay)
		decay_close(&server->decay);
	uv_run(&server->uv, UV_RUN_DEFAULT);
	r = uv_loop_close(&server->uv);
	assert(!r); /* EBUSY would be a handle that nobody closed */
	(void)r;
}

static void close_registry(struct server *server)
{
	struct directory_recovery kept;

	if (server->is_ephemeral && server->is_serving) {
		registry_close(server->registry); /* may want decay once more */
		return;
	}
	registry_figures(server->registry, &kept);
	if (server->is_serving && (kept.n_pools || kept.n_sessions))
		log_line(LOG_LEVEL_INFO,
			 "kept for the next start: %llu pool%s with %llu block%s, %llu byte%s, and %llu session%s",
			 (unsigned long long)kept.n_pools, plural(kept.n_pools), (unsigned long long)kept.n_blocks,
			 plural(kept.n_blocks), (unsigned long long)kept.n_bytes, plural(kept.n_bytes),
			 (unsigned long long)kept.n_sessions, plural(kept.n_sessions));
	registry_keep(server->registry);
}

struct server *server_free(struct server *server)
{
	if (!server)
		return NULL;
	if (server->has_acceptor)
		acceptor_close(&server->acceptor);
	socket_close(&server->listener);
	if (!server->is_serving) /* a start that failed destroys nothing that it found */
		server->services.is_ephemeral = false;
	stop_loops(server);
	if (server->has_workers)
		workers_deinit(&server->workers);
	if (server->has_sessions)
		sessions_deinit(&server->sessions);
	if (server->has_signals)
		close_signals(server);
	if (server->has_decay) {
		decay_stop(&server->decay);
		uv_run(&server->uv, UV_RUN_DEFAULT); /* its job needs the registry */
	}
	if (server->registry)
		close_registry(server);
	if (server->has_uv)
		close_uv(server);
	free(server->loop_connections);
	free(server->loops);
	free(server->instance);
	free(server->socket_path);
	free(server);
	return NULL;
}
