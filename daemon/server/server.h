#pragma once
// SPDX-License-Identifier: MIT
/*
 * server - one daemon: the acceptor on the main loop, N event loops, the registry
 *
 * Knows how its parts are started and stopped, in which order; not what a request means (dispatch.h) nor where the
 * configuration came from (daemon/config.h).
 */
#include "pool/registry.h"
#include "server/limits.h"

struct server_config {
	const char *socket_path; /* absolute */
	const char *instance;
	unsigned n_loops; /* 1 or more */
	bool ephemeral;	  /* a stop keeps nothing */
	struct limits limits;
	const struct pool_options *pools; /* [n_pools], created at start, by the daemon's uid unless uid says otherwise */
	size_t n_pools;
};

struct server;

/**
 * server_new() - instance lock, registry, socket, configured pools, loops: all or nothing
 * Every failure has been logged as a sentence when this returns. Return: 0, -errno (-EADDRINUSE: instance in use)
 */
int server_new(struct server **serverp, const struct server_config *config) MUST_CHECK;

/**
 * server_run() - serve until SIGTERM or SIGINT; SIGHUP calls @reload(@arg), on this thread
 * Return: 0 after a clean stop
 */
int server_run(struct server *server, void (*reload)(void *arg, struct server *server), void *arg);

/** server_set_limits() - new limits and quotas, for what comes after; a configured pool that is not there yet is created */
void server_set_config(struct server *server, const struct server_config *config);

/** server_free() - closes connections, removes the socket; keeps sessions and pools, or ends and destroys them if ephemeral. Return: NULL */
struct server *server_free(struct server *server);
