/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The user and password that an HTTP proxy is shown, as the value of Proxy-Authorization (RFC
 * 7617): counted, immutable, in the secure heap. */

#include "error.h"
#include "macro.h"
#include "slice.h"

struct proxy_authorization;

/* Reads a file (small_file_find()) of one line, `user:password`. Negative errno, with `error`
 * naming the file and nothing that it holds. */
_must_check_ int proxy_authorization_load(const char *file, struct proxy_authorization **ret,
					  struct error *error);

/* The same from what the file holds, which the caller wipes: one line, its end may be missing.
 * The user is not empty; neither it nor the password has control characters. */
_must_check_ int proxy_authorization_parse(struct slice text, struct proxy_authorization **ret,
					   struct error *error);

/* "Basic ..." */
struct slice proxy_authorization_value(const struct proxy_authorization *a);

struct proxy_authorization *proxy_authorization_ref(struct proxy_authorization *a);

/* Accepts and returns NULL. The last one wipes it. */
struct proxy_authorization *proxy_authorization_unref(struct proxy_authorization *a);
DEFINE_CLEANUP(struct proxy_authorization *, proxy_authorization_unref)
