/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Hellos as a real client sends them: OpenSSL's, with options picked at random. Whatever
 * OpenSSL can't do ends the program. */

#include <stdbool.h>
#include <stddef.h>

struct real_hello {
	char bytes[32768];
	size_t n;
	const char *name; /* as it was given to OpenSSL; NULL: none */
	bool old;         /* offers nothing above TLS 1.1 */
};

struct hello_source;

struct hello_source *hello_source_new(void);
void hello_source_free(struct hello_source *source);

/* What a client sends first. */
void hello_source_make(struct hello_source *source, struct real_hello *ret_hello);

/* The program's numbers: the same in each run. */
unsigned pick(unsigned n);
