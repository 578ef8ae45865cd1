/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What only the test build has (meson -Dtest-hooks=true): SIGUSR2 makes the daemon read one
 * word from the file `hook` in its runtime directory and do it on worker 0:
 *
 *   spin   never return, which the watchdog must notice
 *   probe  try what the sandbox and the connect callback must deny, and log each outcome; see
 *          test_probe.h
 *
 * Without the option none of it is compiled. */

#ifdef TEST_HOOKS

#include <event2/event.h>

#define TEST_HOOK_FILE "/run/kms-vsock-proxy/hook"

enum test_hook { TEST_HOOK_NONE, TEST_HOOK_SPIN, TEST_HOOK_PROBE };

/* Control thread: which hook the file asks for. */
enum test_hook test_hook_read(void);

/* Worker: does it. */
void test_hook_run(enum test_hook hook, struct event_base *base);

#endif
