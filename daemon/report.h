/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the control thread tells the operator beside audit records: findings of a configuration,
 * the counters of the enclaves, what was left out of the journal, the status line. */

#include "config.h"
#include "enclave.h"
#include "error.h"
#include "flood.h"
#include "generation.h"
#include "log.h"

/* One entry a finding, REPORT_FINDINGS of them, errors rather than warnings, then how many more
 * there are. Errors go out as `event`, warnings as EVENT_CONFIG_WARNING. */
#define REPORT_FINDINGS 20
void report_findings(const struct findings *findings, const char *path, enum event_kind event);

/* EVENT_START and EVENT_CONFIG_LOADED, each with the hash of the configuration that is in
 * force. */
void report_started(const struct config *config);
void report_loaded(const char *path, const struct config *config);

/* The first error among the findings, as `FILE:LINE: TEXT`. */
void report_first_error(const struct findings *findings, const char *path,
			struct error *ret_error);

/* EVENT_COUNTERS of every slot of an enclave, with all its counters as fields; of one that the
 * generation in force has no more only if some have gone up since. */
void report_counters(const struct enclave_table *table, const struct generation *in_force);

/* EVENT_SUPPRESSED of every slot of which records were left out, and of the unknown CIDs. */
void report_suppressed(const struct enclave_table *table, struct flood *unknown);
