// SPDX-License-Identifier: MIT
#include <fcntl.h>

#include "server/liveness.h"

int liveness_open(struct liveness *liveness, const char *instance)
{
	struct segment segment = SEGMENT_NULL;
	int r;

	r = segment_create(&segment, instance);
	if (!r)
		*liveness = (struct liveness){.segment = segment};
	return r;
}

int liveness_reopen(struct liveness *liveness, const char *instance, const char *name, bool is_confirmed)
{
	struct segment segment = SEGMENT_NULL;
	int r;

	r = segment_open(&segment, instance, name);
	if (!r)
		*liveness = (struct liveness){.segment = segment, .is_confirmed = is_confirmed};
	return r;
}

void liveness_remove(struct liveness *liveness)
{
	segment_unlink(&liveness->segment);
}

void liveness_close(struct liveness *liveness)
{
	segment_deinit(&liveness->segment);
	liveness->is_confirmed = false;
}

bool liveness_is_locked(const struct liveness *liveness)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};

	if (liveness->segment.fd < 0 || fcntl(liveness->segment.fd, F_GETLK, &lock))
		return true;
	return lock.l_type != F_UNLCK;
}
