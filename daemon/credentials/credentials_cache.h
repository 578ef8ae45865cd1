/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Keeps credentials fresh: asks the configured source (imds, container, file), refreshes ahead
 * of expiry, keeps the old ones while that fails. Lives on the control thread; nothing in it
 * blocks. */

#include "config.h"
#include "credentials.h"
#include "macro.h"

#include <event2/event.h>

struct credentials_cache;

/* Called on the control thread with each new value (borrowed: take a reference to keep it). Its
 * serial is larger than those before it: the cache hands them out, from 1 on. */
typedef void (*credentials_cb)(struct credentials *credentials, void *userdata);

/* Begins to fetch at once (from the loop's first turn on), if they are needed. */
_must_check_ int credentials_cache_new(struct event_base *base,
				       const struct credentials_config *config,
				       credentials_cb changed, void *userdata,
				       struct credentials_cache **ret_cache);
struct credentials_cache *credentials_cache_free(struct credentials_cache *cache);
DEFINE_CLEANUP(struct credentials_cache *, credentials_cache_free)

/* Takes over a reloaded configuration; fetches anew if the source changed, and no more
 * once they aren't needed. Keeps the old credentials until the new source has answered. */
_must_check_ int credentials_cache_configure(struct credentials_cache *cache,
					     const struct credentials_config *config);

/* KMS rejected the credentials of this serial: refreshes early, at most once in a while, and
 * only if they are still the current ones. */
void credentials_cache_reject(struct credentials_cache *cache, uint64_t serial);

/* A phrase for systemd's status line: "credentials valid until ...", "no credentials: ...". */
const char *credentials_cache_status(struct credentials_cache *cache);
