/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Credentials of the instance's IAM role, from the EC2 instance metadata service, version 2
 * only: PUT for a token, then the name of the role, then its credentials. */

#include "config.h"
#include "macro.h"
#include "slice.h"
#include "source.h"

#include <event2/event.h>

_must_check_ int imds_new(struct event_base *base, const struct credentials_config *config,
			  struct source **ret_source);

/* Asks a source that imds_new() made for the region that the instance is in, instead of for
 * credentials: `done` is called once, with a region of a known partition, or with NULL and
 * why. None may be under way; source_ops.cancel() ends it. Only what is known as a region gets
 * through, since hosts are made of it. */
typedef void (*imds_region_cb)(const char *region, const struct error *error, void *userdata);
void imds_ask_region(struct source *source, imds_region_cb done, void *userdata);

/* The role in what IMDS lists: the first line, without space at its ends. False, with *ret_role
 * untouched, if that isn't the name of a role (1 to 64 of [A-Za-z0-9_+=,.@-], IAM API
 * reference). */
_must_check_ bool imds_role(struct slice list, struct slice *ret_role);
