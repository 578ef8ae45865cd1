/* SPDX-License-Identifier: Apache-2.0 */
#include "bin.h"

#include "macro.h"

#include <check.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum state { ALIVE, OVER };

struct thing {
	struct bin_entry bin;
	enum state state;
	/* not to be touched once it is over */
	char text[64];
};

static struct bin bin;

static struct thing *thing_new(void)
{
	struct thing *t = calloc(1, sizeof(*t));

	ck_assert_ptr_nonnull(t);
	memset(t->text, 'x', sizeof(t->text));
	return t;
}

static void thing_end(struct thing *t)
{
	t->state = OVER;
	bin_put(&bin, &t->bin, offsetof(struct thing, text), sizeof(*t));
}

/* The leak checker and the sanitizers see that each is freed, once. */
START_TEST(what_has_ended_says_so_until_the_turn_is_over)
{
	struct thing *things[3];

	for (int i = 0; i < 3; i++)
		thing_end(things[i] = thing_new());
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(things[i]->state, OVER);
	bin_empty(&bin);
	ck_assert(SLIST_EMPTY(&bin));
	bin_empty(&bin);
	thing_end(thing_new()); /* the next turn */
	ck_assert(!SLIST_EMPTY(&bin));
	bin_empty(&bin);
	ck_assert(SLIST_EMPTY(&bin));
}
END_TEST

#ifdef WITH_ASAN
START_TEST(to_touch_it_is_an_error)
{
	struct thing *t = thing_new();
	pid_t pid;
	int status;

	pid = fork();
	if (pid == 0) {
		fclose(stderr);
		thing_end(t);
		((volatile struct thing *)t)->text[0] = 'y';
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
	free(t);
}
END_TEST
#endif

int main(void)
{
	Suite *suite = suite_create("bin");
	TCase *tcase = tcase_create("bin");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_test(tcase, what_has_ended_says_so_until_the_turn_is_over);
#ifdef WITH_ASAN
	tcase_add_test(tcase, to_touch_it_is_an_error);
#endif
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
