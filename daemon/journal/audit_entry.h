/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* An audit record as a journal entry: the fields that kms-vsock-proxyd(8) lists, and the
 * sentence for the person who reads them. Pure. */

#include "audit.h"

struct audit_entry {
	/* "NAME=value" strings, one after the other; each value once, some twice. */
	char text[2 * sizeof(struct audit_record) + 1024];
	size_t used;
	const char *fields[32]; /* into `text` */
	size_t n;
};

/* The entry of a record; its event is one of the audit events. `entry` must not be moved. */
void audit_entry_init(struct audit_entry *entry, const struct audit_record *record);

/* The entry that says how many records were lost (EVENT_LOST). */
void audit_entry_init_lost(struct audit_entry *entry, uint64_t lost);
