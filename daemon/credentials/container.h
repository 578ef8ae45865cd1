/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Credentials from a container endpoint: EKS Pod Identity, ECS. Where it is and the token for
 * it come from the configuration, else from the environment as the AWS SDKs read it:
 * AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, else _FULL_URI;
 * AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, else _TOKEN. */

#include "config.h"
#include "error.h"
#include "macro.h"
#include "source.h"

#include <event2/event.h>

_must_check_ int container_new(struct event_base *base, const struct credentials_config *config,
			       struct source **ret_source);

/* Whether the endpoint may be asked: https anywhere; http only on this machine (a loopback
 * address or localhost) and at the addresses of the ECS and EKS agents, since the token and the
 * credentials pass in clear. 0, -EINVAL with `error`, -ENOMEM. */
_must_check_ int container_check_url(const char *url, struct error *error);
