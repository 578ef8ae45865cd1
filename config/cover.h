/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "policy.h"

#include <stdbool.h>

/* What it costs to compare two rules is at most the product of their weights. Where all
 * together cost more than this (some tenths of a second) the rest isn't compared: the control
 * thread reads files too, and a file so large was written by a program. */
#define COVER_WORK ((size_t)16 * 1024 * 1024)
size_t rule_weight(const struct rule *rule);

/* Whether `wide` allows every request that `narrow` allows, and what is said of its reply is no
 * narrower. True only where the texts show it: a key's id and its ARN, say, are two keys. The
 * rules need not be prepared; what was refused of them is missing, so that of a file with
 * errors the answer means little. Pure. */
bool rule_covers(const struct rule *wide, const struct rule *narrow);
