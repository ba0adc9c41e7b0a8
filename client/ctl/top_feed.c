// SPDX-License-Identifier: MIT
/*
 * Happy path: all pools, their figures, the sessions, the map that is wished for; then wait for the interval, or a wish.
 * Failures:   a pool that goes in between is left out. A daemon that is gone or silent: the look says so and has the pools of the
 *             one before; each later look connects anew, until one succeeds.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "ctl/command.h"
#include "ctl/top_feed.h"

#define N_SESSIONS_MAX 64 /* that a screen may have room for */

struct looking { /* what the thread keeps between two looks */
	struct top_feed *feed;
	struct top_look *before; /* for rates; its map is not kept */
	double before_s;
};

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct top_look *top_look_free(struct top_look *look)
{
	if (look) {
		free(look->pools);
		free(look->sessions);
		free(look->map);
	}
	free(look);
	return NULL;
}

static void *must(void *memory)
{
	if (!memory)
		error_no_memory();
	return memory;
}

/* ---- one look ---- */

static void find_rates(struct top_pool *pool, const struct top_look *before, double seconds)
{
	for (size_t i = 0; before && i < before->n_pools; i++) {
		const struct top_pool *old = &before->pools[i];

		if (old->info.id != pool->info.id || !old->is_open || seconds <= 0)
			continue;
		pool->rates.known = true;
		pool->rates.alloc = (double)(pool->stats.alloc_total - old->stats.alloc_total) / seconds;
		pool->rates.free = (double)(pool->stats.free_total - old->stats.free_total) / seconds;
	}
}

/* look_at_pool() - Return: 0; a negative errno if the daemon, not the pool, is why there is nothing to see */
static int look_at_pool(struct top_feed *feed, struct top_look *look, const struct mempool_pool_info *info,
			const struct top_wish *wish)
{
	struct top_pool found = {.info = *info};
	struct mempool_pool *pool;
	size_t n_bytes;
	FILE *out;
	int r = mempool_pool_open(feed->client, info->name, &pool);

	if (!r) {
		r = mempool_pool_stats(pool, &found.stats);
		found.is_open = !r;
		found.stats.sessions -= found.stats.sessions != 0; /* our own */
		if (!r && wish->map_id == info->id) {
			out = must(open_memstream(&look->map, &n_bytes));
			r = mempool_pool_visualize(pool, out, &wish->map);
			if (fclose(out))
				error_no_memory();
			look->map_id = info->id;
		}
		mempool_pool_close(pool);
	}
	if (error_exit_code(r) == EXIT_NO_DAEMON || error_exit_code(r) == EXIT_TIMED_OUT)
		return r;
	if (r != -ENOENT && r != -ESTALE) /* else destroyed in between */
		look->pools[look->n_pools++] = found;
	return 0;
}

struct sessions {
	struct top_look *look;
	size_t n_room;
	uint64_t last; /* id: they come by it, once for each pool */
	uint64_t own;  /* which is nobody's that people ask for */
};

static int by_bytes(const void *a, const void *b)
{
	const struct mempool_session_info *x = a, *y = b;

	return x->bytes > y->bytes ? -1 : x->bytes < y->bytes;
}

static int visit_session(void *arg, const struct mempool_session_info *info)
{
	struct sessions *sessions = arg;
	struct top_look *look = sessions->look;

	if (info->session == sessions->own)
		return 0;
	look->n_all_sessions += info->session != sessions->last;
	sessions->last = info->session;
	if (!info->blocks)
		return 0;
	if (look->n_sessions == sessions->n_room) {
		sessions->n_room = sessions->n_room ? 2 * sessions->n_room : 64;
		look->sessions = must(reallocarray(look->sessions, sessions->n_room, sizeof(*look->sessions)));
	}
	look->sessions[look->n_sessions++] = *info;
	return 0;
}

static int look_at_all(struct top_feed *feed, struct top_look *look, const struct top_wish *wish)
{
	CLEANUP(pool_list_deinit) struct pool_list list = {0};
	struct ctl ctl = {.client = feed->client};
	struct sessions sessions = {.look = look, .own = mempool_session(feed->client)};
	int r;

	look->daemon.struct_size = sizeof(look->daemon);
	r = mempool_daemon_info(feed->client, &look->daemon);
	if (!r)
		r = pool_list_read(&ctl, &list);
	if (!r)
		look->pools = must(calloc(list.n ? list.n : 1, sizeof(*look->pools)));
	for (size_t i = 0; !r && i < list.n; i++)
		r = look_at_pool(feed, look, &list.infos[i], wish);
	if (!r)
		r = mempool_session_list(feed->client, NULL, visit_session, &sessions);
	if (look->n_sessions)
		qsort(look->sessions, look->n_sessions, sizeof(*look->sessions), by_bytes);
	if (look->n_sessions > N_SESSIONS_MAX)
		look->n_sessions = N_SESSIONS_MAX;
	return r;
}

static int connect_anew(struct top_feed *feed)
{
	int r = feed->client ? 0 : mempool_connect(&feed->client, feed->socket_path);

	return r ? r : mempool_set_timeout(feed->client, feed->timeout_ms);
}

