// SPDX-License-Identifier: MIT
#include "value.h"

#include <errno.h>
#include <string.h>

#include "server/limits.h"

/* Digits up to the first other character, which is where *restp points. */
static int parse_digits(const char *text, unsigned base, uint64_t *numberp, const char **restp)
{
	uint64_t number = 0;
	const char *at = text;

	for (; *at >= '0' && *at < (char)('0' + base); at++) {
		if (__builtin_mul_overflow(number, base, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
			return -ERANGE;
	}
	if (at == text)
		return -EINVAL;
	*numberp = number;
	*restp = at;
	return 0;
}

struct unit {
	const char *name;
	uint64_t factor;
};

static int parse_with_unit(const char *text, const struct unit *units, size_t n_units, uint64_t *numberp)
{
	const char *rest;
	uint64_t number;
	int r = parse_digits(text, 10, &number, &rest);

	if (r)
		return r;
	for (size_t i = 0; i < n_units; i++) {
		if (strcmp(rest, units[i].name))
			continue;
		if (__builtin_mul_overflow(number, units[i].factor, &number))
			return -ERANGE;
		*numberp = number;
		return 0;
	}
	return -EINVAL;
}

int value_parse_count(const char *text, uint64_t *countp)
{
	static const struct unit units[] = {{"", 1}};

	return parse_with_unit(text, units, N_ELEMENTS(units), countp);
}

int value_parse_bytes(const char *text, uint64_t *bytesp)
{
	static const struct unit percent = {"%", 1};
	static const struct unit units[] = {
		{"", 1},
		{"K", UINT64_C(1) << 10},
		{"M", UINT64_C(1) << 20},
		{"G", UINT64_C(1) << 30},
		{"T", UINT64_C(1) << 40},
	};
	uint64_t share;

	if (parse_with_unit(text, &percent, 1, &share))
		return parse_with_unit(text, units, N_ELEMENTS(units), bytesp);
	if (share > 100)
		return -ERANGE;
	*bytesp = limits_share_of_shm((unsigned)share);
	return 0;
}

int value_parse_ms(const char *text, uint64_t *msp)
{
	static const struct unit units[] = {{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}};

	return parse_with_unit(text, units, N_ELEMENTS(units), msp);
}

int value_parse_mode(const char *text, uint32_t *modep)
{
	const char *rest;
	uint64_t mode;
	int r = parse_digits(text, 8, &mode, &rest);

	if (r || *rest)
		return r ? r : -EINVAL;
	if (mode > 0777)
		return -ERANGE;
	*modep = (uint32_t)mode;
	return 0;
}

int value_parse_choice(const char *text, const char *const choices[], uint32_t *indexp)
{
	for (uint32_t i = 0; choices[i]; i++) {
		if (!strcmp(text, choices[i])) {
			*indexp = i;
			return 0;
		}
	}
	return -EINVAL;
}

int value_parse_yes(const char *text, bool *yesp)
{
	static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1", NULL};
	uint32_t index;

	if (value_parse_choice(text, words, &index))
		return -EINVAL;
	*yesp = index & 1;
	return 0;
}

#define NEAREST_BYTES_MAX 48 /* no word of ours is that long */

static size_t min_of(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Insertions, deletions, replacements and swaps of neighbours that make @a into @b; both at most NEAREST_BYTES_MAX long. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t rows[3][NEAREST_BYTES_MAX + 1] = {{0}}, n_a = strlen(a), n_b = strlen(b);

	for (size_t j = 0; j <= n_b; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= n_a; i++) {
		size_t *now = rows[i % 3], *before = rows[(i + 2) % 3], *before_that = rows[(i + 1) % 3];

		now[0] = i;
		for (size_t j = 1; j <= n_b; j++) {
			now[j] = min_of(before[j - 1] + (a[i - 1] != b[j - 1]), min_of(before[j], now[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				now[j] = min_of(now[j], before_that[j - 2] + 1);
		}
	}
	return rows[n_a % 3][n_b];
}

const char *value_nearest(const char *text, const char *const choices[])
{
	const char *nearest = NULL;
	size_t n_text = strlen(text), best = min_of(3, n_text / 2 + 1); /* must be less */

	if (n_text > NEAREST_BYTES_MAX)
		return NULL;
	for (; *choices; choices++) {
		size_t distance = edit_distance(text, *choices);

		if (distance < best) {
			best = distance;
			nearest = *choices;
		}
	}
	return nearest;
}
