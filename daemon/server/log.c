// SPDX-License-Identifier: MIT
/*
 * log - one line, one write
 *
 * The level and the form are set once, before the first thread starts; the level may be read by any thread.
 */
#include "server/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 1024 /* far below PIPE_BUF, so that a write to a pipe is one piece */

static enum log_level log_up_to = LOG_LEVEL_INFO;
static bool log_to_journal;

static const struct {
	const char *name;
	int priority; /* of syslog(3), which the journal reads as "<N>" */
} levels[LOG_LEVEL_N] = {
	[LOG_LEVEL_ERROR] = {"error", 3},
	[LOG_LEVEL_WARNING] = {"warning", 4},
	[LOG_LEVEL_INFO] = {"info", 6},
	[LOG_LEVEL_DEBUG] = {"debug", 7},
};

/* $JOURNAL_STREAM names the device and inode of the journal's socket: set alone it proves nothing, for it is inherited by
 * whoever redirects stderr. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && !fstat(STDERR_FILENO, &st) &&
	       st.st_dev == (dev_t)dev && st.st_ino == (ino_t)ino;
}

void log_open(enum log_level level)
{
	log_up_to = level;
	log_to_journal = stderr_is_journal();
}

int log_level_by_name(const char *name, enum log_level *levelp)
{
	for (int i = 0; i < LOG_LEVEL_N; i++) {
		if (!strcmp(name, levels[i].name)) {
			*levelp = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

static size_t put_prefix(char line[static LINE_BYTES], enum log_level level)
{
	struct timespec now;
	struct tm tm;
	size_t n;

	if (log_to_journal)
		return (size_t)snprintf(line, LINE_BYTES, "<%d>", levels[level].priority);
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(line, LINE_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
	return n +
	       (size_t)snprintf(line + n, LINE_BYTES - n, ".%03ldZ %s: ", now.tv_nsec / 1000000, levels[level].name);
}

static void PRINTF(2, 0) write_line(enum log_level level, const char *format, va_list args)
{
	static const char cut[] = " [cut]";
	char line[LINE_BYTES];
	size_t n_prefix = put_prefix(line, level), n;
	size_t room = sizeof(line) - n_prefix - 1; /* the end of line takes the NUL's place */
	int saved_errno = errno;
	int n_text = vsnprintf(line + n_prefix, room + 1, format, args);

	if (n_text < 0)
		return;
	n = n_prefix + ((size_t)n_text < room ? (size_t)n_text : room);
	if ((size_t)n_text > room)
		memcpy(line + n - (sizeof(cut) - 1), cut, sizeof(cut) - 1);
	for (size_t i = n_prefix; i < n; i++) {
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	}
	line[n++] = '\n';
	while (write(STDERR_FILENO, line, n) < 0 && errno == EINTR)
		;
	errno = saved_errno; /* a log line must not change what its caller is about to look at */
}

void log_line(enum log_level level, const char *format, ...)
{
	va_list args;

	if (level > log_up_to)
		return;
	va_start(args, format);
	write_line(level, format, args);
	va_end(args);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void log_source_end(struct log_source *source)
{
	if (source->n_swallowed)
		log_line(LOG_LEVEL_WARNING, "%u more lines about one client were not logged", source->n_swallowed);
	*source = (struct log_source){0};
}

void log_client(struct log_source *source, enum log_level level, const char *format, ...)
{
	uint64_t now = now_ns();
	va_list args;

	if (level > log_up_to)
		return;
	if (now - source->window_ns >= LOG_WINDOW_S * UINT64_C(1000000000)) {
		log_source_end(source);
		source->window_ns = now;
	}
	if (source->n_in_window == LOG_BURST) {
		source->n_swallowed++;
		return;
	}
	source->n_in_window++;
	va_start(args, format);
	write_line(level, format, args);
	va_end(args);
}
