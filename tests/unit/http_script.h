/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* An HTTP server on loopback that gives prepared answers, one a connection, in order, and keeps
 * what it was asked. It runs on the test's own loop. */

#include "macro.h"

#include <event2/event.h>

#define HTTP_SCRIPT_MAX 16

struct http_script;

/* `answers` ends with NULL; each is the whole answer, head and body; HTTP_SCRIPT_SILENCE is
 * never answered. A request beyond them fails the test. They are borrowed. */
struct http_script *http_script_new(struct event_base *base, const char *const *answers);
struct http_script *http_script_free(struct http_script *s);
DEFINE_CLEANUP(struct http_script *, http_script_free)

#define HTTP_SCRIPT_SILENCE ""

/* "http://127.0.0.1:PORT" */
const char *http_script_url(const struct http_script *s);

/* How many requests came, and the head of one of them. */
unsigned http_script_count(const struct http_script *s);
const char *http_script_request(const struct http_script *s, unsigned i);

/* Asserts that the head of request `i` has the line. */
void http_script_assert_line(const struct http_script *s, unsigned i, const char *line);
