/* SPDX-License-Identifier: Apache-2.0 */
#include "lookup.h"

#include "mailbox.h"
#include "resolver.h"

#include <check.h>
#include <netdb.h>
#include <string.h>

#define PATIENCE (20 * USEC_PER_SEC) /* on a busy machine */

struct asker {
	struct lookup lookup;
	unsigned answers;
	char addresses[128];
	int code;
	bool again; /* asks once more from within the answer */
};

static struct context context;
static struct lookups lookups;
static unsigned n_messages;

static void on_message(struct message *m, void *userdata)
{
	(void)userdata;
	n_messages++;
	lookups_take(&lookups, m->id, m->addresses, m->number, clock_now());
	free(m->addresses);
}

static void on_drop(struct message *m, void *userdata)
{
	(void)userdata;
	free(m->addresses);
}

static void on_answer(struct lookup *lookup, const char *addresses, int code,
		      struct instant now)
{
	struct asker *a = CONTAINER_OF(lookup, struct asker, lookup);

	ck_assert_int_gt(now.monotonic, 0);
	ck_assert_uint_eq(lookup->id, 0); /* it is over, and may begin again */
	a->answers++;
	a->code = code;
	snprintf(a->addresses, sizeof(a->addresses), "%s", addresses ?: "");
	if (a->again) {
		a->again = false;
		ck_assert_int_eq(lookup_start(lookup, &context, "127.0.0.2", on_answer), 0);
	}
}

static void wait_for(unsigned messages)
{
	usec_t end = clock_monotonic() + PATIENCE;

	while (n_messages < messages) {
		ck_assert_int_lt(clock_monotonic(), end);
		event_base_loop(context.base, EVLOOP_ONCE);
	}
}

static void setup(void)
{
	n_messages = 0;
	context.base = event_base_new();
	context.lookups = &lookups;
	ck_assert_int_eq(mailbox_new(context.base, on_message, on_drop, NULL, &context.mailbox),
			 0);
	ck_assert_int_eq(resolver_new(&context.resolver), 0);
}

static void teardown(void)
{
	context.resolver = resolver_free(context.resolver);
	context.mailbox = mailbox_free(context.mailbox);
	event_base_free(context.base);
}

START_TEST(each_asker_has_its_answer)
{
	struct asker a = {0}, b = {0};

	ck_assert_int_eq(lookup_start(&a.lookup, &context, "127.0.0.1", on_answer), 0);
	ck_assert_int_eq(lookup_start(&b.lookup, &context, "::1", on_answer), 0);
	ck_assert_uint_ne(a.lookup.id, b.lookup.id);
	wait_for(2);
	ck_assert_str_eq(a.addresses, "127.0.0.1");
	ck_assert_str_eq(b.addresses, "[::1]");
	ck_assert_uint_eq(a.answers + b.answers, 2);
	ck_assert(LIST_EMPTY(&lookups.list));
}
END_TEST

START_TEST(one_that_is_under_way_is_not_asked_twice)
{
	struct asker a = {0};
	uint64_t id;

	ck_assert_int_eq(lookup_start(&a.lookup, &context, "127.0.0.1", on_answer), 0);
	id = a.lookup.id;
	ck_assert_int_eq(lookup_start(&a.lookup, &context, "127.0.0.1", on_answer), 0);
	ck_assert_uint_eq(a.lookup.id, id);
	wait_for(1);
	ck_assert_uint_eq(a.answers, 1);
}
END_TEST

/* Its answer comes all the same, and finds nobody. */
START_TEST(one_that_was_forgotten_hears_nothing)
{
	struct asker a = {0};

	ck_assert_int_eq(lookup_start(&a.lookup, &context, "127.0.0.1", on_answer), 0);
	lookup_cancel(&a.lookup);
	lookup_cancel(&a.lookup);
	ck_assert_uint_eq(a.lookup.id, 0);
	wait_for(1);
	ck_assert_uint_eq(a.answers, 0);
	/* and one that asks anew doesn't take the old answer for its own */
	ck_assert_int_eq(lookup_start(&a.lookup, &context, "127.0.0.2", on_answer), 0);
	wait_for(2);
	ck_assert_str_eq(a.addresses, "127.0.0.2");
}
END_TEST

START_TEST(it_may_be_started_again_in_its_answer)
{
	struct asker a = {.again = true};

	ck_assert_int_eq(lookup_start(&a.lookup, &context, "127.0.0.1", on_answer), 0);
	wait_for(2);
	ck_assert_uint_eq(a.answers, 2);
	ck_assert_str_eq(a.addresses, "127.0.0.2");
}
END_TEST

START_TEST(a_failure_has_its_code)
{
	struct asker a = {0};

	ck_assert_int_eq(lookup_start(&a.lookup, &context, "127.0.0.1", on_answer), 0);
	lookups_take(&lookups, a.lookup.id, NULL, EAI_NONAME, clock_now());
	ck_assert_uint_eq(a.answers, 1);
	ck_assert_int_eq(a.code, EAI_NONAME);
	ck_assert_str_eq(a.addresses, "");
	wait_for(1); /* the resolver's own comes too late */
	ck_assert_uint_eq(a.answers, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("lookup");
	TCase *tcase = tcase_create("lookup");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, each_asker_has_its_answer);
	tcase_add_test(tcase, one_that_is_under_way_is_not_asked_twice);
	tcase_add_test(tcase, one_that_was_forgotten_hears_nothing);
	tcase_add_test(tcase, it_may_be_started_again_in_its_answer);
	tcase_add_test(tcase, a_failure_has_its_code);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
