/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Base64 (RFC 4648 4): padded, without line breaks, the spare bits of the last letter zero. So
 * each sequence of bytes has one spelling. */

#include "macro.h"
#include "slice.h"

#include <stdbool.h>

#define BASE64_SIZE(n) (((n) + 2) / 3 * 4)

/* Writes BASE64_SIZE(s.n) letters into `out`, without a NUL. */
void base64_encode(struct slice s, char *out);

/* Writes the bytes into `out`, which has room for s.n / 4 * 3 and may be where `s` is. False,
 * with *ret_n untouched, when it isn't base64; then `out` may hold anything. */
_must_check_ bool base64_decode(struct slice s, char *out, size_t *ret_n);
