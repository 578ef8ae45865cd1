/* SPDX-License-Identifier: Apache-2.0 */

/* Who gets a place in flight, on one thread and on several. */

#include "place.h"

#include "context.h"
#include "enclave.h"
#include "mailbox.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>

#define THREADS 3

static struct enclave_table *table;
static struct enclave *one, *two;
static struct context contexts[THREADS];
static struct mailbox *mailboxes[THREADS];
static unsigned pokes[THREADS];

static void on_poke(struct message *m, void *userdata)
{
	ck_assert_int_eq(m->kind, MESSAGE_POKED);
	++*(unsigned *)userdata;
}

static void setup(void)
{
	ck_assert_int_eq(enclave_table_new(&table), 0);
	one = enclave_table_get(table, "one", 0);
	two = enclave_table_get(table, "two", 0);
	for (unsigned i = 0; i < THREADS; i++) {
		contexts[i] = (struct context){.index = i, .mailboxes = mailboxes};
		contexts[i].base = event_base_new();
		pokes[i] = 0;
		ck_assert_int_eq(mailbox_new(contexts[i].base, on_poke, on_poke, &pokes[i],
					     &mailboxes[i]),
				 0);
	}
}

static void teardown(void)
{
	for (unsigned i = 0; i < THREADS; i++) {
		ck_assert(LIST_EMPTY(&contexts[i].lines));
		mailboxes[i] = mailbox_free(mailboxes[i]);
		event_base_free(contexts[i].base);
	}
	ck_assert_uint_eq(one->places.has_waiter, 0);
	table = enclave_table_free(table);
}

/* How often that thread was poked since the last look. */
static unsigned poked(unsigned thread)
{
	unsigned n;

	event_base_loop(contexts[thread].base, EVLOOP_NONBLOCK);
	n = pokes[thread];
	pokes[thread] = 0;
	return n;
}

static bool take(unsigned thread, struct place_waiter *waiter)
{
	return place_take(&contexts[thread], one, waiter, 2);
}

static void fill(void)
{
	struct place_waiter none = {0};

	for (int i = 0; i < 2; i++)
		ck_assert(take(0, &none));
	ck_assert_uint_eq(none.ticket, 0);
	ck_assert(!place_is_free(one, 2));
}

static void return_places(unsigned n)
{
	while (n--)
		place_return(&contexts[0], one);
	ck_assert_uint_eq(gauge_read(&one->in_flight), 0);
	ck_assert(place_is_free(one, 2));
}

START_TEST(whoever_comes_first_is_served_first)
{
	struct place_waiter w[6] = {0};

	fill();
	for (unsigned i = 0; i < ELEMENTSOF(w); i++) {
		ck_assert(!take(i % THREADS, &w[i]));
		ck_assert(!take(i % THREADS, &w[i])); /* once more is no second ticket */
	}
	for (unsigned i = 0; i < ELEMENTSOF(w); i++) {
		for (unsigned t = 0; t < THREADS; t++)
			ck_assert_ptr_null(place_admit(&contexts[t]));
		place_return(&contexts[2], one);
		for (unsigned t = 0; t < THREADS; t++)
			ck_assert_uint_eq(poked(t), t == i % THREADS);
		ck_assert_ptr_eq(place_admit(&contexts[i % THREADS]), &w[i]);
		ck_assert_ptr_null(place_admit(&contexts[i % THREADS]));
		ck_assert_uint_eq(gauge_read(&one->in_flight), 2);
	}
	return_places(2);
}
END_TEST

START_TEST(a_newcomer_does_not_overtake)
{
	struct place_waiter early = {0}, late = {0};

	fill();
	ck_assert(!take(1, &early));
	place_return(&contexts[0], one);
	ck_assert_uint_eq(gauge_read(&one->in_flight), 1);
	ck_assert(!place_is_free(one, 2));
	ck_assert(!take(0, &late)); /* though a place is free */
	ck_assert_ptr_null(place_admit(&contexts[0]));
	ck_assert_ptr_eq(place_admit(&contexts[1]), &early);
	ck_assert_ptr_null(place_admit(&contexts[0]));
	place_return(&contexts[0], one);
	ck_assert_ptr_eq(place_admit(&contexts[0]), &late);
	return_places(2);
	(void)poked(0);
}
END_TEST

/* Woken for one that has gone, a thread hands the wake on: before it looks, and when it does.
 */
START_TEST(who_leaves_takes_no_wake_along)
{
	struct place_waiter gone = {0}, next = {0}, third = {0};

	fill();
	ck_assert(!take(1, &gone));
	ck_assert(!take(2, &next));
	if (_i == 1)
		ck_assert(!take(1, &third));
	place_return(&contexts[0], one);
	place_leave(&contexts[1], one, &gone);
	place_leave(&contexts[1], one, &gone); /* twice is once */
	ck_assert_ptr_null(place_admit(&contexts[1]));
	ck_assert_uint_eq(poked(2), 1);
	ck_assert_ptr_eq(place_admit(&contexts[2]), &next);
	if (_i == 1) {
		place_return(&contexts[0], one);
		ck_assert_uint_eq(poked(1), 1);
		ck_assert_ptr_eq(place_admit(&contexts[1]), &third);
	}
	return_places(2);
}
END_TEST

/* A place came back when nobody was seen to wait, and somebody did already: whoever joins next
 * sees it. */
START_TEST(who_joins_looks_for_a_place)
{
	struct place_waiter first = {0}, next = {0};

	fill();
	ck_assert(!take(1, &first));
	gauge_return(&one->in_flight, 1); /* place_return() without its look at the tickets */
	ck_assert_uint_eq(poked(1), 0);
	ck_assert(!take(0, &next));
	ck_assert_uint_eq(poked(1), 1);
	ck_assert_ptr_eq(place_admit(&contexts[1]), &first);
	place_leave(&contexts[0], one, &next);
	return_places(2);
}
END_TEST

