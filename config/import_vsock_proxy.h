/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* --import-vsock-proxy: from the allow-list of AWS's vsock-proxy (vsock-proxy.yaml:
 * `allowlist`, a list of mappings with `address` and `port`) to a configuration of ours. */

#include "config.h"
#include "macro.h"
#include "slice.h"

#define IMPORT_PORTS 16

struct import_question {
	const char *path;             /* of the file, for the comment at the top */
	unsigned ports[IMPORT_PORTS]; /* each the vsock port of a vsock-proxy, once */
	size_t n_ports;               /* 0: 8000, as AWS's unit has it */
};

/* Prints the configuration to `f`; its enclaves are comments, which the operator fills in. What
 * can't be carried over (an IP address) becomes a comment there and a warning in `findings`; so
 * does what may be asked for by another name, or isn't TLS. -EINVAL when there are errors (all
 * of them in `findings`): nothing is printed then. -ENOMEM. The caller frees the findings. */
_must_check_ int import_vsock_proxy(struct slice text, const struct import_question *question,
				    FILE *f, struct findings *findings);
