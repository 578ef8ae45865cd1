/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a reload changed: two configurations side by side. */

#include "config.h"

/* Whether enclave `i` of `a` and enclave `j` of `b` may do the same, down to the endpoints they
 * use. Line numbers don't count. */
bool config_enclave_equal(const struct config *a, size_t i, const struct config *b, size_t j);

/* Whether `listen` is the same. */
bool config_listen_equal(const struct config *a, const struct config *b);
