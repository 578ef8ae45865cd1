/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "http_head.h"

/* Reads `bytes` whole, split at a place that follows from the bytes, and byte by byte. Ends the
 * program when the answers differ or one breaks the contract of http_head.h. */
void check_head(struct slice bytes, const struct http_head_options *options);
