/* SPDX-License-Identifier: Apache-2.0 */
#include "identity.h"

#include "enclave.h"

void identity_record(const struct identity *identity, enum event_kind event,
		     struct audit_record *ret_record)
{
	audit_record_init(ret_record, event);
	if (identity->enclave)
		audit_copy(ret_record->enclave, sizeof(ret_record->enclave),
			   slice_from(identity->enclave->named.name));
	ret_record->has_cid = identity->has_cid;
	ret_record->cid = identity->cid;
}
