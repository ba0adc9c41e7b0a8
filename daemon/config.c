// SPDX-License-Identifier: MIT
/*
 * config - inih splits lines; what they mean, and what is refused, is here
 *
 * inih cuts a line at 200 bytes and a section's name at 50 without a word, takes an indented line for the rest of the
 * line above, and names no line to its callback. So it is fed by read_line_cb(), which counts lines, refuses long ones,
 * takes indentation away and reads section headers itself; inih's own idea of the section is not looked at.
 *
 * The first mistake ends the reading: reading.failed is set together with the sentence, and nothing is looked at any more.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <ini.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "value.h"

enum section {
	SECTION_NONE,
	SECTION_LIMITS,
	SECTION_QUOTA,
	SECTION_POOL,
};

struct reading {
	struct config config;
	const char *path;
	FILE *file;
	char *text; /* of getline() */
	size_t n_text_room;
	unsigned line;
	enum section section;
	unsigned section_line;
	char title[NAME_BYTES_MAX + 16]; /* of the section, as in the file */
	uint64_t seen;			 /* keys of this section, by index: limits_table's or pool_keys' */
	bool seen_limits[2];		 /* the sections [limits] and [quota] */
	char *why;
	size_t n_why;
	int failed; /* 0, CONFIG_E_REFUSED, -errno */
};

static void close_filep(FILE **filep)
{
	if (*filep)
		fclose(*filep);
}

static void reading_deinitp(struct reading *reading)
{
	free(reading->text);
	config_deinit(&reading->config);
}

static void PRINTF(3, 4) fail_at(struct reading *reading, unsigned line, const char *format, ...)
{
	int n = snprintf(reading->why, reading->n_why, "%s:%u: ", reading->path, line);
	va_list args;

	if (n > 0 && (size_t)n < reading->n_why) {
		va_start(args, format);
		vsnprintf(reading->why + n, reading->n_why - (size_t)n, format, args);
		va_end(args);
	}
	reading->failed = CONFIG_E_REFUSED;
}

static void fail_errno(struct reading *reading, int r)
{
	snprintf(reading->why, reading->n_why, "cannot read the configuration %s: %s", reading->path, strerror(-r));
	reading->failed = r;
}

/* ---- values ---- */

/* Whatever a value's parser said about @text: a sentence with the form that was expected. */
static bool accept(struct reading *reading, int r, const char *key, const char *text, const char *form)
{
	if (r)
		fail_at(reading, reading->line, "bad value '%s' of '%s' in [%s]: %s", text, key, reading->title, form);
	return !r;
}

static const char *const unit_forms[] = {
	[LIMITS_BYTES] = "bytes are a number, with K, M, G or T, or a share of /dev/shm as 50%",
	[LIMITS_COUNT] = "a count is a number",
	[LIMITS_MS] = "a time is a number with ms, s or m",
};

static bool set_limit(struct reading *reading, const struct limits_entry *entry, const char *text)
{
	uint64_t value = UINT64_MAX;
	int r = 0;

	if (entry->max != UINT64_MAX || strcmp(text, "none")) {
		switch (entry->unit) {
		case LIMITS_BYTES:
			r = value_parse_bytes(text, &value);
			break;
		case LIMITS_COUNT:
			r = value_parse_count(text, &value);
			break;
		case LIMITS_MS:
			r = value_parse_ms(text, &value);
			break;
		}
	}
	if (!accept(reading, r, entry->key, text, unit_forms[entry->unit]))
		return false;
	if (value < entry->min || value > entry->max) {
		fail_at(reading, reading->line, "'%s' in [%s] is %" PRIu64 " to %" PRIu64 "%s, not %s", entry->key,
			reading->title, entry->min, entry->max, entry->unit == LIMITS_MS ? " ms" : "", text);
		return false;
	}
	*limits_value(&reading->config.limits, entry) = value;
	return true;
}

