/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What llhttp 8.1 in its strict mode makes of some bytes: the oracle of the head and the reply
 * reader. Debian's node-llhttp ships its C source. */

#include "buf.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

#define ORACLE_FIELDS_MAX 80

struct oracle_field {
	size_t name, name_n, value, value_n; /* in `text` */
};

/* The last message of the bytes; the ones before it are only counted. */
struct oracle {
	bool ok;      /* no error; a CONNECT and a preface of HTTP/2 are expected to pause */
	bool preface; /* it was one of HTTP/2 */
	unsigned declined; /* offers of an upgrade: it pauses at each, and is told to go on */
	unsigned complete; /* messages that are whole */
	bool open;         /* one began and isn't whole */
	unsigned version;  /* 10 * major + minor */
	const char *method;
	int status;
	bool keep_alive;
	struct buf target, body;
	struct buf text; /* the fields' names and values */
	struct oracle_field fields[ORACLE_FIELDS_MAX];
	size_t n_fields;
	const char *error; /* where !ok */
};

void oracle_read(struct oracle *oracle, bool request, struct slice bytes);
void oracle_done(struct oracle *oracle);

/* How many fields of this name the message has; *ret_value is the first one's, without the
 * blanks after it. */
size_t oracle_field(const struct oracle *oracle, const char *name, struct slice *ret_value);
