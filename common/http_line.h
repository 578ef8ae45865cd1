/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the heads of requests and of replies have in common (RFC 9112 2.2 and 5): finding a
 * line, splitting a field line, walking a list. No leniency: a line ends in CRLF and holds
 * nothing but HT and printable ASCII, no line is folded. Faults are static text. */

#include "macro.h"
#include "slice.h"

#include <stdbool.h>

enum line_result {
	LINE_BAD = 0,
	LINE_NEED_MORE,
	LINE_DONE,
};

/* Looks for the end of the line that begins at `start`, in the order of the bytes: the first
 * byte that can't stand where it is is the fault, however the bytes were split. *scanned is
 * where the last call stopped (at first `start`); with LINE_DONE it is the first byte after the
 * CRLF. */
_must_check_ enum line_result http_line_scan(struct slice bytes, size_t start, size_t *scanned,
					     const char **ret_fault);

/* Why a byte can't stand in a line; NULL if it can. */
const char *http_byte_fault(char c);

struct http_field {
	struct slice name;  /* a token */
	struct slice value; /* without the blanks around it; may be empty */
};

/* Splits a field line (without its CRLF). The fault, or NULL. */
_must_check_ const char *http_field_split(struct slice line, struct http_field *ret_field);

/* Takes the next element off a comma-separated list, without the blanks around it (it may be
 * empty: an empty list has one empty element). False when there are no more. */
_must_check_ bool http_list_next(struct slice *list, struct slice *ret_element);
