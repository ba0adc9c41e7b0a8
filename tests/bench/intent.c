// SPDX-License-Identifier: MIT
/*
 * bench_intent - what it costs that an operation happens whole or not at all: the engine as it is, next to the same without notes
 *
 * Both are loaded into one process, and run in turns on the same scene, so that what else the machine does hits both alike. Times
 * are of the processor; the figure is the median of the differences of neighbours.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/intent.h"

#define N_ROUNDS 41
#define GOAL_NS	 50

static intent_run load(const char *path)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	void *symbol = library ? dlsym(library, "intent_run_pairs") : NULL;

	if (symbol)
		return (intent_run)(uintptr_t)symbol;
	fprintf(stderr, "bench_intent: %s\n", dlerror());
	exit(1);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double values[])
{
	qsort(values, N_ROUNDS, sizeof(values[0]), compare);
	return values[N_ROUNDS / 2];
}

static void measure(intent_run with, intent_run without, uint32_t n_standing, const char *what)
{
	double ns[N_ROUNDS], bare_ns[N_ROUNDS], differences[N_ROUNDS], cost;

	with(n_standing), without(n_standing); /* make the scene, and warm up */
	for (int i = 0; i < N_ROUNDS; i++) {
		ns[i] = with(n_standing);
		bare_ns[i] = without(n_standing);
		differences[i] = (ns[i] - bare_ns[i]) / 2; /* a pair is two operations */
	}
	cost = median(differences);
	printf("Among %s blocks, a pair of alloc and free takes %.0f ns with its intent, %.0f without: %.1f ns an "
	       "operation "
	       "(goal: %d at most): %s\n",
	       what, median(ns), median(bare_ns), cost, GOAL_NS, cost <= GOAL_NS ? "reached" : "MISSED");
}

int main(void)
{
	intent_run with = load(INTENT_WITH), without = load(INTENT_WITHOUT);

	measure(with, without, 1000, "a thousand");
	measure(with, without, 1000000, "a million");
	return 0;
}