/* Two places come back while one thread looks only once. */
START_TEST(one_poke_is_enough_for_all)
{
	struct place_waiter w[3] = {0};

	fill();
	ck_assert(!take(1, &w[0]));
	ck_assert(!take(2, &w[1]));
	ck_assert(!take(1, &w[2]));
	place_return(&contexts[0], one);
	place_return(&contexts[0], one);
	ck_assert_uint_eq(poked(1), 1);
	ck_assert_uint_eq(poked(2), 0);
	ck_assert_ptr_eq(place_admit(&contexts[1]), &w[0]);
	ck_assert_ptr_null(place_admit(&contexts[1])); /* another's turn: it is told */
	ck_assert_uint_eq(poked(2), 1);
	ck_assert_ptr_eq(place_admit(&contexts[2]), &w[1]);
	place_leave(&contexts[1], one, &w[2]);
	return_places(2);
}
END_TEST

START_TEST(enclaves_have_lines_of_their_own)
{
	struct place_waiter first = {0}, second = {0};

	fill();
	ck_assert(place_take(&contexts[0], two, &first, 1));
	ck_assert(!place_take(&contexts[0], two, &second, 1));
	ck_assert(!take(0, &first));
	place_return(&contexts[0], two);
	ck_assert_ptr_eq(place_admit(&contexts[0]), &second);
	ck_assert_ptr_null(place_admit(&contexts[0]));
	place_return(&contexts[0], two);
	place_leave(&contexts[0], one, &first);
	return_places(2);
}
END_TEST

/* ---- threads ---- */

#define ROUNDS 4000 /* of each thread */
#define WAITERS 8   /* of each thread at a time */

struct job {
	struct context *context;
	struct place_waiter waiters[WAITERS];
	bool holds[WAITERS];
	unsigned seed, admitted, left, done;
};

static struct job jobs[THREADS];
static _Atomic unsigned n_over;
static _Atomic uint64_t most;

static unsigned draw(struct job *job)
{
	job->seed = job->seed * 1103515245 + 12345;
	return job->seed >> 16;
}

static void note_held(void)
{
	uint64_t held = gauge_read(&one->in_flight);

	if (held > atomic_load(&most))
		atomic_store(&most, held);
}

static void admit_all(struct job *job)
{
	struct place_waiter *w;

	while ((w = place_admit(job->context))) {
		job->holds[w - job->waiters] = true;
		job->admitted++;
		note_held();
	}
}

/* One of them does something: asks, gives back, or, now and then, has enough of waiting. */
static void act(struct job *job, unsigned i)
{
	struct place_waiter *w = &job->waiters[i];

	if (job->holds[i]) {
		place_return(job->context, one);
		job->holds[i] = false;
		job->done++;
	} else if (w->ticket && draw(job) % 8 == 0) {
		place_leave(job->context, one, w);
		job->left++;
	} else if (!w->ticket && job->done < ROUNDS) {
		job->holds[i] = place_take(job->context, one, w, 2);
	}
}

static bool is_idle(const struct job *job)
{
	for (unsigned i = 0; i < WAITERS; i++)
		if (job->holds[i] || job->waiters[i].ticket)
			return false;
	return true;
}

static void on_poke_of_thread(struct message *m, void *userdata)
{
	(void)m;
	admit_all(userdata);
}

/* While it waits for nothing but places, only a poke can have it go on. */
static void *run_thread(void *userdata)
{
	struct job *job = userdata;

	while (job->done < ROUNDS) {
		bool waits_only = true;

		for (unsigned n = 0; n < WAITERS; n++)
			act(job, draw(job) % WAITERS);
		for (unsigned i = 0; i < WAITERS; i++)
			waits_only &= job->waiters[i].ticket != 0;
		event_base_loop(job->context->base, waits_only ? EVLOOP_ONCE : EVLOOP_NONBLOCK);
	}
	for (unsigned i = 0; i < WAITERS; i++) {
		if (job->holds[i])
			place_return(job->context, one);
		job->holds[i] = false;
		place_leave(job->context, one, &job->waiters[i]);
	}
	ck_assert(is_idle(job));
	atomic_fetch_add(&n_over, 1);
	/* A wake that is under way to it is for others. */
	while (atomic_load(&n_over) < THREADS)
		event_base_loop(job->context->base, EVLOOP_NONBLOCK);
	return NULL;
}

/* A wake that was lost would have a thread wait for ever, and the test with it. */
START_TEST(no_wake_is_lost)
{
	pthread_t threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		mailbox_free(mailboxes[i]);
		jobs[i] = (struct job){.context = &contexts[i], .seed = i + 1};
		ck_assert_int_eq(mailbox_new(contexts[i].base, on_poke_of_thread,
					     on_poke_of_thread, &jobs[i], &mailboxes[i]),
				 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, run_thread, &jobs[i]), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_uint_gt(jobs[i].admitted, 0);
		ck_assert_uint_ge(jobs[i].done, ROUNDS);
	}
	ck_assert_uint_eq(most, 2);
	ck_assert_uint_eq(gauge_read(&one->in_flight), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("place");
	TCase *tcase = tcase_create("place");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, whoever_comes_first_is_served_first);
	tcase_add_test(tcase, a_newcomer_does_not_overtake);
	tcase_add_loop_test(tcase, who_leaves_takes_no_wake_along, 0, 2);
	tcase_add_test(tcase, who_joins_looks_for_a_place);
	tcase_add_test(tcase, one_poke_is_enough_for_all);
	tcase_add_test(tcase, enclaves_have_lines_of_their_own);
	tcase_add_test(tcase, no_wake_is_lost);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
