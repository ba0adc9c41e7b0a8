// SPDX-License-Identifier: MIT
/* mempoolctl ping - round trip and daemon version */
#include <stdlib.h>
#include <time.h>

#include "ctl/command.h"

#define N_ROUNDS 9 /* odd, for a median; after one that warms up */

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int round_trips(struct ctl *ctl, struct mempool_daemon_info *info, double *median_usp)
{
	double us[N_ROUNDS];
	int r = mempool_daemon_info(ctl->client, info);

	for (int i = 0; !r && i < N_ROUNDS; i++) {
		double begin = now_us();

		r = mempool_daemon_info(ctl->client, info);
		us[i] = now_us() - begin;
	}
	if (r)
		return r;
	qsort(us, N_ROUNDS, sizeof(us[0]), by_value);
	*median_usp = us[N_ROUNDS / 2];
	return 0;
}

static enum exit_code ping_run(struct ctl *ctl, int argc, char *argv[])
{
	struct mempool_daemon_info info = {.struct_size = sizeof(info)};
	double median_us;
	enum exit_code code;
	char age[UNITS_TEXT_BYTES];
	int r;

	command_parse(ctl, &ping_command, argc, argv, NULL);
	code = ctl_connect(ctl, "ping");
	if (code)
		return code;
	r = round_trips(ctl, &info, &median_us);
	if (r)
		return error_of_library(r, NULL, "ping");
	if (ctl->json)
		emit_document(json_pack("{s:o, s:f, s:i, s:o, s:I}", "version", emit_text(info.version), "rtt_us",
					median_us, "pid", (int)info.pid, "instance", emit_text(info.instance), "uptime",
					(json_int_t)info.uptime));
	else
		printf("mempoold %s answers in %.1f us (pid %d, instance %s, up %s)\n", info.version, median_us,
		       (int)info.pid, info.instance, age_format(info.uptime, age));
	return EXIT_DONE;
}

const struct command ping_command = {
	.name = "ping",
	.arguments = "",
	.summary = "Round trip and daemon version",
	.run = ping_run,
};
