/* SPDX-License-Identifier: Apache-2.0 */

/* Any bytes as the head of a request of an enclave without a tunnel. */

#include "check_head.h"
#include "limit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_head((struct slice){(const char *)data, size},
		   &(struct http_head_options){.body_max = LIMIT_BODY_DEFAULT});
	return 0;
}
