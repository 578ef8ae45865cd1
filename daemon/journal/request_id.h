/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Request ids: random UUIDs (RFC 9562, version 4), as AWS uses them. They are names, not
 * secrets. */

#include <stddef.h>

#define REQUEST_ID_SIZE 37 /* in text, with the NUL */

/* Random bytes for some ids, fetched together; zeroed is a source that has none yet. Not for
 * two threads at once. */
struct request_id_source {
	unsigned char bytes[64 * 16];
	size_t left;
};

void request_id_make(struct request_id_source *source, char ret_id[REQUEST_ID_SIZE]);
