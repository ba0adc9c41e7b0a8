// SPDX-License-Identifier: MIT
/*
 * mempoolctl check - verifies books and guards of one pool or of all
 *
 * The library reports faults as lines, "0xOFFSET sentence"; --json takes them apart again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/command.h"

struct findings {
	json_t *faults; /* with --json */
	size_t n_faults;
	size_t n_pools;
};

static void print_fault(struct findings *findings, const char *pool, const char *line)
{
	unsigned long long offset = 0;
	char *what = (char *)line;

	if (!strncmp(line, "0x", 2)) {
		offset = strtoull(line, &what, 16);
		what += strspn(what, ": ");
	}
	if (!findings->faults)
		printf("%s: %s\n", pool, line);
	else if (json_array_append_new(findings->faults, json_pack("{s:o, s:o, s:I}", "pool", emit_text(pool), "what",
								   emit_text(what), "offset", (json_int_t)offset)))
		error_no_memory();
}

static void print_report(struct findings *findings, const char *pool, char *report)
{
	char *rest = report, *line;

	while ((line = strsep(&rest, "\n"))) {
		if (*line)
			print_fault(findings, pool, line);
	}
}

static enum exit_code check_pool(struct findings *findings, const char *name, struct mempool_pool *pool)
{
	char *report = NULL;
	size_t n_bytes;
	FILE *stream = open_memstream(&report, &n_bytes);
	int n;

	if (!stream)
		error_no_memory();
	n = mempool_pool_check(pool, stream);
	if (fclose(stream))
		error_no_memory();
	if (n > 0) {
		print_report(findings, name, report);
		findings->n_faults += (size_t)n;
	}
	findings->n_pools += n >= 0;
	free(report);
	return n < 0 ? error_of_library(n, NULL, "check of '%s'", name) : EXIT_DONE;
}

static enum exit_code check_one(struct ctl *ctl, struct findings *findings, const char *name)
{
	struct mempool_pool *pool;
	enum exit_code code = ctl_open(ctl, "check", name, &pool);

	if (code)
		return code;
	code = check_pool(findings, name, pool);
	mempool_pool_close(pool);
	return code;
}

/* check_all() - every pool there is now; one that cannot be checked keeps none from it. Return: the first failure */
static enum exit_code check_all(struct ctl *ctl, struct findings *findings)
{
	CLEANUP(pool_list_deinit) struct pool_list list = {0};
	enum exit_code code = EXIT_DONE;
	int r = pool_list_read(ctl, &list);

	if (r)
		return error_of_library(r, NULL, "check");
	for (size_t i = 0; i < list.n; i++) {
		struct mempool_pool *pool;
		enum exit_code failed = EXIT_DONE;

		r = mempool_pool_open(ctl->client, list.infos[i].name, &pool);
		if (r == -ENOENT) /* destroyed in between */
			continue;
		if (r)
			failed = error_of_library(r, NULL, "check of '%s'", list.infos[i].name);
		else
			failed = check_pool(findings, list.infos[i].name, pool);
		if (!r)
			mempool_pool_close(pool);
		code = code ? code : failed;
	}
	return code;
}

static void print_verdict(const struct findings *findings)
{
	if (findings->n_faults)
		printf("%zu fault%s in %zu pool%s checked\n", findings->n_faults, plural(findings->n_faults),
		       findings->n_pools, plural(findings->n_pools));
	else
		printf("%zu pool%s checked: no faults\n", findings->n_pools, plural(findings->n_pools));
}

static enum exit_code check_run(struct ctl *ctl, int argc, char *argv[])
{
	struct findings findings = {0};
	enum exit_code code;

	command_parse(ctl, &check_command, argc, argv, NULL);
	code = ctl_connect(ctl, "check");
	if (code)
		return code;
	if (ctl->json)
		findings.faults = json_array();
	code = ctl->n_args ? check_one(ctl, &findings, ctl->args[0]) : check_all(ctl, &findings);
	if (findings.faults && (findings.n_pools || !code))
		emit_document(json_pack("{s:O}", "faults", findings.faults));
	else if (!code || findings.n_pools)
		print_verdict(&findings);
	json_decref(findings.faults);
	return findings.n_faults ? EXIT_CORRUPT : code;
}

const struct command check_command = {
	.name = "check",
	.arguments = "[NAME]",
	.summary = "Verifies books and guards; exit 7 if faults were found",
	.n_args_max = 1,
	.run = check_run,
};
