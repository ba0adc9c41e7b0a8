// SPDX-License-Identifier: MIT
#include "proto/name.h"

static bool byte_is_valid(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
	       c == '-';
}

bool name_is_valid(const void *name, size_t n_bytes)
{
	const unsigned char *bytes = name;
	size_t n_dots = 0;

	if (!n_bytes || n_bytes > NAME_BYTES_MAX)
		return false;
	for (size_t i = 0; i < n_bytes; i++) {
		if (!byte_is_valid(bytes[i]))
			return false;
		n_dots += bytes[i] == '.';
	}
	return n_dots != n_bytes || n_bytes > 2; /* "." and ".." */
}
