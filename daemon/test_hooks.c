/* SPDX-License-Identifier: Apache-2.0 */
#include "test_hooks.h"

#ifdef TEST_HOOKS

#include "test_probe.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum test_hook test_hook_read(void)
{
	int fd = open(TEST_HOOK_FILE, O_RDONLY | O_CLOEXEC);
	char word[16] = "";

	if (fd < 0)
		return TEST_HOOK_NONE;
	if (read(fd, word, sizeof(word) - 1) < 0)
		word[0] = '\0';
	close(fd);
	word[strcspn(word, "\n")] = '\0';
	return strcmp(word, "spin") == 0    ? TEST_HOOK_SPIN
	       : strcmp(word, "probe") == 0 ? TEST_HOOK_PROBE
					    : TEST_HOOK_NONE;
}

void test_hook_run(enum test_hook hook, struct event_base *base)
{
	switch (hook) {
	case TEST_HOOK_SPIN:
		for (;;)
			poll(NULL, 0, -1);
	case TEST_HOOK_PROBE:
		test_probe(base);
		return;
	case TEST_HOOK_NONE:
		return;
	}
}

#endif
