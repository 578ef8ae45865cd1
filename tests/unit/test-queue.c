/* SPDX-License-Identifier: Apache-2.0 */
#include "queue.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

START_TEST(holds_exactly_its_capacity)
{
	static const size_t capacities[] = {2, 4, 8, 1024};
	size_t capacity = capacities[_i];
	struct queue *q;
	uint32_t v;

	ck_assert_int_eq(queue_new(sizeof(v), capacity, &q), 0);
	for (uint32_t round = 0; round < 5; round++) {
		v = 0xdead;
		ck_assert(!queue_pop(q, &v));
		ck_assert_uint_eq(v, 0xdead);
		for (uint32_t i = 0; i < capacity; i++) {
			v = round * 10000 + i;
			ck_assert(queue_push(q, &v));
		}
		v = 7;
		ck_assert(!queue_push(q, &v));
		ck_assert(!queue_push(q, &v));
		for (uint32_t i = 0; i < capacity; i++) {
			ck_assert(queue_pop(q, &v));
			ck_assert_uint_eq(v, round * 10000 + i);
		}
	}
	queue_free(q);
}
END_TEST

/* Every fill level at every position of the ring. */
START_TEST(keeps_order_round_the_ring)
{
	uint32_t in = 0, out = 0, v;
	struct queue *q;

	ck_assert_int_eq(queue_new(sizeof(v), 8, &q), 0);
	for (uint32_t step = 0; step < 1000; step++) {
		for (uint32_t i = 0; i < step % 9 && in - out < 8; i++, in++)
			ck_assert(queue_push(q, &in));
		for (uint32_t i = 0; i < step % 7 && in != out; i++, out++) {
			ck_assert(queue_pop(q, &v));
			ck_assert_uint_eq(v, out);
		}
	}
	ck_assert_uint_gt(out, 1000);
	queue_free(q);
}
END_TEST

/* A record is copied whole and not a byte more (the sanitizer watches). */
START_TEST(copies_records_of_any_size)
{
	static const size_t sizes[] = {1, 7, 8, 56, 57, 64, 1000};
	size_t size = sizes[_i];
	unsigned char *in = malloc(size), *out = malloc(size);
	struct queue *q;

	ck_assert_int_eq(queue_new(size, 4, &q), 0);
	for (int i = 0; i < 20; i++) {
		memset(in, i, size);
		ck_assert(queue_push(q, in));
		memset(in, i + 100, size);
		ck_assert(queue_push(q, in));
		ck_assert(queue_pop(q, out));
		memset(in, i, size);
		ck_assert_mem_eq(in, out, size);
		ck_assert(queue_pop(q, out));
		memset(in, i + 100, size);
		ck_assert_mem_eq(in, out, size);
	}
	queue_free(q);
	free(in);
	free(out);
}
END_TEST

#define PRODUCERS 4
#define RECORDS 60000

/* Longer than a word, so that a torn copy shows. */
struct record {
	uint32_t producer, number;
	uint64_t copies[6];
};

struct producer {
	pthread_t thread;
	struct queue *queue;
	pthread_barrier_t *start;
	uint32_t id;
	uint64_t refused;
};

static void *produce(void *userdata)
{
	struct producer *p = userdata;

	pthread_barrier_wait(p->start);
	for (uint32_t i = 0; i < RECORDS; i++) {
		struct record r = {.producer = p->id, .number = i};

		for (size_t k = 0; k < 6; k++)
			r.copies[k] = i * 31u + p->id;
		while (!queue_push(p->queue, &r)) {
			p->refused++;
			sched_yield();
		}
	}
	return NULL;
}

static bool record_whole(const struct record *r)
{
	for (size_t k = 0; k < 6; k++)
		if (r->copies[k] != r->number * 31u + r->producer)
			return false;
	return true;
}

START_TEST(loses_and_doubles_nothing_between_threads)
{
	static const size_t capacities[] = {2, 16, 65536}; /* from always full to hardly ever */
	struct producer producers[PRODUCERS] = {0};
	uint32_t next[PRODUCERS] = {0};
	uint64_t refused = 0, bad = 0;
	pthread_barrier_t start;
	struct record r;
	struct queue *q;

	ck_assert_int_eq(pthread_barrier_init(&start, NULL, PRODUCERS), 0);
	ck_assert_int_eq(queue_new(sizeof(r), capacities[_i], &q), 0);
	for (uint32_t i = 0; i < PRODUCERS; i++) {
		producers[i].queue = q;
		producers[i].start = &start;
		producers[i].id = i;
		ck_assert_int_eq(
			pthread_create(&producers[i].thread, NULL, produce, &producers[i]), 0);
	}
	for (uint32_t n = 0; n < PRODUCERS * RECORDS; n++) {
		while (!queue_pop(q, &r))
			sched_yield();
		bad += r.producer >= PRODUCERS || !record_whole(&r) ||
		       r.number != next[r.producer]++; /* in order, each once */
	}
	for (uint32_t i = 0; i < PRODUCERS; i++) {
		pthread_join(producers[i].thread, NULL);
		ck_assert_uint_eq(next[i], RECORDS);
		refused += producers[i].refused;
	}
	ck_assert(!queue_pop(q, &r));
	ck_assert_uint_eq(bad, 0);
	if (capacities[_i] == 2)
		ck_assert_uint_gt(refused, 0); /* else the queue was never full */
	queue_free(q);
}
END_TEST

START_TEST(free_accepts_null)
{
	ck_assert_ptr_null(queue_free(NULL));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("queue");
	TCase *tcase = tcase_create("queue");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, holds_exactly_its_capacity, 0, 4);
	tcase_add_test(tcase, keeps_order_round_the_ring);
	tcase_add_loop_test(tcase, copies_records_of_any_size, 0, 7);
	tcase_add_loop_test(tcase, loses_and_doubles_nothing_between_threads, 0, 3);
	tcase_add_test(tcase, free_accepts_null);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
