// SPDX-License-Identifier: MIT
/*
 * A line is made whole in memory and written at once, so that lines of the demo's processes do not mix. Names and
 * sentences in it come from others: control characters are replaced, so a line stays a line.
 */
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/emit.h"
#include "ctl/error.h"
#include "mempool/mempool.h"

#define LINE_BYTES 2048 /* the longest sentence of daemon and library is below 1 KiB */

static bool as_json;

void error_set_json(bool json)
{
	as_json = json;
}

enum exit_code error_exit_code(int r)
{
	switch (-r) {
	case EINVAL:
		return EXIT_USAGE;
	case ECONNREFUSED:
	case ECONNRESET:
	case EPIPE:
	case ENOTCONN:
	case EHOSTDOWN:
		return EXIT_NO_DAEMON;
	case ENOENT:
	case ESTALE:
		return EXIT_NO_POOL;
	case ENOSPC:
	case EDQUOT:
	case EAGAIN: /* too many connections */
		return EXIT_FULL;
	case EACCES:
	case EPERM:
		return EXIT_NOT_ALLOWED;
	case EBADMSG:
		return EXIT_CORRUPT;
	case ETIMEDOUT:
		return EXIT_TIMED_OUT;
	}
	return EXIT_OTHER;
}

static const char *hint_of(int r)
{
	switch (error_exit_code(r)) {
	case EXIT_NO_DAEMON:
		return "start one with 'mempoold', or name its socket with --socket";
	case EXIT_NO_POOL:
		return "'mempoolctl list' shows the pools";
	case EXIT_FULL:
		return "'mempoolctl sessions' shows who holds what";
	case EXIT_NOT_ALLOWED:
		return "'mempoolctl list' shows each pool's owner and mode";
	case EXIT_CORRUPT:
		return "'mempoolctl check' names what is damaged";
	case EXIT_TIMED_OUT:
		return "wait longer with --timeout SECONDS, or look at its log";
	case EXIT_DONE:
	case EXIT_OTHER:
	case EXIT_USAGE:
		break;
	}
	return NULL;
}

/* one_line() - a message of one line: no control characters, no end of sentence before our own */
static void one_line(char *text)
{
	size_t n = strlen(text);

	while (n && (text[n - 1] == '\n' || text[n - 1] == ' '))
		text[--n] = '\0';
	for (char *at = text; *at; at++) {
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = *at == '\n' || *at == '\t' ? ' ' : '?';
	}
}

static void print_line(int err, char *text)
{
	one_line(text);
	if (as_json) {
		json_t *document = json_pack("{s:{s:i,s:o}}", "error", "errno", err, "message", emit_text(text));

		if (document) {
			char *line = json_dumps(document, JSON_COMPACT);

			fprintf(stderr, "%s\n", line ? line : "{}");
			free(line);
		}
		json_decref(document);
		return;
	}
	fprintf(stderr, "mempoolctl: %s\n", text);
}

enum exit_code error_report(enum exit_code code, int err, const char *format, ...)
{
	char text[LINE_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	print_line(err, text);
	return code;
}

enum exit_code error_of_library(int r, const char *hint, const char *asked, ...)
{
	char text[LINE_BYTES], what[LINE_BYTES / 4], sentence[LINE_BYTES / 2], *advice;
	va_list args;
	size_t n;

	va_start(args, asked);
	vsnprintf(what, sizeof(what), asked, args);
	va_end(args);
	snprintf(sentence, sizeof(sentence), "%s", mempool_last_error());
	if (!sentence[0])
		snprintf(sentence, sizeof(sentence), "%s", strerror(-r));
	n = strlen(sentence);
	while (n && (sentence[n - 1] == '.' || sentence[n - 1] == '\n'))
		sentence[--n] = '\0';
	advice = strstr(sentence, "; see mempool_"); /* for programs */
	if (advice)
		*advice = '\0';
	/* The daemon's sentences have the shape of ours: what was asked: what went wrong; what to do. */
	if (!hint && !strstr(sentence, "; "))
		hint = hint_of(r);
	snprintf(text, sizeof(text), "%s%s%s%s%s", strstr(sentence, ": ") ? "" : what,
		 strstr(sentence, ": ") ? "" : ": ", sentence, hint ? "; " : "", hint ? hint : "");
	print_line(-r, text);
	return error_exit_code(r);
}

void error_usage(const char *format, ...)
{
	char text[LINE_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	print_line(EINVAL, text);
	exit(EXIT_USAGE);
}

void error_no_memory(void)
{
	char text[] = "no memory left for this process";

	print_line(ENOMEM, text);
	exit(EXIT_OTHER);
}

void error_warn(const char *format, ...)
{
	char text[LINE_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	one_line(text);
	fprintf(stderr, "mempoolctl: warning: %s\n", text);
}
