/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox.h"

int sandbox_enter(void)
{
	return 0;
}
