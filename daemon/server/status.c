// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "server/status.h"

/* No default: the compiler names an outcome that has no words. */
struct status status_of_pool(enum pool_outcome outcome)
{
	switch (outcome) {
	case POOL_E_FULL:
		return (struct status){-ENOSPC, "no gap of the pool is large enough", "free blocks or grow the pool"};
	case POOL_E_UNBACKED:
		return (struct status){-ENOSPC, "the machine has no memory left for shared memory",
				       "free blocks or other files in /dev/shm, or raise the daemon's limits"};
	case POOL_E_QUOTA:
		return (struct status){-EDQUOT, "the quota of the user is used up",
				       "free blocks, or have [quota] raised in the daemon's configuration"};
	case POOL_E_NO_BLOCK:
		return (struct status){-EFAULT, "no block starts there", "use an offset that an allocation returned"};
	case POOL_E_FREED:
		return (struct status){-EALREADY, "it is free already", "look for a second free of the same block"};
	case POOL_E_NOT_OWNER:
		return (struct status){-EPERM, "the block belongs to another session",
				       "take it, or have its owner publish it"};
	case POOL_E_NOT_ALLOWED:
		return (struct status){-EACCES, "owner, group and mode of the pool do not allow it",
				       "ask the pool's owner"};
	case POOL_E_STALE:
		return (struct status){-ESTALE, "that session does not own the block any more",
				       "treat it as lost: its sender freed it or ended"};
	case POOL_E_NAME_TAKEN:
		return (struct status){-EEXIST, "another block has that name", "find that one, or choose another name"};
	case POOL_E_NAMED:
		return (struct status){-EEXIST, "the block has another name already", "find it by that one"};
	case POOL_E_NO_NAME:
		return (struct status){-ENOENT, "no block has that name", "publish one under it first"};
	case POOL_E_PINNED:
		return (struct status){
			-EBUSY, "the block has a name or other holders, so it cannot move, and does not fit in place",
			"allocate a new block"};
	case POOL_E_NOT_EMPTY:
		return (struct status){-ENOTEMPTY, "the pool has live blocks",
				       "free them, or destroy it without if-empty"};
	case POOL_E_DESTROYED:
		return (struct status){-ESTALE, "the pool was destroyed", "close it, and create or open another"};
	case POOL_E_SHRINK:
		return (struct status){-EINVAL, "a pool cannot shrink", "ask for at least its present size"};
	case POOL_E_ABOVE_MAX:
		return (struct status){-ENOSPC, "that is above the pool's max_size",
				       "create a pool with a larger max_size"};
	case POOL_E_INVALID:
		return (struct status){-EINVAL, "no pool could serve these sizes",
				       "check size, alignment and max_size"};
	case POOL_E_DAMAGED:
		return (struct status){-EIO, "its books cannot be right",
				       "see the daemon's log, and what it says to do"};
	case POOL_E_NO_LEASES:
		return (struct status){-EOPNOTSUPP, "the pool serves every block by request",
				       "allocate by request: it is small, or was made with lease off"};
	case POOL_E_NO_HEAP:
		return (struct status){-EAGAIN, "no heap number is free", "allocate by request, and ask again later"};
	case POOL_E_SLOW: /* never leaves the daemon: the request runs again as a job */
		return (struct status){-EAGAIN, "it takes long", "try again"};
	case POOL_OUTCOME_N:
		break;
	}
	return (struct status){-EIO, "an outcome without a name", ""};
}

struct status status_of_registry(enum registry_outcome outcome)
{
	switch (outcome) {
	case REGISTRY_E_IN_USE:
		return (struct status){-EADDRINUSE, "another daemon runs this instance",
				       "stop it, or choose another --instance"};
	case REGISTRY_E_NAME_TAKEN:
		return (struct status){-EEXIST, "a pool has that name already",
				       "open that one, or choose another name"};
	case REGISTRY_E_NO_POOL:
		return (struct status){-ENOENT, "there is no such pool", "see the list of pools"};
	case REGISTRY_E_QUOTA:
		return (struct status){-EDQUOT, "the user has as many pools as its quota allows",
				       "destroy one, or have [quota] raised in the daemon's configuration"};
	case REGISTRY_E_VERSION:
		return (struct status){-EPROTO, "its directory in /dev/shm was written by another version",
				       "start the daemon that wrote it; or remove it, and all files whose names begin "
				       "so, to begin anew: all pools are lost then"};
	case REGISTRY_E_DAMAGED:
		return (struct status){-EIO, "its directory in /dev/shm cannot be right",
				       "remove it, and all files whose names begin so, to begin anew: all pools are "
				       "lost then"};
	case REGISTRY_E_SQUATTED:
		return (struct status){
			-EPERM,
			"what has that name is not its directory: a plain file of the daemon's own user, with "
			"mode 0600 and one link",
			"find out who made it and remove it, or choose another --instance"};
	case REGISTRY_E_UNRECOVERED:
		return (struct status){-EBADMSG, "it could not be recovered when the daemon started",
				       "the daemon's log says why: mend it and start the daemon again, or have root or "
				       "the daemon's user destroy it by its name"};
	case REGISTRY_E_NAME_KEPT:
		return (struct status){-EEXIST, "a pool of that name could not be recovered when the daemon started",
				       "the daemon's log says why: mend it and start the daemon again, have root or "
				       "the daemon's user destroy it, or choose another name"};
	case REGISTRY_OUTCOME_N:
		break;
	case REGISTRY_E_NOT_ALLOWED:
		return (struct status){-EACCES, "owner, group and mode of the pool do not allow it",
				       "ask the pool's owner"};
	}
	return (struct status){-EIO, "an outcome without a name", ""};
}

struct status status_of_errno(int error)
{
	switch (error) {
	case -ENOMEM:
		return (struct status){-ENOMEM, "the daemon is out of memory", "try again later"};
	case -EMFILE:
	case -ENFILE:
		return (struct status){error, "the daemon is out of file descriptors",
				       "close pools and connections, or raise its LimitNOFILE"};
	case -ENOSPC:
		return (struct status){-ENOSPC, "there is no room in /dev/shm",
				       "destroy pools or remove other files there"};
	}
	return (struct status){error, strerrordesc_np(-error) ?: "an unknown error", ""};
}

struct status status_of(int result)
{
	if (result < 0)
		return status_of_errno(result);
	if (result > REGISTRY_POOL_E)
		return status_of_pool(result - REGISTRY_POOL_E);
	return status_of_registry(result);
}

void status_sentence(struct status status, const char *asked, char *out, size_t n_bytes)
{
	snprintf(out, n_bytes, "%s: %s%s%s", asked, status.wrong, *status.advice ? "; " : "", status.advice);
}
