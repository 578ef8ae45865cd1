/* SPDX-License-Identifier: Apache-2.0 */
#include "request_id.h"

#include <openssl/rand.h>
#include <string.h>

#define UUID_SIZE 16

/* One call for many: each costs OpenSSL a system call and a round of its generator. */
static unsigned char *take(struct request_id_source *source)
{
	if (source->left == 0) {
		source->left = sizeof(source->bytes);
		if (RAND_bytes(source->bytes, sizeof(source->bytes)) != 1) {
			memset(source->bytes, 0, UUID_SIZE);
			source->left = UUID_SIZE; /* the next one tries again */
		}
	}
	source->left -= UUID_SIZE;
	return source->bytes + source->left;
}

void request_id_make(struct request_id_source *source, char ret_id[REQUEST_ID_SIZE])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char *b = take(source);
	char *out = ret_id;

	b[6] = (b[6] & 0x0f) | 0x40; /* the version */
	b[8] = (b[8] & 0x3f) | 0x80; /* the variant */
	for (size_t i = 0; i < UUID_SIZE; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		*out++ = hex[b[i] >> 4];
		*out++ = hex[b[i] & 15];
	}
	*out = '\0';
}
