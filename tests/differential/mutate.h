/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Makes HTTP messages out of HTTP messages: some changes a strict reader must see through
 * (case, blanks, order of the fields, fields that mean nothing), some it must refuse. */

#include "buf.h"
#include "slice.h"

#include <stddef.h>
#include <stdint.h>

struct mutator {
	uint64_t random;
	const struct slice *seeds;
	size_t n_seeds;
	struct buf out, spare;
};

void mutator_init(struct mutator *m, uint64_t seed, const struct slice *seeds, size_t n_seeds);
void mutator_done(struct mutator *m);

/* The next message; valid until the next call. */
struct slice mutator_next(struct mutator *m);

/* 0 to n - 1. */
size_t mutator_random(struct mutator *m, size_t n);
