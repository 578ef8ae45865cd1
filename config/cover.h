/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "policy.h"

#include <stdbool.h>

/* Whether `wide` allows every request that `narrow` allows, and what is said of its reply is no
 * narrower. True only where the texts show it: a key's id and its ARN, say, are two keys. The
 * rules need not be prepared; what was refused of them is missing, so that of a file with
 * errors the answer means little. Pure. */
bool rule_covers(const struct rule *wide, const struct rule *narrow);
