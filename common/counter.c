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
		[COUNTER_BYTES_IN] = "BYTES_IN",
		[COUNTER_BYTES_OUT] = "BYTES_OUT",
		[COUNTER_TUNNELS] = "TUNNELS",
		[COUNTER_WAITED] = "WAITED",
	};

	return names[counter];
}
