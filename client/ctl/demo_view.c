// SPDX-License-Identifier: MIT
/*
 * A picture is made in memory and written at once. On a terminal the next one goes over it line by line, each cleared
 * behind its end, so nothing flickers; lines that are too long are cut by the terminal (autowrap off), so that their
 * number stays what we counted.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ctl/demo_view.h"
#include "ctl/error.h"
#include "ctl/stats.h"
#include "ctl/terminal.h"
#include "ctl/units.h"

#define PICTURE_S 0.1 /* ten a second on a terminal: alive, and the daemon hardly notices */
#define FIRST_S	  0.3 /* elsewhere: the first, and each later one after three times as long */
#define WIDTH_MAX 100 /* wider maps are no clearer */
#define BAR_WIDTH 28

static const char *const consumer_colors[CREW_CONSUMERS] = {"\033[36m", "\033[35m", "\033[33m"};

void demo_view_init(struct demo_view *view, bool color)
{
	uint32_t width = terminal_width(STDOUT_FILENO);

	*view = (struct demo_view){
		.terminal = terminal_is(STDOUT_FILENO),
		.color = color,
		.width = width < WIDTH_MAX ? width : WIDTH_MAX,
	};
	view->unicode = view->terminal && terminal_is_utf8();
}

int demo_view_wait_ms(const struct demo_view *view, double now_s)
{
	double ms = (view->next_s - now_s) * 1000;

	return ms <= 0 ? 0 : ms > 1e6 ? 1000000 : (int)ms + 1;
}

static const char *bold(const struct demo_view *view)
{
	return view->color ? "\033[1m" : "";
}

static const char *plain(const struct demo_view *view)
{
	return view->color ? "\033[0m" : "";
}

static void print_worker(FILE *out, const struct demo_view *view, const struct demo_picture *picture, unsigned who)
{
	const struct progress *progress = picture->progress;
	uint64_t n_bytes = who ? progress->of_consumer[who - 1].n_bytes : progress->n_bytes;
	uint64_t n_blocks = who ? progress->of_consumer[who - 1].n_blocks : progress->n_blocks;
	char blocks[UNITS_TEXT_BYTES], bytes[UNITS_TEXT_BYTES], name[UNITS_TEXT_BYTES] = "producer";
	double share = progress->n_bytes ? (double)n_bytes / (double)progress->n_bytes : 0;

	if (who)
		snprintf(name, sizeof(name), "consumer %u", who);
	fprintf(out, "  %s%-11s%s pid %-8d %9s blocks %8s  ", who && view->color ? consumer_colors[who - 1] : "", name,
		plain(view), (int)picture->crew->pids[who], count_format(n_blocks, blocks),
		size_format(n_bytes >> 20 << 20, bytes));
	if (who)
		stats_bar(out, share, BAR_WIDTH, view->unicode);
	fputc('\n', out);
}

static void print_head(FILE *out, const struct demo_view *view, const struct demo_picture *picture, double now_s)
{
	const struct progress *progress = picture->progress;
	uint64_t n_file = picture->crew->job.file_bytes;
	double seconds = now_s - progress->begin_s;
	char text[UNITS_TEXT_BYTES];

	fprintf(out, "%s%s%s\n\n", bold(view), picture->title, plain(view));
	for (unsigned who = 0; who < CREW_SIZE; who++)
		print_worker(out, view, picture, who);
	fprintf(out, "\n  round %-4s ", count_format(progress->n_rounds + 1, text));
	stats_bar(out, (double)progress->round_bytes / (double)n_file, BAR_WIDTH, view->unicode);
	fprintf(out, "  %s%s MB/s%s\n", bold(view),
		count_format(seconds > 0 ? (uint64_t)((double)progress->n_bytes / seconds / 1e6) : 0, text),
		plain(view));
}

static int print_map(FILE *out, const struct demo_view *view, struct mempool_pool *pool)
{
	const struct mempool_visualize_options options = {
		.struct_size = sizeof(options),
		.format = view->unicode ? MEMPOOL_FORMAT_UNICODE : MEMPOOL_FORMAT_ASCII,
		.width = view->width,
		.color = view->color,
	};

	fputc('\n', out);
	return mempool_pool_visualize(pool, out, &options);
}

static unsigned rows_of_terminal(void)
{
	struct winsize size;

	return !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_row > 4 ? size.ws_row : 24;
}

/* put_over() - @text over the picture before, as far as the screen is high */
static void put_over(struct demo_view *view, char *text)
{
	unsigned n_lines = 0, n_max = rows_of_terminal() - 1;
	char *rest = text, *line;

	if (!view->cursor_hidden)
		fputs("\033[?25l\033[?7l", stdout); /* no cursor, no autowrap */
	view->cursor_hidden = true;
	if (view->n_lines_drawn)
		printf("\033[%uA\r", view->n_lines_drawn);
	while (n_lines < n_max && (line = strsep(&rest, "\n"))) {
		if (!rest && !*line) /* behind the last newline */
			break;
		printf("%s\033[0m\033[K\n", line);
		n_lines++;
	}
	fputs("\033[J", stdout);
	view->n_lines_drawn = n_lines;
}

int demo_view_draw(struct demo_view *view, const struct demo_picture *picture, double now_s)
{
	char *text = NULL;
	size_t n_bytes;
	FILE *out;
	int r = 0;

	if (now_s < view->next_s)
		return 0;
	view->next_s = now_s + (view->terminal ? PICTURE_S : FIRST_S);
	for (unsigned i = 0; !view->terminal && i < view->n_pictures && i < 20; i++)
		view->next_s += 2 * (view->next_s - now_s);
	view->n_pictures++;
	out = open_memstream(&text, &n_bytes);
	if (!out)
		error_no_memory();
	print_head(out, view, picture, now_s);
	if (picture->pool)
		r = print_map(out, view, picture->pool);
	if (fclose(out))
		error_no_memory();
	if (!r && view->terminal)
		put_over(view, text);
	else if (!r)
		printf("%s\n", text);
	fflush(stdout);
	free(text);
	return r;
}

void demo_view_finish(struct demo_view *view)
{
	if (view->cursor_hidden)
		fputs("\033[?25h\033[?7h\n", stdout);
	fflush(stdout);
	view->cursor_hidden = false;
	view->n_lines_drawn = 0;
}
