// SPDX-License-Identifier: MIT
#include "client/extents.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

int extents_page(struct extents *extents, const char *asked)
{
	Mempool__Wire__ListExtents list = MEMPOOL__WIRE__LIST_EXTENTS__INIT;
	bool is_first = !extents->page;
	int r;
	REQUEST(request, LIST_EXTENTS, list_extents, list);

	if (!is_first) {
		extents->from = extents->page->next;
		extents->hint = extents->page->hint;
		extents_deinit(extents);
		if (!extents->from)
			return 0;
	}
	SET(list, pool, extents->pool->id);
	SET(list, from, extents->from);
	SET(list, hint, extents->hint);
	if (extents->with_slots)
		SET(list, with_slots, true);
	r = client_call(extents->pool->client, &request, extents->pool->id, asked, &extents->call);
	if (r)
		return r;
	if (extents->call.reply->result_case != MEMPOOL__WIRE__REPLY__RESULT_LIST_EXTENTS) {
		call_deinit(&extents->call);
		return error_set(-EPROTO, "%s: the daemon answered without a map", asked);
	}
	extents->page = extents->call.reply->list_extents;
	return 1;
}

void extents_deinit(struct extents *extents)
{
	if (extents->page)
		call_deinit(&extents->call);
	extents->page = NULL;
}

/* ---- JSON ---- */

static const char *state_name(Mempool__Wire__ExtentState state)
{
	switch (state) {
	case MEMPOOL__WIRE__EXTENT_STATE__EXTENT_FREE:
		return "free";
	case MEMPOOL__WIRE__EXTENT_STATE__EXTENT_LEASED:
		return "leased";
	case MEMPOOL__WIRE__EXTENT_STATE__EXTENT_ALLOCATED:
	case _MEMPOOL__WIRE__EXTENT_STATE_IS_INT_SIZE:
		break;
	}
	return "allocated";
}

/* names have no byte that JSON escapes; whatever a daemon sends, only such are printed */
static void write_name(FILE *stream, ProtobufCBinaryData name)
{
	fputc('"', stream);
	for (size_t i = 0; i < name.len; i++)
		if (name.data[i] >= ' ' && name.data[i] < 0x7f && name.data[i] != '"' && name.data[i] != '\\')
			fputc(name.data[i], stream);
	fputc('"', stream);
}

static void write_owner(FILE *stream, uint64_t owner)
{
	if (owner)
		fprintf(stream, ",\"owner\":%" PRIu64, owner);
	else
		fputs(",\"owner\":\"pool\"", stream);
}

static void write_slots(FILE *stream, const Mempool__Wire__Extent *extent)
{
	fputs(",\"live_slots\":[", stream);
	for (size_t i = 0; i < extent->n_live_slots; i++) {
		const Mempool__Wire__Slot *slot = extent->live_slots[i];

		fprintf(stream, "%s{\"offset\":%" PRIu64, i ? "," : "", slot->offset);
		write_owner(stream, slot->owner);
		fprintf(stream, ",\"holds\":%" PRIu32, slot->holds);
		if (slot->name.len) {
			fputs(",\"name\":", stream);
			write_name(stream, slot->name);
		}
		fputc('}', stream);
	}
	fputc(']', stream);
}

static void write_slab(FILE *stream, const Mempool__Wire__Extent *extent, bool with_slots)
{
	write_owner(stream, extent->owner);
	fprintf(stream,
		",\"origin\":%" PRIu64 ",\"slot_size\":%" PRIu32 ",\"slots\":%" PRIu32 ",\"live\":%" PRIu32
		",\"since\":%" PRIu64,
		extent->origin, extent->slot_size, extent->slots, extent->live, extent->since);
	if (with_slots)
		write_slots(stream, extent);
}

