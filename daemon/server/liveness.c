// SPDX-License-Identifier: MIT
#include <fcntl.h>

#include "server/liveness.h"

int liveness_open(struct liveness *liveness, const char *instance)
{
	struct segment segment = SEGMENT_NULL;
	int r;

	r = segment_create(&segment, instance);
	if (r)
		return r;
	segment_unlink(&segment);
	*liveness = (struct liveness){.segment = segment};
	return 0;
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
