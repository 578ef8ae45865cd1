/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Where credentials come from: imds.h, container.h, credentials_file.h. A source is asked by
 * the cache and knows nothing of time: when to ask again is refresh.h. */

#include "clock.h"
#include "credentials.h"
#include "error.h"
#include "macro.h"

/* `credentials` is NULL when it failed, and `error` says why in one sentence for an operator.
 * They may be the same object as the last time: nothing has changed. Borrowed, both. */
typedef void (*source_cb)(struct credentials *credentials, const struct error *error,
			  void *userdata);

struct source;

struct source_ops {
	/* Begins to ask; none may be under way. Calls `done` once, perhaps before it returns:
	 * call this last. */
	void (*start)(struct source *source, source_cb done, void *userdata);
	/* Ends what is under way without calling `done`. */
	void (*cancel)(struct source *source);
	void (*free)(struct source *source);
	/* Asking costs nothing and the answer may change at any time: asked this often. 0:
	 * asked when the credentials' expiration says so. */
	usec_t poll;
};

/* The first member of each source. Their constructors copy what they need of the configuration
 * and fail only with -ENOMEM: what is wrong with it comes out when they are asked. */
struct source {
	const struct source_ops *ops;
};

static inline struct source *source_free(struct source *source)
{
	if (source)
		source->ops->free(source);
	return NULL;
}
DEFINE_CLEANUP(struct source *, source_free)
