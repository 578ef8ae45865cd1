/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Options of one scalar: from text to the field of a struct and back. */

#include "macro.h"
#include "options.h"
#include "slice.h"

#include <stdbool.h>
#include <stdio.h>

enum value_result {
	VALUE_BAD = 0,
	VALUE_OUT_OF_RANGE,
	VALUE_NO_MEMORY,
	VALUE_OK,
};

/* Whether the option is one scalar; the other functions are for such ones only. */
bool value_is_scalar(const struct config_option *option);

/* Whether the text must not be in quotes: a quoted number is a text to every reader of YAML. */
bool value_is_bare(const struct config_option *option);

/* `plain`: the text has no quotes. `field` is written on VALUE_OK only; a text that was there
 * is freed. Numbers are decimal, without sign, leading zero or point. */
_must_check_ enum value_result value_read(const struct config_option *option, struct slice text,
					  bool plain, void *field);

/* What value_read() takes, for messages: "a size in B, KiB or MiB from 1KiB to 1MiB". `out` has
 * `size` bytes, of which 200 suffice. Returns out. */
const char *value_expected(const struct config_option *option, char *out, size_t size);

/* Whether the field holds anything: without a default, 0 and NULL stand for "left out". */
bool value_is_set(const struct config_option *option, const void *field);

/* Prints it as YAML that value_read() reads to the same again. */
void value_print(const struct config_option *option, const void *field, FILE *f);
