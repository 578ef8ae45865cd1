/* SPDX-License-Identifier: Apache-2.0 */
#include "http2.h"

#include <assert.h>

#define TEXT "HTTP/2 is not spoken here: use HTTP/1.1, without prior knowledge"
#define TEXT_SIZE 64

static_assert(sizeof(TEXT) == TEXT_SIZE + 1, "the length of GOAWAY is 8 bytes more");

/* Each frame begins with its length in 3 bytes, its type, flags, and the stream in 4 (4.1). The
 * server's own preface, an empty SETTINGS (6.5), has to come first. */
static const char answer[] = "\0\0\0\4\0\0\0\0\0"
			     "\0\0\x48\7\0\0\0\0\0" /* GOAWAY (6.8) of 72 bytes: */
			     "\0\0\0\0"             /* no stream was looked at */
			     "\0\0\0\x0d"           /* HTTP_1_1_REQUIRED (7) */
	TEXT;

struct slice http2_goaway(void)
{
	return (struct slice){answer, sizeof(answer) - 1};
}
