// SPDX-License-Identifier: MIT
/*
 * What others see of shared memory changes by a store or by a system call, and by nothing else. So all writable mappings of objects in
 * /dev/shm are made read-only, and the kernel is asked to hand each system call back (syscall user dispatch). A store is a
 * SIGSEGV then, a call a SIGSYS: the handler gives the mappings and the calls free, and has the processor execute just this one instruction
 * (the trap flag); the SIGTRAP behind it takes both back. Of a repeated store each turn is an instruction of its own.
 *
 * After a call the trap comes one instruction late: with the flag masked inside the kernel, it is the next one that is
 * trapped. In the C library that looks at the result, and stores nothing.
 *
 * A read can change something, too: of a page that has no memory yet. That is seen one stop later.
 */
#include "stores.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "must.h"

#define MAPPINGS_MAX	64u
#define STACK_BYTES	65536u
#define TRAP_FLAG	0x100
#define CALL_BYTES	2  /* of the instruction that is a call */
#define SIGRETURN_BYTES 16 /* how handlers return: load the number, call */
#define PREFIX		"/dev/shm/"

struct mapping {
	char *begin;
	size_t n_bytes;
};

static struct mapping mappings[MAPPINGS_MAX]; /* that are writable, but for us */
static unsigned n_mappings;
static bool is_open;  /* to stores */
static bool was_call; /* what is executed now: it may map and unmap */
static volatile char calls = SYSCALL_DISPATCH_FILTER_ALLOW;
static void (*look)(void);

/* ---- the mappings ---- */

/* "begin-end perms offset device inode   path" */
static void add_mapping(const char *line)
{
	char *rest;
	uintptr_t begin = strtoull(line, &rest, 16), end = strtoull(rest + 1, &rest, 16);

	if (rest[2] != 'w' || rest[4] != 's' || !strstr(rest, PREFIX))
		return;
	must(n_mappings < MAPPINGS_MAX, "fewer mappings");
	mappings[n_mappings++] = (struct mapping){.begin = (char *)begin, .n_bytes = end - begin};
}

static void find_mappings(void)
{
	static char text[4096];
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	ssize_t r;

	must(fd >= 0, "/proc/self/maps");
	n_mappings = 0;
	while ((r = read(fd, text + n, sizeof(text) - 1 - n)) > 0) {
		char *line = text, *end;

		text[n += (size_t)r] = '\0';
		for (; (end = strchr(line, '\n')); line = end + 1) {
			*end = '\0';
			add_mapping(line);
		}
		n = strlen(line);
		memmove(text, line, n);
	}
	close(fd);
}

static void set_open(bool on)
{
	is_open = on;
	for (unsigned i = 0; i < n_mappings; i++)
		must(!mprotect(mappings[i].begin, mappings[i].n_bytes, on ? PROT_READ | PROT_WRITE : PROT_READ),
		     "mprotect");
}

static bool is_mapped(const char *address)
{
	for (unsigned i = 0; i < n_mappings; i++)
		if (address >= mappings[i].begin && address < mappings[i].begin + mappings[i].n_bytes)
			return true;
	return false;
}

/* ---- the signals ---- */

static void execute_one(ucontext_t *context)
{
	calls = SYSCALL_DISPATCH_FILTER_ALLOW;
	set_open(true);
	context->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_store(int number, siginfo_t *info, void *context)
{
	int before = errno;

	was_call = false;
	if (!is_open && is_mapped(info->si_addr))
		execute_one(context);
	else
		signal(number, SIG_DFL); /* the same fault again, and the end */
	errno = before;
}

static void on_call(int number, siginfo_t *info, void *context)
{
	int before = errno;

	(void)number;
	(void)info;
	was_call = true;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] -= CALL_BYTES;
	execute_one(context);
	errno = before;
}

static void on_executed(int number, siginfo_t *info, void *context)
{
	int before = errno;

	(void)number;
	(void)info;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
	if (was_call)
		find_mappings();
	look();
	set_open(false);
	errno = before;
	calls = SYSCALL_DISPATCH_FILTER_BLOCK;
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	sigfillset(&action.sa_mask);
	must(!sigaction(number, &action, NULL), "sigaction");
}

/* The last instruction of a handler is a call, too, and has to be let through: where the kernel has been told to return to. */
static uintptr_t sigreturn_at(void)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		uint64_t mask;
	} action;

	must(!syscall(SYS_rt_sigaction, SIGTRAP, NULL, &action, sizeof(action.mask)), "rt_sigaction");
	return (uintptr_t)action.restorer;
}

int stores_init(void (*after)(void))
{
	const stack_t stack = {.ss_sp = malloc(STACK_BYTES), .ss_size = STACK_BYTES};

	look = after;
	must(stack.ss_sp && !sigaltstack(&stack, NULL), "sigaltstack");
	handle(SIGSEGV, on_store);
	handle(SIGSYS, on_call);
	handle(SIGTRAP, on_executed);
	return prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, sigreturn_at(), SIGRETURN_BYTES, &calls)
		       ? -ENOSYS
		       : 0;
}

void stores_watch(bool on)
{
	calls = SYSCALL_DISPATCH_FILTER_ALLOW;
	if (on) {
		find_mappings();
		set_open(false);
		calls = SYSCALL_DISPATCH_FILTER_BLOCK;
	} else if (!is_open) {
		set_open(true);
	}
}
