/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "buf.h"
#include "explain.h"
#include "kms.h"

/* The body of a request for this action from what the command line says
 * instead. Keys fill the members that name the action's keys, in the order of the table, or
 * that which is named: "DestinationKeyId=KEY". Each pair goes into every encryption context
 * that the action has, and the document into its Recipient, whether or not it has one: that is
 * for the reader to refuse. -EINVAL with `error` when the action has no such member, -ENOMEM.
 */
_must_check_ int explain_make_body(const struct kms_action *action,
				   const struct explain_question *question,
				   struct buf *ret_body, struct error *error);
