/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* host[:port] as it stands in Host and in the target of CONNECT (RFC 3986 3.2, without
 * userinfo): a DNS name of letters, digits, hyphens and dots, an IPv4 address of four decimal
 * numbers, or an IPv6 address in brackets. No percent-encoding, no zone, no trailing dot. */

#include "macro.h"
#include "slice.h"

#include <stdbool.h>

struct authority {
	struct slice host; /* an IPv6 address without its brackets */
	bool is_address;   /* IPv4 or IPv6, not a name */
	unsigned port;     /* 1 to 65535; 0: none given */
};

/* The fault as static text, or NULL; `ret_authority` points into `s`. */
_must_check_ const char *authority_parse(struct slice s, struct authority *ret_authority);
