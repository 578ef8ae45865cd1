/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a person may have meant by a value that is refused, for the end of its message. Each
 * writes a sentence that begins with "; " or ": ", or nothing, into `out`, which has HINT_SIZE
 * bytes, and returns it. Pure. */

#include "options.h"
#include "slice.h"

#define HINT_SIZE 256
#define HINT_ROOM ((char[HINT_SIZE]){0})

/* A value of an option of one scalar. */
const char *hint_scalar(const struct config_option *option, struct slice text, char *out);

/* NAME:PORT of a tunnel's host or of connect_to. */
const char *hint_host_port(struct slice text, char *out);

/* Which part of a key is wrong. */
const char *hint_key(struct slice text, char *out);

/* Of what stands where a list of keys, or `any`, is expected. */
const char *hint_keys(struct slice text, char *out);

/* A region that is none of a known partition. */
const char *hint_region(struct slice text, char *out);
