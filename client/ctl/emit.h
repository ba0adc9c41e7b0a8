#pragma once
// SPDX-License-Identifier: MIT
/*
 * emit - what mempoolctl writes on stdout: JSON documents and text tables
 *
 * JSON keys are CONTRACT: only added. Bytes, seconds and offsets are integers.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "mempool/mempool.h"
#include "proto/util.h"

/* ---- JSON ---- */

/** emit_text() - a string; bytes that are not UTF-8 become '?'. Return: a reference, NULL without memory */
json_t *emit_text(const char *text);

/** emit_number() - a count or size. Return: a reference: null for UINT64_MAX, which means none; NULL without memory */
json_t *emit_number(uint64_t number);

/** emit_stats() - name and the fields of struct mempool_stats. Return: a reference */
json_t *emit_stats(const char *name, const struct mempool_stats *stats);

/** emit_daemon() - what `stats` says about the daemon. Return: a reference */
json_t *emit_daemon(const struct mempool_daemon_info *info);

/** emit_pool() - what `list` says about a pool. Return: a reference */
json_t *emit_pool(const struct mempool_pool_info *info);

/** emit_offsets() - an array of them. Return: a reference */
json_t *emit_offsets(const mempool_offset offsets[], size_t n);

/** emit_document() - print on one line, flush, and drop the reference; NULL: memory ran out while it was made, ends */
void emit_document(json_t *document);

/* ---- tables ---- */

struct table;

/** table_new() - @columns: "name|size>|…": headings; '>' aligns to the right. @bold: headings stand out. Ends without memory */
struct table *table_new(const char *columns, bool bold);
/** table_cell() - the next cell, row by row; what is not printable ASCII becomes '?' */
void table_cell(struct table *table, const char *format, ...) PRINTF(2, 3);
/** table_print() - to @out, with columns as wide as their widest cell. */
void table_print(const struct table *table, FILE *out);
struct table *table_free(struct table *table);
