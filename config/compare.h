/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a reload changed: two configurations side by side. */

#include "config.h"

/* Whether slot `i` of `a` and slot `j` of `b` may do the same: its enclave's name, its CID,
 * limits, rules and tunnel, and of its endpoints the name, host, region, port,
 * connect_to, proxy and ca_file (the path, as of the proxy's credentials; the certificates are
 * compared by generation_same_trust()). What says how an endpoint is used and not what may be
 * reached is left out: `connections`, the three timeouts, and how the host was written (fips,
 * dualstack). So are line numbers, and what is not of an enclave: credentials, memory, audit.
 */
bool config_slot_equal(const struct config *a, size_t i, const struct config *b, size_t j);

/* Whether `listen` is the same. */
bool config_listen_equal(const struct config *a, const struct config *b);
