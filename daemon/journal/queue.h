/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A bounded queue of records of one size, from any number of threads to one, without locks: the
 * array of cells with sequence numbers of Dmitry Vyukov's bounded queue. */

#include "macro.h"

#include <stdbool.h>
#include <stddef.h>

struct queue;

/* Room for `capacity` records (a power of two, 2 or more) of `record_size` bytes. -ENOMEM. */
_must_check_ int queue_new(size_t record_size, size_t capacity, struct queue **ret_queue);
struct queue *queue_free(struct queue *queue);
DEFINE_CLEANUP(struct queue *, queue_free)

/* Copies the record in; any thread. False: the queue is full and unchanged. Records of one
 * thread come out in the order they were put in. Sequentially consistent with queue_pop(): a
 * consumer that stores "asleep" and then finds the queue empty is seen asleep by whoever pushes
 * after that. */
_must_check_ bool queue_push(struct queue *queue, const void *record);

/* Copies the oldest record out; one thread only. False: there is none (or its producer is still
 * at it, and returns from queue_push() later). */
_must_check_ bool queue_pop(struct queue *queue, void *ret_record);
