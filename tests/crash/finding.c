// SPDX-License-Identifier: MIT
#include "finding.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

struct finding_place finding_place;

void found(const char *format, ...)
{
	va_list args;

	printf("found: %s of %s, state %u: ", finding_place.what, finding_place.kind, finding_place.state);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	finding_place.clean_up();
	_exit(1);
}

static void on_crash(int number)
{
	(void)number;
	found("%s", finding_place.crash);
}

void finding_catch_crashes(void)
{
	signal(SIGSEGV, on_crash);
	signal(SIGBUS, on_crash);
	signal(SIGABRT, on_crash);
}
