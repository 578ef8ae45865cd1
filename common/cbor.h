/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A strict reader of CBOR (RFC 8949): the deterministic subset (4.2.1) without floats, which is
 * what attestation documents are written in. It gives one item after the other and holds no
 * stack: how deep it goes is in the hands of the caller, whose own calls say what comes next.
 * So nothing from outside decides how much is held or how long it takes. It allocates nothing.
 *
 * Lengths are definite, every head is the shortest there is, and no count promises more items
 * than there are bytes. Whether texts are UTF-8, names unique and maps in order is the caller's
 * to judge. */

#include "macro.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

enum cbor_type { /* the major types of RFC 8949 3.1 */
		 CBOR_UNSIGNED,
		 CBOR_NEGATIVE, /* -1 - number */
		 CBOR_BYTES,
		 CBOR_TEXT,
		 CBOR_ARRAY,
		 CBOR_MAP,
		 CBOR_TAG,    /* what it tags is the next item */
		 CBOR_SIMPLE, /* false, true or null */
};

enum { CBOR_FALSE = 20, CBOR_TRUE, CBOR_NULL }; /* the numbers of CBOR_SIMPLE */

struct cbor_item {
	enum cbor_type type;
	uint64_t number;    /* a value, a tag, or how many items or pairs follow */
	struct slice bytes; /* of a string */
};

struct cbor {
	struct slice rest; /* what has not been read; borrowed */
	const char *start; /* of all of it, for the offset in messages */
	const char *fault; /* static; NULL while nothing was wrong */
	size_t fault_at;   /* the offset of the item that was wrong */
};

struct cbor cbor_begin(struct slice bytes);

/* Reads one item; a string with its bytes, of an array or a map the head alone. False, with
 * `fault` set, when there is none or it is none of the subset. After a fault everything is
 * false, so that a caller may look once at the end of several. */
_must_check_ bool cbor_read(struct cbor *c, struct cbor_item *ret_item);

/* The type of the next item; false at the end. Reads nothing and sets no fault. */
_must_check_ bool cbor_peek(const struct cbor *c, enum cbor_type *ret_type);

/* One item of this type. What is said of it: of a string its length in bytes, of an array or a
 * map its entries, else its number, is from `min` to `max`. */
_must_check_ bool cbor_expect(struct cbor *c, enum cbor_type type, uint64_t min, uint64_t max,
			      struct cbor_item *ret_item);

/* Nothing is left. */
_must_check_ bool cbor_end(struct cbor *c);

/* Sets the fault of the item at `at`, unless there is one; is false. */
bool cbor_fail(struct cbor *c, const char *at, const char *fault);
