/* SPDX-License-Identifier: Apache-2.0 */
#include "queue.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_LINE 64

/* `sequence` tells whose turn the cell is. At position p: equal to p, it is free for the
 * producer of p; equal to p + 1, it holds the record of p; the consumer sets it to p +
 * capacity, which frees it for the next round. */
struct cell {
	_Atomic size_t sequence;
	unsigned char record[];
};

struct queue {
	size_t capacity, record_size, cell_size;
	unsigned char *cells;
	alignas(CACHE_LINE) _Atomic size_t tail; /* the next position to push: producers */
	alignas(CACHE_LINE) size_t head;         /* the next position to pop: the consumer */
};

static struct cell *queue_cell(const struct queue *q, size_t position)
{
	return (void *)(q->cells + (position & (q->capacity - 1)) * q->cell_size);
}

/* Cells don't share a cache line: neighbours belong to different threads. */
static size_t round_up(size_t n)
{
	return (n + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

int queue_new(size_t record_size, size_t capacity, struct queue **ret_queue)
{
	_cleanup_(queue_freep) struct queue *q = aligned_alloc(CACHE_LINE, sizeof(*q));

	assert(capacity >= 2 && (capacity & (capacity - 1)) == 0);
	if (!q)
		return -ENOMEM;
	*q = (struct queue){
		.capacity = capacity,
		.record_size = record_size,
		.cell_size = round_up(sizeof(struct cell) + record_size),
	};
	q->cells = aligned_alloc(CACHE_LINE, capacity * q->cell_size);
	if (!q->cells)
		return -ENOMEM;
	for (size_t i = 0; i < capacity; i++)
		atomic_init(&queue_cell(q, i)->sequence, i);

	*ret_queue = TAKE_PTR(q);
	return 0;
}

struct queue *queue_free(struct queue *q)
{
	if (!q)
		return NULL;
	free(q->cells);
	free(q);
	return NULL;
}

bool queue_push(struct queue *q, const void *record)
{
	size_t position = atomic_load_explicit(&q->tail, memory_order_relaxed);
	struct cell *c;

	for (;;) {
		ptrdiff_t turn;

		c = queue_cell(q, position);
		turn = (ptrdiff_t)(atomic_load(&c->sequence) - position);
		if (turn < 0)
			return false; /* it still holds the record of the round before */
		if (turn > 0) {       /* another producer was faster */
			position = atomic_load_explicit(&q->tail, memory_order_relaxed);
			continue;
		}
		/* On failure this loads the tail that the other producer left. */
		if (atomic_compare_exchange_weak(&q->tail, &position, position + 1))
			break;
	}

	memcpy(c->record, record, q->record_size);
	atomic_store(&c->sequence, position + 1);
	return true;
}

bool queue_pop(struct queue *q, void *ret_record)
{
	struct cell *c = queue_cell(q, q->head);

	if (atomic_load(&c->sequence) != q->head + 1)
		return false;
	memcpy(ret_record, c->record, q->record_size);
	atomic_store(&c->sequence, q->head + q->capacity);
	q->head++;
	return true;
}
