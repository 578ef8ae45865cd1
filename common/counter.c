/* SPDX-License-Identifier: Apache-2.0 */
#include "counter.h"

const char *counter_name(enum counter counter)
{
	static const char *const names[] = {
		[COUNTER_CONNECTIONS] = "CONNECTIONS",
		[COUNTER_CONNECTIONS_REFUSED] = "CONNECTIONS_REFUSED",
		[COUNTER_REQUESTS] = "REQUESTS",
		[COUNTER_ALLOWED] = "ALLOWED",
		[COUNTER_REFUSED] = "REFUSED",
		[COUNTER_THROTTLED] = "THROTTLED",
		[COUNTER_FAILED] = "FAILED",
		[COUNTER_KMS_DENIED] = "KMS_DENIED",
		[COUNTER_KMS_THROTTLED] = "KMS_THROTTLED",
		[COUNTER_KMS_FAILED] = "KMS_FAILED",
		[COUNTER_BYTES_IN] = "BYTES_IN",
		[COUNTER_BYTES_OUT] = "BYTES_OUT",
		[COUNTER_TUNNELS] = "TUNNELS",
	};

	return names[counter];
}
