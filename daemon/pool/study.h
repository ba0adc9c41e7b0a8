#pragma once
// SPDX-License-Identifier: MIT
/*
 * study - the books of an instance, read without being its daemon
 *
 * Takes no lock and changes nothing: everything that opening a ledger would mend is mended in a private copy of it. With a
 * daemon at work meanwhile a copy may show an operation half done, which study_is_live() is there to say.
 *
 * Threads: none of its own.
 */
#include "pool/directory.h"
#include "pool/pool.h"

struct study;

enum {
	STUDY_E_NONE = 1, /* there is no such instance */
	STUDY_E_VERSION,  /* its directory is of another format */
	STUDY_E_DAMAGED,  /* it is no directory, or cannot be right */
};

/** study_open() - Return: 0; STUDY_E_*; -errno (-EACCES: not allowed to read) */
int study_open(struct study **studyp, const char *instance) MUST_CHECK;
/** study_close() - no pool of it may be left. NULL: nothing. Return: NULL */
struct study *study_close(struct study *study);

/** study_is_live() - whether a daemon has the instance at this moment */
bool study_is_live(const struct study *study);
/** study_pool() - the pools that the directory names, by index from 0 on. Return: false: there are no more from *indexp on; else *indexp is its own */
bool study_pool(const struct study *study, uint32_t *indexp, struct directory_pool *out);

/** study_recover() - what a start would make of it: pool_study() of a copy. Return: as that; -errno: its ledger cannot be read */
int study_recover(struct study *study, const struct directory_pool *record, struct pool **poolp, char *why,
		  size_t n_why) MUST_CHECK;
/** study_data() - whether its data segment is there, and as long as @pool says. Return: NULL, or what is wrong with it */
const char *study_data(const struct directory_pool *record, const struct pool *pool);
/**
 * study_log() - all of its last operations, malloc'ed, oldest first; needs less of its books than study_recover()
 * Return: 0; POOL_E_DAMAGED; -errno; @why says it
 */
int study_log(const struct directory_pool *record, struct pool_recent **operationsp, uint32_t *np, char *why,
	      size_t n_why) MUST_CHECK;