static void write_extent(FILE *stream, const Mempool__Wire__Extent *extent, bool with_slots)
{
	fprintf(stream, "{\"offset\":%" PRIu64 ",\"size\":%" PRIu64 ",\"state\":\"%s\"", extent->offset, extent->size,
		state_name(extent->state));
	if (extent->state == MEMPOOL__WIRE__EXTENT_STATE__EXTENT_LEASED) {
		write_slab(stream, extent, with_slots);
	} else if (extent->state != MEMPOOL__WIRE__EXTENT_STATE__EXTENT_FREE) {
		write_owner(stream, extent->owner);
		fprintf(stream,
			",\"origin\":%" PRIu64 ",\"block\":%" PRIu64 ",\"requested\":%" PRIu64 ",\"holds\":%" PRIu32
			",\"since\":%" PRIu64,
			extent->origin, extent->block, extent->requested, extent->holds, extent->since);
		if (extent->name.len) {
			fputs(",\"name\":", stream);
			write_name(stream, extent->name);
		}
	}
	fputc('}', stream);
}

/*
 * Pages join without a seam, but the pool may grow between the first of them and the last. So "total" comes at the end, and is the
 * sum of what was written: the document is true in itself.
 */
int extents_write_json(struct mempool_pool *pool, FILE *stream, bool with_slots)
{
	struct extents extents = {.pool = pool, .with_slots = with_slots};
	uint64_t total = 0, first = pool->first;
	const char *comma = "";
	int r;

	r = extents_page(&extents, "visualize");
	if (r < 0)
		return r;
	fputs("{\"name\":", stream);
	write_name(stream, name_bytes(pool->name));
	fprintf(stream, ",\"first\":%" PRIu64 ",\"extents\":[", first);
	while (r > 0) {
		for (size_t i = 0; i < extents.page->n_extents; i++) {
			fprintf(stream, "%s\n", comma);
			write_extent(stream, extents.page->extents[i], with_slots);
			total += extents.page->extents[i]->size;
			comma = ",";
		}
		r = extents_page(&extents, "visualize");
	}
	fprintf(stream, "],\n\"total\":%" PRIu64 "}\n", total);
	return r;
}

/* ---- for people ---- */

static void write_slots_as_lines(FILE *stream, const Mempool__Wire__Extent *extent)
{
	char name[72];

	for (size_t i = 0; i < extent->n_live_slots; i++) {
		const Mempool__Wire__Slot *slot = extent->live_slots[i];

		fprintf(stream, "  %#14" PRIx64 " %12" PRIu32 "  ", slot->offset, extent->slot_size);
		if (slot->owner)
			fprintf(stream, "session %" PRIu64, slot->owner);
		else
			fputs("pool", stream);
		if (slot->holds > 1)
			fprintf(stream, ", %" PRIu32 " holds", slot->holds);
		text_copy(name, sizeof(name), slot->name);
		fprintf(stream, ", in a slab%s%s%s\n", *name ? ", \"" : "", name, *name ? "\"" : "");
	}
}

static void write_block(FILE *stream, const Mempool__Wire__Extent *extent, uint64_t now_s)
{
	char name[72];

	if (extent->state == MEMPOOL__WIRE__EXTENT_STATE__EXTENT_LEASED) {
		write_slots_as_lines(stream, extent);
		return;
	}
	fprintf(stream, "  %#14" PRIx64 " %12" PRIu64 "  ", extent->block, extent->requested);
	if (extent->owner)
		fprintf(stream, "session %" PRIu64, extent->owner);
	else
		fputs("pool", stream);
	if (extent->origin && extent->origin != extent->owner)
		fprintf(stream, ", from session %" PRIu64, extent->origin);
	if (extent->holds > 1)
		fprintf(stream, ", %" PRIu32 " holds", extent->holds);
	fprintf(stream, ", %" PRIu64 " s", now_s > extent->since ? now_s - extent->since : 0);
	text_copy(name, sizeof(name), extent->name);
	fprintf(stream, "%s%s%s\n", *name ? ", \"" : "", name, *name ? "\"" : "");
}

int extents_write_blocks(struct mempool_pool *pool, FILE *stream)
{
	struct extents extents = {.pool = pool, .with_slots = true};
	uint64_t now_s = (uint64_t)time(NULL);
	int r;

	fputs("blocks: offset, bytes asked for, whose, for how long, name\n", stream);
	while ((r = extents_page(&extents, "visualize")) > 0)
		for (size_t i = 0; i < extents.page->n_extents; i++)
			if (extents.page->extents[i]->state != MEMPOOL__WIRE__EXTENT_STATE__EXTENT_FREE)
				write_block(stream, extents.page->extents[i], now_s);
	return r;
}
