/* SPDX-License-Identifier: Apache-2.0 */

/* Any bytes as the head of a CONNECT. What follows the verb is the input, so that none is lost
 * on finding it; fuzz-head has the other requests. */

#include "check_head.h"
#include "limit.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char verb[] = "CONNECT ";
	size_t n = strlen(verb) + size;
	char *bytes = malloc(n);

	if (!bytes)
		return 0;
	memcpy(bytes, verb, strlen(verb));
	if (size)
		memcpy(bytes + strlen(verb), data, size);
	check_head((struct slice){bytes, n},
		   &(struct http_head_options){.body_max = LIMIT_BODY_DEFAULT,
					       .allow_connect = true});
	free(bytes);
	return 0;
}
