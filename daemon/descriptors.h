/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The descriptors that a configuration may need, beside those that a process may have. */

#include "findings.h"

/* As many as the configuration may have in use at once. Pure. */
uint64_t descriptors_needed(const struct config *config);

/* Adds a warning where these are more than a process may have here (RLIMIT_NOFILE, the hard
 * one). */
void descriptors_check(const struct config *config, struct findings *findings);

/* Before the start: has the limit be the hard one. A login's is 1,024 otherwise. */
void descriptors_raise(void);