static bool set_size(struct reading *reading, const char *key, const char *text, uint64_t *sizep)
{
	if (!accept(reading, value_parse_bytes(text, sizep), key, text, unit_forms[LIMITS_BYTES]))
		return false;
	return accept(reading, *sizep ? 0 : -ERANGE, key, text, "a pool has at least one byte");
}

static bool set_group(struct reading *reading, const char *text, uint32_t *gidp)
{
	char room[16384]; /* more than any group line that NSS was seen to give; it says ERANGE otherwise */
	struct group group, *found = NULL;
	uint64_t gid;
	int r;

	if (!value_parse_count(text, &gid) && gid < UINT32_MAX) {
		*gidp = (uint32_t)gid;
		return true;
	}
	r = getgrnam_r(text, &group, room, sizeof(room), &found);
	if (found)
		*gidp = found->gr_gid;
	else
		fail_at(reading, reading->line, "bad value '%s' of 'group' in [%s]: %s", text, reading->title,
			r ? strerror(r) : "there is no such group");
	return found;
}

static bool set_choice(struct reading *reading, const char *key, const char *text, const char *const choices[],
		       const char *form, uint32_t *valuep)
{
	return accept(reading, value_parse_choice(text, choices, valuep), key, text, form);
}

static const char *const pool_keys[] = {"size", "max_size", "mode",  "group",	"lifetime",
					"fill", "lease",    "guard", "reserve", NULL};

static bool set_pool_key(struct reading *reading, const char *key, const char *text)
{
	static const char *const lifetimes[] = {"session", "pool", NULL}; /* in the order of the public enums */
	static const char *const fills[] = {"pattern", "none", "zero", NULL};
	static const char *const leases[] = {"auto", "off", NULL};
	struct pool_options *pool = &reading->config.pools[reading->config.n_pools - 1];

	if (!strcmp(key, "size"))
		return set_size(reading, key, text, &pool->size);
	if (!strcmp(key, "max_size"))
		return set_size(reading, key, text, &pool->max_size);
	if (!strcmp(key, "mode"))
		return accept(reading, value_parse_mode(text, &pool->mode), key, text, "a mode is octal, up to 0777");
	if (!strcmp(key, "group"))
		return set_group(reading, text, &pool->gid);
	if (!strcmp(key, "lifetime"))
		return set_choice(reading, key, text, lifetimes, "session or pool", &pool->lifetime);
	if (!strcmp(key, "fill"))
		return set_choice(reading, key, text, fills, "pattern, none or zero", &pool->fill);
	if (!strcmp(key, "lease"))
		return set_choice(reading, key, text, leases, "auto or off", &pool->lease);
	return accept(reading, value_parse_yes(text, strcmp(key, "guard") ? &pool->reserve : &pool->guard), key, text,
		      "yes or no");
}

/* ---- keys ---- */

static void refuse_key(struct reading *reading, const char *key, const char *const keys[])
{
	const char *nearest = value_nearest(key, keys);

	if (nearest)
		fail_at(reading, reading->line, "unknown key '%s' in [%s], did you mean '%s'?", key, reading->title,
			nearest);
	else
		fail_at(reading, reading->line, "unknown key '%s' in [%s]: mempoold.conf.example has all there are",
			key, reading->title);
}

static bool is_first(struct reading *reading, unsigned index, const char *key)
{
	uint64_t bit = UINT64_C(1) << index;

	if (reading->seen & bit)
		fail_at(reading, reading->line, "'%s' in [%s] is given twice", key, reading->title);
	reading->seen |= bit;
	return !reading->failed;
}

