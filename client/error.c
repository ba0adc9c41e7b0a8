// SPDX-License-Identifier: MIT
#include "client/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "mempool/mempool.h"

/* Initial-exec would break dlopen() on a full static TLS block; this is no fast path. */
static _Thread_local char sentence[ERROR_SENTENCE_BYTES];

int error_set(int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	return error;
}

void error_warn(const char *text)
{
	snprintf(sentence, sizeof(sentence), "%s", text);
}

void error_note(struct error_first *first, int r)
{
	if (!r || first->error)
		return;
	first->error = r;
	memcpy(first->sentence, sentence, sizeof(first->sentence));
}

int error_give(const struct error_first *first)
{
	if (first->error)
		error_warn(first->sentence);
	return first->error;
}

const char *mempool_last_error(void)
{
	return sentence;
}

const char *mempool_version(void)
{
	return MEMPOOL_VERSION;
}
