// SPDX-License-Identifier: MIT
#include "alloc/intent.h"

/* The words of the header that are noted. */
static bool is_of_header(uint64_t at)
{
	return at == offsetof(struct ledger_header, total_bytes) || at == offsetof(struct ledger_header, free_total) ||
	       at == offsetof(struct ledger_header, failed_total) || at == offsetof(struct ledger_header, peak_used) ||
	       at == offsetof(struct ledger_header, slot_alloc_total) ||
	       at == offsetof(struct ledger_header, slot_free_total);
}

/* The word at @at, if it is one that counts: of the header, or of an element of a table. */
static _Atomic uint64_t *word_at(const struct ledger *ledger, uint64_t at)
{
	bool counts = is_of_header(at);

	if (at % sizeof(uint64_t))
		return NULL;
	for (int id = 0; !counts && id < LEDGER_INTENT; id++) {
		const struct ledger_table *table = &ledger->tables[id];

		counts = at >= table->file_offset && range_fits(at - table->file_offset, sizeof(uint64_t),
								(uint64_t)table->n_backed * table->elem_bytes);
	}
	return counts ? (_Atomic uint64_t *)(void *)(ledger->map + at) : NULL;
}

int intent_take_back(struct ledger *ledger)
{
	struct intent_entry *entries = ledger->tables[LEDGER_INTENT].base;
	uint64_t n = atomic_load_explicit(&ledger->header->n_noted, memory_order_relaxed);

	if (n > ledger->tables[LEDGER_INTENT].n_backed)
		return LEDGER_E_DAMAGED;
	for (uint64_t i = 0; i < n; i++) /* all or nothing, here too */
		if (!word_at(ledger, atomic_load_explicit(&entries[i].at, memory_order_relaxed)))
			return LEDGER_E_DAMAGED;
	for (uint64_t i = n; i-- > 0;)
		intent_store(word_at(ledger, atomic_load_explicit(&entries[i].at, memory_order_relaxed)),
			     atomic_load_explicit(&entries[i].old, memory_order_relaxed));
	intent_store(&ledger->header->n_noted, 0);
	return 0;
}
