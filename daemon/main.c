// SPDX-License-Identifier: MIT
/*
 * main - mempoold: options and configuration in, a server out, until a signal says stop
 *
 * Exit codes: 0 stopped by a signal and all cleaned up; 2 called or configured wrongly; 1 everything else. Each but 0 has
 * its sentence on stderr.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <mempool/mempool.h>

#include "config.h"
#include "instance.h"
#include "offline.h"
#include "options.h"
#include "server/log.h"
#include "server/server.h"
#include "server/workers.h"

struct daemon {
	struct options options;
	struct config config;
	char socket_path[INSTANCE_SOCKET_BYTES];
	char instance[INSTANCE_NAME_MAX + 1];
};

static void daemon_deinitp(struct daemon *daemon)
{
	config_deinit(&daemon->config);
}

static void server_freep(struct server **serverp)
{
	*serverp = server_free(*serverp);
}

static struct server_config server_config_of(const struct daemon *daemon)
{
	return (struct server_config){
		.socket_path = daemon->socket_path,
		.instance = daemon->instance,
		.n_loops = daemon->options.n_loops,
		.ephemeral = daemon->options.ephemeral,
		.limits = daemon->config.limits,
		.pools = daemon->config.pools,
		.n_pools = daemon->config.n_pools,
	};
}

/* Everything that can be wrong before anything is touched. */
static int configure(struct daemon *daemon)
{
	const struct instance_places places = {
		.option = daemon->options.socket_path,
		.environment = getenv("MEMPOOL_SOCKET"),
		.runtime_dir = getenv("XDG_RUNTIME_DIR"),
		.system_dir = "/run/mempoold",
	};
	char why[512];

	config_default(&daemon->config);
	if (daemon->options.config_path &&
	    config_load(&daemon->config, daemon->options.config_path, why, sizeof(why))) {
		log_line(LOG_LEVEL_ERROR, "%s", why);
		return -EINVAL;
	}
	if (instance_choose_socket(&places, daemon->socket_path, why, sizeof(why))) {
		log_line(LOG_LEVEL_ERROR, "%s", why);
		return -EINVAL;
	}
	if (daemon->options.instance)
		strcpy(daemon->instance, daemon->options.instance); /* fits: options_parse() checked it */
	else
		instance_name_from_socket(daemon->socket_path, daemon->instance);
	return 0;
}

/* A session costs up to three descriptors (socket, pidfd, liveness object), a pool two: take what the system allows. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		log_line(LOG_LEVEL_WARNING, "cannot raise the limit of open files: %s", strerror(errno));
}

static void reload_cb(void *arg, struct server *server)
{
	struct daemon *daemon = arg;
	struct server_config server_config;
	struct config config, old = daemon->config;
	char why[512];

	if (!daemon->options.config_path) {
		log_line(LOG_LEVEL_INFO, "SIGHUP: there is no --config to read again");
		return;
	}
	if (config_load(&config, daemon->options.config_path, why, sizeof(why))) {
		log_line(LOG_LEVEL_ERROR, "%s; the old configuration stays", why);
		return;
	}
	daemon->config = config;
	server_config = server_config_of(daemon);
	server_set_config(server, &server_config);
	config_deinit(&old); /* nobody looks at it any more */
	log_line(LOG_LEVEL_INFO, "read %s again", daemon->options.config_path);
}

static int serve(struct daemon *daemon)
{
	struct server_config config = server_config_of(daemon);
	CLEANUP(server_freep) struct server *server = NULL;
	int r = server_new(&server, &config);

	if (r)
		return r; /* and it said why */
	log_line(LOG_LEVEL_INFO, "mempoold " MEMPOOL_VERSION " is ready");
	r = server_run(server, reload_cb, daemon);
	if (r)
		log_line(LOG_LEVEL_ERROR, "stopped by an error: %s", strerror(-r));
	return r;
}

int main(int argc, char *argv[])
{
	CLEANUP(daemon_deinitp) struct daemon daemon = {0};

	options_parse(&daemon.options, argc, argv);
	log_open(daemon.options.log_level);
	if (daemon.options.offline && daemon.options.instance)
		return offline_run(daemon.options.offline, daemon.options.instance, daemon.options.pool);
	if (configure(&daemon))
		return OPTIONS_EXIT;
	if (daemon.options.offline)
		return offline_run(daemon.options.offline, daemon.instance, daemon.options.pool);
	raise_descriptor_limit();
	workers_set_up();
	return serve(&daemon) ? EXIT_FAILURE : EXIT_SUCCESS;
}
