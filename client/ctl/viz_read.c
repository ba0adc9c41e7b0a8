// SPDX-License-Identifier: MIT
/*
 * The library writes its JSON into a stream of ours. It is cut, while it passes, into the objects of its list: they begin at the
 * second brace and end where that is closed. Each is parsed by itself, and forgotten.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/viz_read.h"

#define OBJECT_BYTES_MAX (16u << 20) /* with all live slots of a slab in it; more is no extent */

struct reader {
	struct viz_map *map;
	int r;		/* what went wrong first */
	unsigned depth; /* of braces */
	bool in_string, is_escaped;
	char *text; /* [n]: of the object so far */
	size_t n, n_room;
};

static uint64_t number_of(const json_t *object, const char *key)
{
	json_int_t number = json_integer_value(json_object_get(object, key));

	return number > 0 ? (uint64_t)number : 0;
}

/* piece_of() - an extent as JSON. Return: whether it is one */
static bool piece_of(const json_t *extent, struct viz_piece *piece)
{
	const char *state = json_string_value(json_object_get(extent, "state"));
	uint64_t live = number_of(extent, "live"), slot_size = number_of(extent, "slot_size"), used;

	*piece = (struct viz_piece){
		.offset = number_of(extent, "offset"),
		.size = number_of(extent, "size"),
		.owner = number_of(extent, "owner"), /* "pool" is no number: VIZ_POOL */
	};
	if (!state || !piece->size)
		return false;
	if (!strcmp(state, "allocated")) {
		piece->used = piece->size;
		piece->n_blocks = 1;
	} else if (!strcmp(state, "leased")) {
		if (__builtin_mul_overflow(live, slot_size, &used) || used > piece->size)
			return false;
		piece->used = used;
		piece->idle = piece->size - used;
		piece->n_blocks = live;
	}
	return true;
}

static int object_ends(struct reader *reader)
{
	json_t *extent = json_loadb(reader->text, reader->n, 0, NULL);
	struct viz_piece piece;
	int r = extent && piece_of(extent, &piece) ? viz_map_add(reader->map, &piece) : -EPROTO;

	json_decref(extent);
	reader->n = 0;
	return r;
}

static int keep(struct reader *reader, char c)
{
	if (reader->n == reader->n_room) {
		size_t n_room = reader->n_room ? 2 * reader->n_room : 256;
		char *text = n_room <= OBJECT_BYTES_MAX ? realloc(reader->text, n_room) : NULL;

		if (!text)
			return -ENOMEM;
		reader->text = text;
		reader->n_room = n_room;
	}
	reader->text[reader->n++] = c;
	return 0;
}

static int take(struct reader *reader, char c)
{
	int r = 0;

	if (reader->in_string) {
		reader->in_string = reader->is_escaped || c != '"';
		reader->is_escaped = !reader->is_escaped && c == '\\';
	} else if (c == '"') {
		reader->in_string = true;
	} else if (c == '{') {
		reader->depth++;
	}
	if (reader->depth >= 2)
		r = keep(reader, c);
	if (!reader->in_string && c == '}' && reader->depth && reader->depth-- == 2 && !r)
		r = object_ends(reader);
	return r;
}

static ssize_t write_cb(void *cookie, const char *bytes, size_t n)
{
	struct reader *reader = cookie;

	for (size_t i = 0; i < n && !reader->r; i++)
		reader->r = take(reader, bytes[i]);
	return reader->r ? -1 : (ssize_t)n;
}

int viz_read(struct mempool_pool *pool, struct viz_map *map)
{
	const struct mempool_visualize_options options = {.struct_size = sizeof(options),
							  .format = MEMPOOL_FORMAT_JSON};
	struct reader reader = {.map = map};
	FILE *stream = fopencookie(&reader, "w", (cookie_io_functions_t){.write = write_cb});
	int r;

	if (!stream)
		return -ENOMEM;
	r = mempool_pool_visualize(pool, stream, &options);
	fclose(stream); /* the last bytes pass here; how that went is in reader.r */
	free(reader.text);
	if (reader.r)
		return reader.r == -EINVAL ? -EPROTO : reader.r;
	if (r)
		return r;
	return map->n_extents ? viz_map_settle(map) : -EPROTO;
}
