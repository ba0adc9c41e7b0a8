// SPDX-License-Identifier: MIT
#include "album.h"

#include "must.h"
#include "stepper.h"

void album_add(struct album *album, const struct watch *watch)
{
	if (album->n == album->n_alloced) {
		album->n_alloced = album->n_alloced ? 2 * album->n_alloced : 64;
		album->frozen = realloc(album->frozen, album->n_alloced * sizeof(*album->frozen));
		must(album->frozen, "realloc");
	}
	frozen_take(&album->frozen[album->n++], watch);
}

int64_t album_film(struct album *album, struct watch *watch, pid_t child)
{
	enum stepper_news news;
	int64_t n_stops = 0;

	while ((news = stepper_next(child)) == STEPPER_ONE) {
		n_stops++;
		if (watch_look(watch))
			album_add(album, watch);
	}
	return news == STEPPER_STOPPED ? n_stops : -1;
}

void album_free(struct album *album)
{
	for (unsigned i = 0; i < album->n; i++)
		frozen_free(&album->frozen[i]);
	free(album->frozen);
	*album = (struct album){0};
}
