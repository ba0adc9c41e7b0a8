// SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "ctl/bench.h"

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

void bench_settle(struct bench_figure *figure, unsigned n)
{
	qsort(figure->runs, n, sizeof(figure->runs[0]), by_value);
	figure->min = figure->runs[0];
	figure->max = figure->runs[n - 1];
	figure->median = (figure->runs[(n - 1) / 2] + figure->runs[n / 2]) / 2;
}

static const char *time_text(double ns, char *out)
{
	if (ns < 1000)
		snprintf(out, UNITS_TEXT_BYTES, ns < 100 ? "%.1f ns" : "%.0f ns", ns);
	else
		snprintf(out, UNITS_TEXT_BYTES, ns < 100e3 ? "%.1f us" : "%.0f us", ns / 1000);
	return out;
}

static double ratio_of(const struct bench_row *row)
{
	return row->peer_figure->median > 0 ? row->figure->median / row->peer_figure->median : 0;
}

static int n_cores(void)
{
	cpu_set_t cores;

	return sched_getaffinity(0, sizeof(cores), &cores) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&cores);
}

static void print_row(struct table *table, const struct bench_row *row)
{
	char text[UNITS_TEXT_BYTES];

	table_cell(table, "%s", row->job->name);
	table_cell(table, "%s", time_text(row->figure->median, text));
	table_cell(table, "%s", time_text(row->figure->min, text));
	table_cell(table, "%s", time_text(row->figure->max, text));
	table_cell(table, "%s", row->peer->name);
	table_cell(table, "%s", time_text(row->peer_figure->median, text));
	table_cell(table, ratio_of(row) < 10 ? "%.2fx" : "%.0fx", ratio_of(row));
}

void bench_print(const struct bench_report *report, bool bold)
{
	struct table *table = table_new("WHAT|MEDIAN>|MIN>|MAX>|NEXT TO|MEDIAN>|RATIO>", bold);
	struct utsname machine;
	int cores = n_cores();

	for (size_t i = 0; i < report->n_rows; i++)
		print_row(table, &report->rows[i]);
	table_print(table, stdout);
	table_free(table);
	if (uname(&machine))
		memset(&machine, 0, sizeof(machine)); /* cannot fail */
	printf("\nmempoold %s on %d core%s, %s %s %s; %u runs of each in turn, MIN and MAX are their spread.\n",
	       report->version, cores, cores == 1 ? "" : "s", machine.sysname, machine.release, machine.machine,
	       report->n_runs);
	if (report->has_leases)
		puts("Good: 1.0x malloc or below, and a request within 2x of the echo.");
	else
		puts("This daemon grants no leases, so each alloc and free was a request. Good: within 2x of the "
		     "echo.");
	puts("The last row tells what it costs to wake up another core, as a request often has to.");
}

static json_t *emit_row(const struct bench_row *row)
{
	return json_pack("{s:o, s:s, s:f, s:f, s:f, s:o, s:f, s:f}", "name", emit_text(row->job->name), "unit", "ns",
			 "median", row->figure->median, "min", row->figure->min, "max", row->figure->max, "peer",
			 emit_text(row->peer->name), "peer_median", row->peer_figure->median, "ratio", ratio_of(row));
}

void bench_emit(const struct bench_report *report)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < report->n_rows; i++) {
		if (json_array_append_new(rows, emit_row(&report->rows[i])))
			error_no_memory();
	}
	emit_document(json_pack("{s:o, s:i, s:o, s:i, s:b}", "benchmarks", rows, "cores", n_cores(), "version",
				emit_text(report->version), "runs", (int)report->n_runs, "leases",
				(int)report->has_leases));
}
