// SPDX-License-Identifier: MIT
/*
 * An instruction that no process survives is written over the first one of a function that is called in the midst of updates.
 * Whichever thread comes by there dies of it, and the whole process with it, at that instruction; as by SIGKILL, nothing of it
 * runs any more. (Debug registers would do without touching the program; not every virtual machine has them.)
 */
#include "kill_aim.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define AIM_MS 300 /* longest wait for a thread to come by: only an idle daemon needs it */

#if defined(__x86_64__)
static const unsigned char trap[] = {0xcc}; /* int3 */
#elif defined(__aarch64__)
static const unsigned char trap[] = {0x00, 0x00, 0x20, 0xd4}; /* brk #0 */
#else
static const unsigned char trap[] = {0}; /* illegal on most */
#endif

/* Each has its callers' notes behind it and its callers' commit before it, some of its own in it. */
static const char *const places[] = {
	"result_put", "result_put_progress", "extent_map_give", "extent_map_own", "hold_drop",
	"block_pass", "block_begin",	     "block_name_add",	"record_take",	  "result_put_batch",
};

static uint64_t symbol_in(const unsigned char *image, size_t n_bytes, const char *name)
{
	const ElfW(Ehdr) *elf = (const void *)image;
	const ElfW(Shdr) *sections = (const void *)(image + elf->e_shoff);

	if (n_bytes < sizeof(*elf) || elf->e_shoff + elf->e_shnum * sizeof(*sections) > n_bytes)
		return 0;
	for (unsigned i = 0; i < elf->e_shnum; i++) {
		const ElfW(Sym) *symbols = (const void *)(image + sections[i].sh_offset);
		const char *names;

		if (sections[i].sh_type != SHT_SYMTAB)
			continue;
		names = (const char *)image + sections[sections[i].sh_link].sh_offset;
		for (size_t k = 0; k < sections[i].sh_size / sizeof(*symbols); k++)
			if (!strcmp(names + symbols[k].st_name, name))
				return symbols[k].st_value;
	}
	return 0;
}

/* Return: where the function begins, relative to where the program is loaded; 0: the program does not tell */
static uint64_t find_symbol(const char *program, const char *name)
{
	int fd = open(program, O_RDONLY | O_CLOEXEC);
	void *image = MAP_FAILED;
	uint64_t value = 0;
	struct stat st;

	if (fd < 0)
		return 0;
	if (!fstat(fd, &st))
		image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (image == MAP_FAILED)
		return 0;
	value = symbol_in(image, (size_t)st.st_size, name);
	munmap(image, (size_t)st.st_size);
	return value;
}

/* Where the program's first page is. A sanitizer maps other things before it. */
static uint64_t base_of(pid_t pid)
{
	char path[64], program[512] = "", line[768];
	uint64_t base = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	if (readlink(path, program, sizeof(program) - 1) <= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "r");
	while (maps && !base && fgets(line, sizeof(line), maps))
		base = strstr(line, program) ? strtoull(line, NULL, 16) : 0;
	if (maps)
		fclose(maps);
	return base;
}

int kill_aim(pid_t pid, int pidfd, struct rnd *rnd)
{
	const char *place = places[rnd_below(rnd, N_ELEMENTS(places))];
	struct pollfd death = {.fd = pidfd, .events = POLLIN};
	char path[64];
	uint64_t at;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	at = find_symbol(path, place);
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	fd = at ? open(path, O_WRONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return 0;
	n = pwrite(fd, trap, sizeof(trap), (off_t)(base_of(pid) + at));
	close(fd);
	return n == (ssize_t)sizeof(trap) && poll(&death, 1, AIM_MS) == 1;
}
