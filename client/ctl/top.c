// SPDX-License-Identifier: MIT
/*
 * mempoolctl top - pools and who holds them, live
 *
 * Happy path: a thread looks at the daemon (top_feed.h); here each look, key and change of the terminal's size is turned into a screen
 *             (top_view.h) and shown (top_screen.h).
 * Failures:   a daemon that is gone is shown as that, until one is back. The terminal is given back on every way out: keys, signals
 *             (a signalfd), memory (at exit).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "ctl/command.h"
#include "ctl/signals.h"
#include "ctl/top_feed.h"
#include "ctl/top_screen.h"

#define TIMEOUT_MS 2000 /* a look that takes longer is news by itself */
#define PAGE	   10

enum {
	OPTION_INTERVAL = 0x200
};

static const struct argp_option options[] = {
	{"interval", OPTION_INTERVAL, "SECONDS", 0, "Look again each SECONDS (1)", 0},
	{0},
};

struct top {
	struct ctl *ctl;
	double interval_s;
	bool color;
	struct top_feed feed;
	struct top_state state;
	struct top_look *look; /* what is shown */
	struct top_screen screen;
	int signal_fd;
};

static error_t top_parse(int key, char *arg, struct argp_state *state)
{
	struct top *top = state->input;

	if (key != OPTION_INTERVAL)
		return ARGP_ERR_UNKNOWN;
	top->interval_s = command_seconds("--interval", arg);
	return 0;
}

static void show(struct top *top)
{
	time_t now = time(NULL);
	struct tm local;

	if (!localtime_r(&now, &local) || !strftime(top->state.clock, sizeof(top->state.clock), "%H:%M:%S", &local))
		top->state.clock[0] = '\0';
	top_draw(&top->screen, &top->state, top->look);
	top_terminal_show(&top->screen);
}

/* wish_for_map() - of the selected pool, as wide as the screen; or for none */
static void wish_for_map(struct top *top)
{
	const struct top_pool *pool = top->state.shows_map ? top_selected(&top->state, top->look) : NULL;
	struct top_wish wish = {.map = {.struct_size = sizeof(wish.map),
					.format = top->state.unicode ? MEMPOOL_FORMAT_UNICODE : MEMPOOL_FORMAT_ASCII,
					.width = top->screen.columns,
					.color = top->color}};

	if (pool)
		wish.map_id = pool->info.id;
	top_feed_wish(&top->feed, &wish, pool != NULL);
}

static void take_look(struct top *top)
{
	struct top_look *look = top_feed_take(&top->feed);
	uint64_t selected = top->state.selected;

	if (!look)
		return;
	top_look_free(top->look);
	top->look = look;
	top_order(&top->state, look);
	if (top->state.shows_map && look->is_connected && top->state.selected != selected)
		wish_for_map(top); /* its pool is gone, another's turn */
}

/* take_key() - Return: whether to go on */
static bool take_key(struct top *top, enum top_key key)
{
	uint64_t selected = top->state.selected;

	switch (key) {
	case TOP_KEY_QUIT:
		return false;
	case TOP_KEY_UP:
		top_select(&top->state, top->look, -1);
		break;
	case TOP_KEY_DOWN:
		top_select(&top->state, top->look, 1);
		break;
	case TOP_KEY_PAGE_UP:
		top_select(&top->state, top->look, -PAGE);
		break;
	case TOP_KEY_PAGE_DOWN:
		top_select(&top->state, top->look, PAGE);
		break;
	case TOP_KEY_ENTER:
		top->state.shows_map = !top->state.shows_map;
		wish_for_map(top);
		break;
	case TOP_KEY_SORT:
		top->state.sort = (top->state.sort + 1) % TOP_SORT_N;
		top_order(&top->state, top->look);
		break;
	case TOP_KEY_NONE:
	case TOP_KEY_OTHER:
		break;
	}
	if (top->state.shows_map && selected != top->state.selected)
		wish_for_map(top);
	return true;
}

