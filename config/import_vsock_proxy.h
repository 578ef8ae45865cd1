/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* --import-vsock-proxy: from the allow-list of AWS's vsock-proxy (vsock-proxy.yaml:
 * `allowlist`, a list of mappings with `address` and `port`) to a configuration of ours. */

#include "config.h"
#include "macro.h"
#include "slice.h"

/* Prints the configuration to `f`; its enclaves are comments, which the operator fills in. What
 * can't be carried over (an IP address) becomes a comment there and a warning in `findings`.
 * -EINVAL when there are errors (all of them in `findings`): nothing is printed then. -ENOMEM.
 * `path` is only used in the comment at the top. The caller frees the findings. */
_must_check_ int import_vsock_proxy(struct slice text, const char *path, FILE *f,
				    struct findings *findings);
