/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* All of HTTP/2 (RFC 9113) that is spoken here: enough to decline it in words that its clients
 * understand. */

#include "slice.h"

/* What a client begins with that knows, or believes, that its server speaks HTTP/2 (3.4). */
#define HTTP2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* The answer to it, after which the connection ends: GOAWAY with HTTP_1_1_REQUIRED and a text
 * that clients show. */
struct slice http2_goaway(void);