/* look_copy() - of pools and sessions: what a look without a daemon still has to show */
static struct top_look *look_copy(const struct top_look *from)
{
	struct top_look *look = must(calloc(1, sizeof(*look)));

	if (!from)
		return look;
	*look = *from;
	look->map = NULL;
	look->pools = must(malloc((from->n_pools + 1) * sizeof(*look->pools)));
	look->sessions = must(malloc((from->n_sessions + 1) * sizeof(*look->sessions)));
	if (from->n_pools)
		memcpy(look->pools, from->pools, from->n_pools * sizeof(*look->pools));
	if (from->n_sessions)
		memcpy(look->sessions, from->sessions, from->n_sessions * sizeof(*look->sessions));
	return look;
}

static struct top_look *look_in_trouble(struct looking *looking, int r)
{
	struct top_look *look = look_copy(looking->before);

	look->is_connected = false;
	snprintf(look->trouble, sizeof(look->trouble), "%s", mempool_last_error());
	if (!look->trouble[0])
		snprintf(look->trouble, sizeof(look->trouble), "%s", strerror(-r));
	mempool_disconnect(looking->feed->client);
	looking->feed->client = NULL;
	return look;
}

static struct top_look *look_once(struct looking *looking, const struct top_wish *wish)
{
	struct top_look *look = must(calloc(1, sizeof(*look)));
	double now = now_s();
	int r = connect_anew(looking->feed);

	if (!r)
		r = look_at_all(looking->feed, look, wish);
	if (r) {
		top_look_free(look);
		return look_in_trouble(looking, r);
	}
	look->is_connected = true;
	for (size_t i = 0; i < look->n_pools; i++) {
		if (look->pools[i].is_open)
			find_rates(&look->pools[i], looking->before, now - looking->before_s);
	}
	top_look_free(looking->before);
	looking->before = look_copy(look);
	looking->before_s = now;
	return look;
}

/* ---- the thread ---- */

/* await_turn() - with the lock held; until the interval is over or somebody is in a hurry. Return: whether to go on */
static bool await_turn(struct top_feed *feed)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until); /* cannot fail */
	until.tv_sec += (time_t)feed->interval_s;
	until.tv_nsec += (long)((feed->interval_s - (double)(time_t)feed->interval_s) * 1e9);
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	while (!feed->is_hurried && !feed->is_ending) {
		if (pthread_cond_timedwait(&feed->changed, &feed->lock, &until))
			break;
	}
	feed->is_hurried = false;
	return !feed->is_ending;
}

static void *feed_main(void *arg)
{
	struct top_feed *feed = arg;
	struct looking looking = {.feed = feed};

	pthread_mutex_lock(&feed->lock);
	do {
		struct top_wish wish = feed->wish;
		struct top_look *look;
		ssize_t n;

		pthread_mutex_unlock(&feed->lock);
		look = look_once(&looking, &wish);
		pthread_mutex_lock(&feed->lock);
		top_look_free(feed->look);
		feed->look = look;
		n = write(feed->event_fd, &(uint64_t){1}, sizeof(uint64_t));
		(void)n; /* fails only if it was written 2^64 times */
	} while (await_turn(feed));
	pthread_mutex_unlock(&feed->lock);
	top_look_free(looking.before);
	mempool_disconnect(feed->client);
	return NULL;
}

int top_feed_start(struct top_feed *feed, const char *socket_path, struct mempool_client *client, double interval_s,
		   int timeout_ms)
{
	pthread_condattr_t attributes;
	int r;

	*feed = (struct top_feed){.socket_path = socket_path,
				  .client = client,
				  .interval_s = interval_s,
				  .timeout_ms = timeout_ms,
				  .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	if (feed->event_fd < 0)
		return -errno;
	pthread_mutex_init(&feed->lock, NULL); /* these cannot fail on Linux */
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&feed->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	r = pthread_create(&feed->thread, NULL, feed_main, feed);
	if (r)
		close(feed->event_fd);
	return -r;
}

void top_feed_wish(struct top_feed *feed, const struct top_wish *wish, bool now)
{
	pthread_mutex_lock(&feed->lock);
	feed->wish = *wish;
	if (now) {
		feed->is_hurried = true;
		pthread_cond_signal(&feed->changed);
	}
	pthread_mutex_unlock(&feed->lock);
}

struct top_look *top_feed_take(struct top_feed *feed)
{
	struct top_look *look;
	uint64_t n;
	ssize_t r = read(feed->event_fd, &n, sizeof(n));

	(void)r; /* nothing to read: then there is no look */
	pthread_mutex_lock(&feed->lock);
	look = feed->look;
	feed->look = NULL;
	pthread_mutex_unlock(&feed->lock);
	return look;
}

void top_feed_stop(struct top_feed *feed)
{
	struct timespec until;

	pthread_mutex_lock(&feed->lock);
	feed->is_ending = true;
	pthread_cond_signal(&feed->changed);
	pthread_mutex_unlock(&feed->lock);
	clock_gettime(CLOCK_REALTIME, &until); /* what timedjoin knows */
	until.tv_sec++;
	if (pthread_timedjoin_np(feed->thread, NULL, &until))
		return;
	top_look_free(feed->look);
	pthread_cond_destroy(&feed->changed);
	pthread_mutex_destroy(&feed->lock);
	close(feed->event_fd);
}
