/* SPDX-License-Identifier: Apache-2.0 */
#include "bin.h"

#include "macro.h"

#include <stdlib.h>

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

void bin_put(struct bin *bin, struct bin_entry *entry, size_t open, size_t size)
{
	entry->size = size;
	SLIST_INSERT_HEAD(bin, entry, link);
	ASAN_POISON_MEMORY_REGION((char *)entry + open, size - open);
}

void bin_empty(struct bin *bin)
{
	struct bin_entry *entry;

	while ((entry = SLIST_FIRST(bin))) {
		SLIST_REMOVE_HEAD(bin, link);
		ASAN_UNPOISON_MEMORY_REGION(entry, entry->size);
		free(entry);
	}
}
