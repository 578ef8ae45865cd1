/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "buf.h"
#include "clock.h"
#include "error.h"
#include "kms.h"

#include <stdio.h>

/* Makes the bytes of a document out of those of a file, in place: they are the document as it
 * is, or its base64, in lines or not. -EINVAL with `error` when they are neither. */
_must_check_ int explain_read_document(struct buf *bytes, struct error *error);

/* Prints what the attestation document in the request's Recipient says, if there is one. `now`
 * is wall clock. Nothing of it is verified, and the output says so. -ENOMEM. */
_must_check_ int explain_print_document(const struct kms_request *request, usec_t now, FILE *f);
