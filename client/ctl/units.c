// SPDX-License-Identifier: MIT
/*
 * A size is read as whole part, decimals and unit, in integers throughout: 1.1T is what 1.1 * 2^40 rounds down to, not
 * what a double makes of it.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "ctl/units.h"

#define DECIMALS_MAX 6 /* keeps decimals * 2^40 within 64 bits; more cannot matter to a person */

static const char unit_letters[] = "KMGT";

/* digits_read() - decimal digits at *textp. Return: whether the number fits */
static bool digits_read(const char **textp, uint64_t *numberp)
{
	uint64_t number = 0;

	for (; isdigit((unsigned char)**textp); (*textp)++) {
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(**textp - '0'), &number))
			return false;
	}
	*numberp = number;
	return true;
}

/* unit_read() - "", "K", "k", "KiB" … to the end of the text. Return: whether it is one */
static bool unit_read(const char *text, unsigned *shiftp)
{
	const char *letter;

	*shiftp = 0;
	if (!*text)
		return true;
	letter = strchr(unit_letters, toupper((unsigned char)*text));
	if (!letter || (text[1] && strcmp(text + 1, "iB")))
		return false;
	*shiftp = 10 * (unsigned)(letter - unit_letters + 1);
	return true;
}

const char *size_parse(const char *text, uint64_t *sizep)
{
	uint64_t whole, decimals = 0, scale = 1, size;
	unsigned shift;
	int n;

	if (!*text)
		return "is empty: give a number of bytes, or one with K, M, G or T";
	if (*text == '-')
		return "is negative";
	if (!isdigit((unsigned char)*text))
		return "is not a size: give a number of bytes, or one with K, M, G or T";
	if (!digits_read(&text, &whole))
		return "is more than 64 bits hold";
	if (*text == '.') {
		text++;
		for (n = 0; isdigit((unsigned char)*text); n++, text++) {
			if (n == DECIMALS_MAX)
				return "has more than six decimals";
			decimals = decimals * 10 + (uint64_t)(*text - '0');
			scale *= 10;
		}
		if (!n)
			return "has no digit after its point";
	}
	if (!unit_read(text, &shift))
		return "has an unknown unit: K, M, G and T are known, powers of 1024";
	if (scale > 1 && !shift)
		return "is not a whole number of bytes";
	if (__builtin_mul_overflow(whole, UINT64_C(1) << shift, &size) ||
	    __builtin_add_overflow(size, (decimals << shift) / scale, &size))
		return "is more than 64 bits hold";
	*sizep = size;
	return NULL;
}

const char *number_parse(const char *text, uint64_t *numberp)
{
	uint64_t number = 0;
	int used = 0;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
		const char *digits = text + 2;

		if (!*digits || digits[strspn(digits, "0123456789abcdefABCDEF")])
			return "is not a number";
		if (strlen(digits + strspn(digits, "0")) > 16)
			return "is more than 64 bits hold";
		if (sscanf(digits, "%" SCNx64 "%n", &number, &used) != 1)
			return "is not a number";
	} else {
		if (!isdigit((unsigned char)*text))
			return "is not a number";
		if (!digits_read(&text, &number))
			return "is more than 64 bits hold";
		if (*text)
			return "is not a number";
	}
	*numberp = number;
	return NULL;
}

const char *size_format(uint64_t size, char *out)
{
	unsigned unit = 0;
	uint64_t tenths;

	while (unit < sizeof(unit_letters) - 1 && size >> (10 * (unit + 1)))
		unit++;
	if (!unit) {
		snprintf(out, UNITS_TEXT_BYTES, "%" PRIu64, size);
		return out;
	}
	if (!(size & ((UINT64_C(1) << (10 * unit)) - 1))) {
		snprintf(out, UNITS_TEXT_BYTES, "%" PRIu64 "%c", size >> (10 * unit), unit_letters[unit - 1]);
		return out;
	}
	/* Only bits below the unit's tenths are lost, so the product cannot wrap. */
	tenths = (size >> (10 * (unit - 1))) * 10 / 1024;
	snprintf(out, UNITS_TEXT_BYTES, "%" PRIu64 ".%" PRIu64 "%c", tenths / 10, tenths % 10, unit_letters[unit - 1]);
	return out;
}

const char *count_format(uint64_t count, char *out)
{
	char digits[UNITS_TEXT_BYTES];
	int n = snprintf(digits, sizeof(digits), "%" PRIu64, count);
	char *at = out;

	for (int i = 0; i < n; i++) {
		if (i && (n - i) % 3 == 0)
			*at++ = ',';
		*at++ = digits[i];
	}
	*at = '\0';
	return out;
}

const char *age_format(uint64_t seconds, char *out)
{
	uint64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;

	if (!minutes)
		snprintf(out, UNITS_TEXT_BYTES, "%" PRIu64 "s", seconds);
	else if (!hours)
		snprintf(out, UNITS_TEXT_BYTES, "%" PRIu64 "m%02" PRIu64 "s", minutes, seconds % 60);
	else if (!days)
		snprintf(out, UNITS_TEXT_BYTES, "%" PRIu64 "h%02" PRIu64 "m", hours, minutes % 60);
	else
		snprintf(out, UNITS_TEXT_BYTES, "%" PRIu64 "d%02" PRIu64 "h", days, hours % 24);
	return out;
}
