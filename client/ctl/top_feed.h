#pragma once
// SPDX-License-Identifier: MIT
/*
 * top_feed - looks at the daemon again and again, on a thread of its own, so that keys are answered while a daemon is silent
 *
 * One who asks at a time: the thread fills a look and leaves it in the feed; its reader takes it, and owns it then.
 */
#include <pthread.h>

#include "ctl/top_view.h"

struct top_wish {	 /* what the next look should have, besides */
	uint64_t map_id; /* pool; 0: no map */
	struct mempool_visualize_options map;
};

struct top_feed {
	const char *socket_path;
	double interval_s;
	int timeout_ms;
	struct mempool_client *client; /* the thread's; NULL: to be connected anew */
	pthread_t thread;
	int event_fd;	      /* readable: there is a look */
	pthread_mutex_t lock; /* guards what is below */
	pthread_cond_t changed;
	bool is_hurried, is_ending;
	struct top_wish wish;
	struct top_look *look; /* the latest that nobody took; NULL */
};

/** top_feed_start() - begin; @client is the feed's from here on. Return: 0, -errno */
int top_feed_start(struct top_feed *feed, const char *socket_path, struct mempool_client *client, double interval_s,
		   int timeout_ms) MUST_CHECK;
/** top_feed_wish() - from the next look on, which is taken at once if @now */
void top_feed_wish(struct top_feed *feed, const struct top_wish *wish, bool now);
/** top_feed_take() - the latest look, the caller's now; NULL: none since */
struct top_look *top_feed_take(struct top_feed *feed);
/** top_feed_stop() - end the thread; one that waits for a silent daemon is left to the process' end */
void top_feed_stop(struct top_feed *feed);

struct top_look *top_look_free(struct top_look *look);