static void take_limit(struct reading *reading, const char *section, const char *key, const char *text)
{
	const char *keys[64] = {NULL};
	size_t n_keys = 0;

	assert(limits_table_n < N_ELEMENTS(keys));
	for (size_t i = 0; i < limits_table_n; i++) {
		if (strcmp(limits_table[i].section, section))
			continue;
		if (!strcmp(limits_table[i].key, key)) {
			if (is_first(reading, (unsigned)i, key))
				set_limit(reading, &limits_table[i], text);
			return;
		}
		keys[n_keys++] = limits_table[i].key;
	}
	refuse_key(reading, key, keys);
}

static void take_pool_key(struct reading *reading, const char *key, const char *text)
{
	uint32_t index;

	if (value_parse_choice(key, pool_keys, &index))
		refuse_key(reading, key, pool_keys);
	else if (is_first(reading, index, key))
		set_pool_key(reading, key, text);
}

static int take_key_cb(void *arg, const char *inih_section, const char *key, const char *text)
{
	struct reading *reading = arg;

	(void)inih_section; /* cut at 50 bytes: read_line_cb() keeps the whole */
	if (reading->failed)
		return 0;
	switch (reading->section) {
	case SECTION_NONE:
		fail_at(reading, reading->line, "'%s' stands before the first section", key);
		break;
	case SECTION_LIMITS:
		take_limit(reading, "limits", key, text);
		break;
	case SECTION_QUOTA:
		take_limit(reading, "quota", key, text);
		break;
	case SECTION_POOL:
		take_pool_key(reading, key, text);
		break;
	}
	return !reading->failed;
}

/* ---- sections ---- */

static void end_section(struct reading *reading)
{
	const struct pool_options *pool;

	if (reading->section != SECTION_POOL)
		return;
	pool = &reading->config.pools[reading->config.n_pools - 1];
	if (!pool->size)
		fail_at(reading, reading->section_line, "[%s] has no 'size'", reading->title);
	else if (pool->max_size && pool->max_size < pool->size)
		fail_at(reading, reading->section_line, "[%s]: 'max_size' is below 'size'", reading->title);
}

static void begin_pool(struct reading *reading, const char *name, size_t n_name)
{
	struct config *config = &reading->config;
	struct pool_options *pools;

	if (!name_is_valid(name, n_name)) {
		fail_at(reading, reading->line, "'%.*s' cannot name a pool: 1 to %d of A-Z a-z 0-9 . _ -", (int)n_name,
			name, NAME_BYTES_MAX);
		return;
	}
	for (size_t i = 0; i < config->n_pools; i++) {
		if (config->pools[i].n_name_bytes == n_name && !memcmp(config->pools[i].name, name, n_name)) {
			fail_at(reading, reading->line, "[%s] is given twice", reading->title);
			return;
		}
	}
	pools = reallocarray(config->pools, config->n_pools + 1, sizeof(*pools));
	if (!pools) {
		fail_errno(reading, -ENOMEM);
		return;
	}
	config->pools = pools;
	pools += config->n_pools++;
	*pools = (struct pool_options){
		.n_name_bytes = (uint32_t)n_name, .uid = geteuid(), .gid = getegid(), .mode = 0600};
	memcpy(pools->name, name, n_name);
	reading->section = SECTION_POOL;
}

static bool is_pool_title(const char *title, const char **namep, size_t *n_namep)
{
	size_t n = strlen(title);

	if (strncmp(title, "pool \"", 6) || n < 7 || title[n - 1] != '"')
		return false;
	*namep = title + 6;
	*n_namep = n - 7;
	return true;
}

static void begin_once(struct reading *reading, enum section section)
{
	bool *seen = &reading->seen_limits[section == SECTION_QUOTA];

	if (*seen)
		fail_at(reading, reading->line, "[%s] is given twice", reading->title);
	*seen = true;
	reading->section = section;
}

static void refuse_section(struct reading *reading)
{
	static const char *const titles[] = {"limits", "quota", "pool \"NAME\"", NULL};
	const char *nearest = strncmp(reading->title, "pool", 4) ? value_nearest(reading->title, titles) : titles[2];

	if (nearest)
		fail_at(reading, reading->line, "unknown section [%s], did you mean [%s]?", reading->title, nearest);
	else
		fail_at(reading, reading->line, "unknown section [%s]: there are [limits], [quota] and [pool \"NAME\"]",
			reading->title);
}