static bool take_keys(struct top *top)
{
	enum top_key key;

	while ((key = top_terminal_key()) != TOP_KEY_NONE) {
		if (!take_key(top, key))
			return false;
	}
	return true;
}

/* take_signal() - Return: whether to go on */
static bool take_signal(struct top *top)
{
	struct signalfd_siginfo info;

	if (read(top->signal_fd, &info, sizeof(info)) != sizeof(info))
		return true;
	if (info.ssi_signo != SIGWINCH)
		return false;
	if (top_terminal_resized(&top->screen))
		error_no_memory();
	if (top->state.shows_map)
		wish_for_map(top);
	return true;
}

static enum exit_code loop(struct top *top)
{
	bool goes_on = true;

	while (goes_on) {
		struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
				       {.fd = top->signal_fd, .events = POLLIN},
				       {.fd = top->feed.event_fd, .events = POLLIN}};

		show(top);
		if (poll(fds, N_ELEMENTS(fds), -1) < 0 && errno != EINTR) {
			int err = errno;

			top_terminal_close();
			return error_report(EXIT_OTHER, err, "top: poll: %s", strerror(err));
		}
		if (fds[2].revents)
			take_look(top);
		if (fds[1].revents)
			goes_on = take_signal(top);
		if (goes_on && fds[0].revents & POLLIN)
			goes_on = take_keys(top);
		else if (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) /* nobody looks any more */
			goes_on = false;
	}
	return EXIT_DONE;
}

static enum exit_code run_on_terminal(struct top *top)
{
	enum exit_code code;
	int r = top_terminal_open(top->color);
	const char *term = getenv("TERM");

	if (r)
		return error_report(
			EXIT_OTHER, ENOTTY,
			"top: the terminal type '%s' is not known; set TERM, or use 'mempoolctl stats --watch 1'",
			term ? term : "");
	if (top_terminal_resized(&top->screen))
		error_no_memory();
	code = loop(top);
	top_terminal_close();
	return code;
}

static enum exit_code top_run(struct ctl *ctl, int argc, char *argv[])
{
	struct top top = {.ctl = ctl, .interval_s = 1, .signal_fd = -1};
	enum exit_code code;
	int r;

	command_parse(ctl, &top_command, argc, argv, &top);
	if (ctl->json)
		error_usage("top is for people; 'mempoolctl stats --watch 1 --json' is for programs");
	if (!terminal_is(STDIN_FILENO) || !terminal_is(STDOUT_FILENO))
		error_usage("top needs a terminal; without one use 'mempoolctl stats --watch 1'");
	top.color = terminal_has_color(ctl->color, STDOUT_FILENO);
	top.state.unicode = terminal_is_utf8();
	top.look = calloc(1, sizeof(*top.look));
	if (!top.look)
		error_no_memory();
	top.look->is_connected = true; /* it is, and the first look comes at once */
	code = ctl_connect(ctl, "top");
	if (code)
		return code;
	top.signal_fd = signals_open(SIGWINCH); /* before the feed's thread begins, so that it does not take them */
	r = top.signal_fd < 0 ? top.signal_fd : 0;
	if (!r)
		r = top_feed_start(&top.feed, ctl->socket_path, ctl->client, top.interval_s,
				   ctl->timeout_ms >= 0 ? ctl->timeout_ms : TIMEOUT_MS);
	if (r)
		return error_report(EXIT_OTHER, -r, "top: starting: %s", strerror(-r));
	ctl->client = NULL; /* the feed's */
	code = run_on_terminal(&top);
	top_feed_stop(&top.feed);
	top_look_free(top.look);
	top_screen_deinit(&top.screen);
	close(top.signal_fd);
	return code;
}

const struct command top_command = {
	.name = "top",
	.arguments = "",
	.summary = "Pools and who holds them, live",
	.details = "Keys: q quits, the arrows or j and k select a pool, enter shows its map and the list again, s "
		   "sorts by name, "
		   "used bytes, rate or fragmentation.",
	.options = options,
	.parse = top_parse,
	.run = top_run,
};
