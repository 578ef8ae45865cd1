/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The control plane, on the main thread: configuration, credentials, signals, systemd. */

#include "config.h"
#include "macro.h"

/* Runs until SIGTERM or SIGINT has drained the workers. Takes the findings of the configuration
 * it was given for its warnings. 0, or negative errno (already logged). */
_must_check_ int server_run(const char *path, struct config *given,
			    const struct findings *findings);
