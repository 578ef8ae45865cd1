/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Only in the test build: what the daemon tries when a test asks whether the sandbox holds.
 * Each try is logged as "probe NAME: denied (errno)", "probe NAME: ALLOWED", or "probe NAME:
 * nothing to try it with" where an earlier step was denied. "ALLOWED" means that the kernel did
 * it, or at least went so far that no sandbox was in the way. */

#ifdef TEST_HOOKS

#include "macro.h"

#include <event2/event.h>

/* Worker: tries everything; what takes a connection is logged later. */
void test_probe(struct event_base *base);

/* socket() by way of io_uring, which no system call filter sees: a descriptor, or -errno. */
_must_check_ int test_probe_ring_socket(int family, int type);

#endif
