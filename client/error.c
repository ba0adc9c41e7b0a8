// SPDX-License-Identifier: MIT
#include "client/error.h"

#include <stdarg.h>
#include <stdio.h>

#include "mempool/mempool.h"

/* Initial-exec would break dlopen() on a full static TLS block; this is no fast path. */
static _Thread_local char sentence[768];

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

const char *mempool_last_error(void)
{
	return sentence;
}

const char *mempool_version(void)
{
	return MEMPOOL_VERSION;
}
