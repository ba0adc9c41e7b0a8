// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <time.h>

#include "ctl/stats.h"
#include "ctl/units.h"
#include "proto/util.h"

#define BAR_COLUMNS 32

static double share_of(uint64_t part, uint64_t whole)
{
	return whole ? (double)part / (double)whole : 0;
}

void stats_bar(FILE *out, double share, unsigned width, bool unicode)
{
	static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
	unsigned n_eighths, column = 0;

	if (share > 1)
		share = 1;
	n_eighths = (unsigned)(share * width * 8);
	if (share > 0 && n_eighths < 1)
		n_eighths = 1; /* a little is not nothing */
	for (; column < n_eighths / 8; column++)
		fputs(unicode ? "█" : "#", out);
	if (n_eighths % 8 && column < width) {
		fputs(unicode ? eighths[n_eighths % 8] : n_eighths % 8 > 3 || !column ? "#" : ".", out);
		column++;
	}
	for (; column < width; column++)
		fputs(unicode ? "·" : ".", out);
}

static void print_rate(FILE *out, const struct stats_rates *rates, double rate)
{
	char text[UNITS_TEXT_BYTES];

	if (rates->known)
		fprintf(out, " (%s/s)", count_format((uint64_t)(rate + 0.5), text));
}

void stats_print_pool(FILE *out, const char *name, const struct mempool_stats *stats, const struct stats_rates *rates,
		      struct stats_look look)
{
	double used = share_of(stats->used, stats->total), idle = share_of(stats->leased_idle, stats->total);
	uint64_t n_others = stats->sessions ? stats->sessions - 1 : 0; /* who asks has the pool open */
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES];

	fprintf(out, "%s%s%s  %s", look.bold ? "\033[1m" : "", name, look.bold ? "\033[0m" : "",
		size_format(stats->total, a));
	fprintf(out, ", %s other session%s\n", count_format(n_others, a), plural(n_others));
	fputs("  used       ", out);
	stats_bar(out, used, BAR_COLUMNS, look.unicode);
	fprintf(out, " %s, %.1f %% (peak %s)\n", size_format(stats->used, a), used * 100,
		size_format(stats->peak_used, b));
	if (stats->leased_idle) {
		fputs("  idle       ", out);
		stats_bar(out, idle, BAR_COLUMNS, look.unicode);
		fprintf(out, " %s in slabs, kept by sessions\n", size_format(stats->leased_idle, a));
	}
	fputs("  backed     ", out);
	stats_bar(out, share_of(stats->backed, stats->total), BAR_COLUMNS, look.unicode);
	fprintf(out, " %s of memory\n", size_format(stats->backed, a));
	fprintf(out, "  free       %s in %s gap%s, the largest %s; fragmentation %.1f %%\n",
		size_format(stats->free, a), count_format(stats->gaps, b), plural(stats->gaps),
		size_format(stats->largest_free, (char[UNITS_TEXT_BYTES]){0}), stats->fragmentation * 100);
	fprintf(out, "  blocks     %s live, %s asked for\n", count_format(stats->allocations, a),
		size_format(stats->requested, b));
	fprintf(out, "  so far     %s allocated", count_format(stats->alloc_total, a));
	print_rate(out, rates, rates->alloc);
	fprintf(out, ", %s freed", count_format(stats->free_total, a));
	print_rate(out, rates, rates->free);
	fprintf(out, ", %s refused\n", count_format(stats->failed_total, a));
}

void stats_print_line(FILE *out, const char *name, const struct mempool_stats *stats, const struct stats_rates *rates)
{
	char clock[16] = "", used[UNITS_TEXT_BYTES], total[UNITS_TEXT_BYTES], blocks[UNITS_TEXT_BYTES],
	     allocs[UNITS_TEXT_BYTES], frees[UNITS_TEXT_BYTES];
	time_t now = time(NULL);
	struct tm local;

	if (localtime_r(&now, &local))
		strftime(clock, sizeof(clock), "%H:%M:%S", &local);
	fprintf(out, "%s %s: %s of %s used (%.1f %%), %s block%s", clock, name, size_format(stats->used, used),
		size_format(stats->total, total), share_of(stats->used, stats->total) * 100,
		count_format(stats->allocations, blocks), plural(stats->allocations));
	if (rates->known)
		fprintf(out, ", %s alloc/s, %s free/s", count_format((uint64_t)(rates->alloc + 0.5), allocs),
			count_format((uint64_t)(rates->free + 0.5), frees));
	fputc('\n', out);
}

static const char *limit_text(uint64_t limit, bool bytes, char *out)
{
	if (limit == UINT64_MAX)
		return "none";
	return bytes ? size_format(limit, out) : count_format(limit, out);
}

/* The last few: --json has more. */
static void print_recoveries(FILE *out, const struct mempool_daemon_info *info)
{
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES], c[UNITS_TEXT_BYTES], d[UNITS_TEXT_BYTES], when[32];

	for (uint64_t i = 0; i < info->n_last_recoveries && i < 3; i++) {
		const struct mempool_recovery *recovery = &info->last_recoveries[i];
		time_t time = (time_t)recovery->time;
		struct tm tm;

		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", localtime_r(&time, &tm));
		fprintf(out, "  %s after a %s: %s pool%s, %s block%s, %s, %s session%s, in %.1f ms", when,
			recovery->stopped ? "stop" : "kill", count_format(recovery->pools, a), plural(recovery->pools),
			count_format(recovery->blocks, b), plural(recovery->blocks), size_format(recovery->bytes, c),
			count_format(recovery->sessions, d), plural(recovery->sessions),
			(double)recovery->took_us / 1e3);
		if (recovery->refused)
			fprintf(out, "; %s pool%s could not be recovered", count_format(recovery->refused, a),
				plural(recovery->refused));
		fputc('\n', out);
	}
}

void stats_print_daemon(FILE *out, const struct mempool_daemon_info *info, struct stats_look look)
{
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES], c[UNITS_TEXT_BYTES], d[UNITS_TEXT_BYTES];

	fprintf(out, "%smempoold %s%s  pid %d, instance %s, up %s, %s %s\n", look.bold ? "\033[1m" : "", info->version,
		look.bold ? "\033[0m" : "", (int)info->pid, info->instance, age_format(info->uptime, a),
		count_format(info->recoveries, b), info->recoveries == 1 ? "recovery" : "recoveries");
	fputs("  connections of each loop: ", out);
	for (uint32_t i = 0; i < info->n_loops && i < 64; i++)
		fprintf(out, "%s%" PRIu32, i ? ", " : "", info->loop_connections[i]);
	fprintf(out, " (at most %s, %s a user)\n", count_format(info->limit_connections_total, a),
		count_format(info->limit_connections_per_uid, b));
	fprintf(out, "  quota of a user: bytes %s, pools %s, sessions %s, blocks %s\n",
		limit_text(info->quota_bytes, true, a), limit_text(info->quota_pools, false, b),
		limit_text(info->quota_sessions, false, c), limit_text(info->quota_blocks, false, d));
	print_recoveries(out, info);
}
