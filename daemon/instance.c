// SPDX-License-Identifier: MIT
#include "instance.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOCKET_NAME "mempoold.sock"

static bool is_given(const char *text)
{
	return text && *text;
}

static void free_textp(char **textp)
{
	free(*textp);
}

/* @path with its folder resolved: two spellings of one socket must be one instance. */
static int resolve(const char *path, char out[static INSTANCE_SOCKET_BYTES], char *why, size_t n_bytes)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	CLEANUP(free_textp) char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	CLEANUP(free_textp) char *real = dir ? realpath(dir, NULL) : NULL;
	int n;

	if (!real) {
		snprintf(why, n_bytes, "the socket's folder %s: %s", dir ? dir : path, strerror(errno));
		return INSTANCE_E_REFUSED;
	}
	if (!*name || !strcmp(name, ".") || !strcmp(name, "..")) {
		snprintf(why, n_bytes, "%s is a folder: name the socket in it", path);
		return INSTANCE_E_REFUSED;
	}
	n = snprintf(out, INSTANCE_SOCKET_BYTES, "%s/%s", strcmp(real, "/") ? real : "", name);
	if (n >= INSTANCE_SOCKET_BYTES) {
		snprintf(why, n_bytes,
			 "the socket's path %s/%s has %d bytes, and a socket's may have %d: choose a shorter one", real,
			 name, n, INSTANCE_SOCKET_BYTES - 1);
		return INSTANCE_E_REFUSED;
	}
	return 0;
}

static int try_dir(const char *dir, char path[static INSTANCE_SOCKET_BYTES], char *why, size_t n_bytes)
{
	char wanted[PATH_MAX];

	if (access(dir, W_OK | X_OK)) {
		snprintf(why, n_bytes, "%s: %s", dir, strerror(errno));
		return INSTANCE_E_REFUSED;
	}
	if ((size_t)snprintf(wanted, sizeof(wanted), "%s/" SOCKET_NAME, dir) >= sizeof(wanted)) {
		snprintf(why, n_bytes, "%s: %s", dir, strerror(ENAMETOOLONG));
		return INSTANCE_E_REFUSED;
	}
	return resolve(wanted, path, why, n_bytes);
}

int instance_choose_socket(const struct instance_places *places, char path[static INSTANCE_SOCKET_BYTES], char *why,
			   size_t n_bytes)
{
	char why_runtime[256] = "$XDG_RUNTIME_DIR is not set", why_system[256];

	if (is_given(places->option))
		return resolve(places->option, path, why, n_bytes);
	if (is_given(places->environment))
		return resolve(places->environment, path, why, n_bytes);
	if (is_given(places->runtime_dir) && !try_dir(places->runtime_dir, path, why_runtime, sizeof(why_runtime)))
		return 0;
	if (!mkdir(places->system_dir, 0755))
		(void)!chmod(places->system_dir, 0755); /* whatever the umask: clients of every user come in */
	if (!try_dir(places->system_dir, path, why_system, sizeof(why_system)))
		return 0;
	snprintf(why, n_bytes, "no place for a socket (%s; %s): name one with --socket", why_runtime, why_system);
	return INSTANCE_E_REFUSED;
}

/* ---- names ---- */

static bool char_is_plain(char c) /* stands for itself in a name made from a path */
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
	       c == '-';
}

/* "<instance>.<32 hex digits>" is a segment of <instance>; an instance of that name would be swept away with it. */
static bool looks_like_segment(const char *name, size_t n)
{
	if (n < 33 || name[n - 33] != '.')
		return false;
	return strspn(name + n - 32, "0123456789abcdefABCDEF") == 32;
}

bool instance_name_is_valid(const char *name)
{
	size_t n = strlen(name);

	if (!n || n > INSTANCE_NAME_MAX || looks_like_segment(name, n))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!char_is_plain(name[i]) && !strchr("+%~", name[i]))
			return false;
	}
	return true;
}

static uint64_t hash_text(
	const char *text) /* FNV-1a; nobody gains by a collision but a refused start of his own daemon */
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return hash;
}

void instance_name_from_socket(const char *path, char name[static INSTANCE_NAME_MAX + 1])
{
	char full[3 * INSTANCE_SOCKET_BYTES];
	size_t n = 0;

	for (const char *at = path + (*path == '/'); *at && n < sizeof(full) - 4; at++) {
		if (*at == '/')
			full[n++] = '+';
		else if (char_is_plain(*at))
			full[n++] = *at;
		else
			n += (size_t)sprintf(full + n, "%%%02X", (unsigned)(unsigned char)*at);
	}
	full[n] = '\0';
	if (instance_name_is_valid(full)) {
		memcpy(name, full, n + 1);
		return;
	}
	/* The end of a path tells more than its beginning; '~' is in no unhashed name. */
	snprintf(name, INSTANCE_NAME_MAX + 1, "%.60s~%016" PRIx64, n > 60 ? full + n - 60 : full, hash_text(path));
}
