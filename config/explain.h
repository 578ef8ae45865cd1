/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"

/* --explain: runs the real reader and policy on a body and prints the verdict with the rule and
 * the line that gave it. `host` may be NULL (the default endpoint). `body` is rewritten in
 * place. Returns 0 when allowed, 1 when refused, -EINVAL with `error` when enclave or action is
 * unknown. */
_must_check_ int config_explain(const struct config *config, const char *enclave,
				const char *action, const char *host, char *body, size_t n,
				FILE *f, struct error *error);
