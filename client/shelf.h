#pragma once
// SPDX-License-Identifier: MIT
/*
 * shelf - where a class's magazine is filled from: slabs that the heap was granted, and which of them have free slots
 *
 * Knows words, custody and magazines; not how slabs are asked for, nor whether the heap's number is still its own: heap.c has looked.
 */
#include "client/heap.h"

/** shelf_find_storage() - see that the class's magazine has some. Return: false: there is no memory */
bool shelf_find_storage(struct heap *heap, uint32_t size_class);
/** shelf_refill() - Return: whether the magazine has a slot now */
bool shelf_refill(struct heap *heap, uint32_t size_class);
/** shelf_note_hot() - slots were just put into slab @id, which the heap was granted */
void shelf_note_hot(struct shelf *shelf, uint32_t id);
/** shelf_add() - @ids: granted now. Without memory to remember them they are the daemon's to recall */
void shelf_add(struct heap *heap, uint32_t size_class, uint32_t n, const uint32_t ids[]);
/** shelf_refuse() - there are no more to be had: every slab that it knows is looked at once, whatever the hints say */
void shelf_refuse(struct heap *heap, uint32_t size_class);

/* Of classes whose words change by CAS only. */
static inline bool heap_is_large(uint32_t size_class)
{
	return size_class >= SIZE_CLASS_CUT_N;
}

static inline bool magazine_has_storage(const struct magazine *magazine)
{
	return magazine->bottom != heap_no_storage + 1;
}

static inline bool magazine_is_full(const struct magazine *magazine) /* or has no storage */
{
	return magazine->top->offset == HEAP_ROOF;
}

static inline uint32_t magazine_n(const struct magazine *magazine)
{
	return (uint32_t)(magazine->top - magazine->bottom);
}
