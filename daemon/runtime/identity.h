/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Who is at the other end of a connection: what the kernel or the listener says, never the
 * peer. */

#include "audit.h"

#include <stdbool.h>
#include <stdint.h>

struct enclave;

struct identity {
	bool has_cid;
	uint32_t cid;
	struct enclave *enclave; /* NULL: no enclave has this CID */
};

/* Begins a record of what it did: all else is absent, see audit_record_init(). */
void identity_record(const struct identity *identity, enum event_kind event,
		     struct audit_record *ret_record);
