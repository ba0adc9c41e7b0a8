// SPDX-License-Identifier: MIT
/* The sentence of an allocation that failed: what was asked, what is there, who has the rest, what would help. */
#include <stdarg.h>
#include <string.h>

#include "pool/pool_internal.h"

#define N_EXPLAINED 3u /* holders that a sentence names */

struct sentence {
	char *text;
	size_t n, n_bytes;
};

static PRINTF(2, 3) void say(struct sentence *sentence, const char *format, ...)
{
	size_t room = sentence->n_bytes - sentence->n;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(sentence->text + sentence->n, room, format, args);
	va_end(args);
	if (n > 0)
		sentence->n += (size_t)n < room ? (size_t)n : room - 1;
}

struct size_text size_text(uint64_t n_bytes)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)n_bytes / 1024;
	struct size_text out;
	size_t unit = 0;

	if (n_bytes < 10000) {
		snprintf(out.text, sizeof(out.text), "%llu byte%s", (unsigned long long)n_bytes,
			 n_bytes == 1 ? "" : "s");
		return out;
	}
	while (value >= 1000 && unit + 1 < N_ELEMENTS(units)) {
		value /= 1024;
		unit++;
	}
	snprintf(out.text, sizeof(out.text), "%.*f %s", value < 10 ? 2 : value < 100 ? 1 : 0, value, units[unit]);
	return out;
}

static void say_size(struct sentence *sentence, uint64_t n_bytes)
{
	say(sentence, "%s", size_text(n_bytes).text);
}

static void say_holders(struct sentence *sentence, const struct pool_holder holders[], uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		say(sentence, "%s", i ? ", " : "; held by ");
		if (holders[i].session)
			say(sentence, "pid %d (%.*s) ", holders[i].pid, (int)sizeof(holders[i].command),
			    holders[i].command);
		else
			say(sentence, "the pool itself ");
		say_size(sentence, holders[i].n_bytes);
	}
}

static void say_pool(struct sentence *sentence, const struct pool *pool)
{
	if (pool_is_private(pool))
		say(sentence, " in private pool %llu: ", (unsigned long long)pool->id);
	else
		say(sentence, " in pool \"%.*s\": ", (int)pool->options.n_name_bytes, pool->options.name);
}

struct figures {
	uint64_t total, free, largest_free, backed, idle;
	struct pool_holder holders[N_EXPLAINED];
	uint32_t n_holders;
};

/* Where many have their requests refused, the words of a large pool are not read for each of them. */
static void look(struct pool *pool, struct figures *figures)
{
	const struct extent_map *map = &pool->map;
	uint64_t largest, live;

	pool_lock(pool);
	if (lease_is_large(pool))
		lease_count_lately(pool, true);
	else
		(void)lease_count_live(pool, true, &live);
	live = pool->lease.live_bytes < map->leased_bytes ? pool->lease.live_bytes : map->leased_bytes;
	largest = extent_map_largest_gap(map);
	note_peak(pool);
	*figures = (struct figures){
		.total = map->total_bytes,
		.free = map->free_bytes,
		.largest_free = largest > 2 * pool->guard_bytes ? largest - 2 * pool->guard_bytes : 0,
		.backed = backed_bytes(pool),
		.idle = map->leased_bytes - live,
	};
	figures->n_holders = top_holders(pool, figures->holders, N_EXPLAINED);
	pool_unlock(pool);
}

/* What no request can have: free slots in magazines of heaps that do not stop at a slow path, or in slabs with live ones. */
static void say_cached(struct sentence *sentence, struct pool *pool, uint64_t idle_bytes)
{
	struct pool_holder top = {0};
	uint64_t cached;

	if (!idle_bytes)
		return;
	say(sentence, "; ");
	say_size(sentence, idle_bytes);
	say(sentence, " is idle in slabs");
	cached = top_cacher(pool, &top);
	if (!cached)
		return;
	say(sentence, ", of which ");
	say_size(sentence, cached);
	say(sentence, " is cached, most by pid %d (%.*s)", top.pid, (int)sizeof(top.command), top.command);
}

/* Where three digits hide why it does not fit: how many bytes are missing. */
static void say_gap(struct sentence *sentence, uint64_t largest, uint64_t asked)
{
	say(sentence, ", the largest gap takes ");
	say_size(sentence, largest);
	if (asked > largest && !strcmp(size_text(asked).text, size_text(largest).text)) {
		say(sentence, ", ");
		say_size(sentence, asked - largest);
		say(sentence, " too little");
	}
}

static void say_help(struct sentence *sentence, const struct pool *pool, int outcome, uint64_t total)
{
	if (outcome == POOL_E_UNBACKED) {
		say(sentence, "; free blocks or other files in /dev/shm");
	} else if (total < pool->options.max_size) {
		say(sentence, "; free blocks, or grow the pool: it may have ");
		say_size(sentence, pool->options.max_size);
	} else {
		say(sentence, "; free blocks, or create a larger pool: this one was not made to grow");
	}
}

void pool_explain_full(struct pool *pool, int outcome, uint64_t size, uint64_t alignment, char *out, size_t n_bytes)
{
	struct sentence sentence = {.text = out, .n_bytes = n_bytes};
	struct figures figures;

	if (!n_bytes)
		return;
	out[0] = '\0';
	look(pool, &figures);
	say(&sentence, "allocating ");
	say_size(&sentence, size);
	if (alignment > EXTENT_GRANULE) {
		say(&sentence, " at a multiple of ");
		say_size(&sentence, alignment);
	}
	say_pool(&sentence, pool);
	say(&sentence, "%s of %s is free", figures.free ? size_text(figures.free).text : "nothing",
	    size_text(figures.total).text);
	if (figures.free)
		say_gap(&sentence, figures.largest_free, size);
	if (outcome == POOL_E_UNBACKED) {
		say(&sentence, ", but the machine has no memory for it (");
		say_size(&sentence, figures.backed);
		say(&sentence, " is backed)");
	}
	say_cached(&sentence, pool, figures.idle);
	say_holders(&sentence, figures.holders, figures.n_holders);
	say_help(&sentence, pool, outcome, figures.total);
}
