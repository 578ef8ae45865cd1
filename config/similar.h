/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* "Did you mean": the known name that is nearest to one that isn't known. */

#include "slice.h"

struct similar {
	struct slice wanted;
	const char *best; /* NULL while none is near */
	unsigned distance;
};

/* `wanted` is borrowed for as long as names are offered. */
void similar_init(struct similar *s, struct slice wanted);
void similar_offer(struct similar *s, const char *name);

/* Offers the actions of KMS, without what stands before the action's name in other places
 * (kms:Decrypt, TrentService.Decrypt). */
void similar_init_action(struct similar *s, struct slice wanted);

/* "; did you mean \"NAME\"?", or "" if none was near. `out` has `size` bytes. Returns out. */
const char *similar_phrase(const struct similar *s, char *out, size_t size);

/* For a message, like CLIPPED(). */
#define SIMILAR_PHRASE(s) similar_phrase((s), (char[128]){0}, 128)