/* @header begins behind the '['. */
static void begin_section(struct reading *reading, const char *header)
{
	const char *end = strchr(header, ']'), *name;
	size_t n_name;

	end_section(reading);
	if (reading->failed)
		return;
	reading->section = SECTION_NONE;
	reading->section_line = reading->line;
	reading->seen = 0;
	if (!end || end[1 + strspn(end + 1, " \t\r\n")]) {
		fail_at(reading, reading->line, "a section is [limits], [quota] or [pool \"NAME\"], alone on its line");
		return;
	}
	if ((size_t)(end - header) >= sizeof(reading->title)) {
		fail_at(reading, reading->line, "the section's name is too long");
		return;
	}
	memcpy(reading->title, header, (size_t)(end - header));
	reading->title[end - header] = '\0';
	if (!strcmp(reading->title, "limits"))
		begin_once(reading, SECTION_LIMITS);
	else if (!strcmp(reading->title, "quota"))
		begin_once(reading, SECTION_QUOTA);
	else if (is_pool_title(reading->title, &name, &n_name))
		begin_pool(reading, name, n_name);
	else
		refuse_section(reading);
}

/* ---- lines ---- */

/* What inih calls for each line, in fgets()'s place. */
static char *read_line_cb(char *out, int n_room, void *arg)
{
	struct reading *reading = arg;
	const char *text;
	ssize_t n;

	if (reading->failed)
		return NULL;
	errno = 0;
	n = getline(&reading->text, &reading->n_text_room, reading->file);
	if (n < 0) {
		if (errno)
			fail_errno(reading, -errno);
		return NULL;
	}
	reading->line++;
	text = reading->text;
	if (memchr(text, '\0', (size_t)n))
		fail_at(reading, reading->line, "this is not a text file");
	else if (n >= n_room)
		fail_at(reading, reading->line, "the line is longer than %d bytes", n_room - 2);
	if (reading->failed)
		return NULL;
	if (reading->line == 1 && !strncmp(text, "\xef\xbb\xbf", 3))
		text += 3; /* byte order mark */
	text += strspn(text, " \t");
	strcpy(out, text); /* fits: n < n_room */
	if (*text == '[')
		begin_section(reading, text + 1);
	return reading->failed ? NULL : out;
}

static void read_all(struct reading *reading)
{
	char contradiction[160];
	int line = ini_parse_stream(read_line_cb, reading, take_key_cb, reading);

	if (!reading->failed && line)
		fail_at(reading, (unsigned)line, "this is neither 'key = value' nor a section");
	if (!reading->failed)
		end_section(reading);
	if (!reading->failed && limits_settle(&reading->config.limits, contradiction, sizeof(contradiction))) {
		snprintf(reading->why, reading->n_why, "%s: %s", reading->path, contradiction);
		reading->failed = CONFIG_E_REFUSED;
	}
}

int config_load(struct config *config, const char *path, char *why, size_t n_bytes)
{
	CLEANUP(close_filep) FILE *file = fopen(path, "re");
	CLEANUP(reading_deinitp) struct reading reading = {.path = path, .file = file, .why = why, .n_why = n_bytes};

	if (!file) {
		fail_errno(&reading, -errno);
		return reading.failed;
	}
	config_default(&reading.config);
	read_all(&reading);
	if (reading.failed)
		return reading.failed;
	*config = reading.config;
	reading.config = (struct config){0};
	return 0;
}

void config_default(struct config *config)
{
	*config = (struct config){0};
	limits_default(&config->limits);
}

void config_deinit(struct config *config)
{
	free(config->pools);
	config->pools = NULL;
	config->n_pools = 0;
}
