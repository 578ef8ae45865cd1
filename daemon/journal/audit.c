/* SPDX-License-Identifier: Apache-2.0 */
#include "audit.h"

#include "audit_entry.h"
#include "queue.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RETRY_MSEC 1             /* before a journal that is full or away is tried again */
#define RETRY_MSEC_MAX 32        /* it doubles up to this */
#define NAP_MSEC 5               /* a writer that found no more looks once more after this */
#define LOOK_MSEC 1000           /* an idle writer looks for losses of log_event() this often */
#define FLUSH_TIME USEC_PER_SEC  /* audit_free() waits this long for the journal */
#define REPORT_TIME USEC_PER_SEC /* losses are recorded at most this often */

struct audit {
	struct queue *queue;
	struct log_batch *batch; /* the writer's */
	pthread_t thread;
	int wake; /* eventfd: read by the writer, written by whoever finds it asleep */
	_Atomic bool asleep;
	_Atomic usec_t stop_at; /* 0, or when the writer gives up what it can't write */
	_Atomic uint64_t lost;
	uint64_t reported;  /* of `lost`; the writer's */
	usec_t next_report; /* the writer's */
};

void audit_record_init(struct audit_record *r, enum event_kind event)
{
	*r = (struct audit_record){
		.event = event,
		.priority = -1,
		.duration = -1,
		.upstream = -1,
		.wait = -1,
		.bytes_in = -1,
		.bytes_out = -1,
	};
}

void audit_copy(char *field, size_t size, struct slice value)
{
	slice_escape(value, field, size);
}

/* Waits until somebody wakes the writer, or the time is over. */
static void audit_wait(struct audit *a, int msec)
{
	struct pollfd poller = {.fd = a->wake, .events = POLLIN};
	eventfd_t count;

	if (poll(&poller, 1, msec) > 0)
		(void)eventfd_read(a->wake, &count);
}

static void audit_wake(struct audit *a)
{
	(void)eventfd_write(a->wake, 1); /* fails only when it has been woken very often */
}

static bool audit_out_of_time(struct audit *a)
{
	usec_t stop_at = atomic_load(&a->stop_at);

	return stop_at && clock_monotonic() >= stop_at;
}

static void audit_count_lost(struct audit *a, uint64_t n)
{
	atomic_fetch_add_explicit(&a->lost, n, memory_order_relaxed);
}

/* Takes what is queued, as much as one batch holds. False: there is nothing. */
static bool audit_take(struct audit *a)
{
	_uninitialized_ struct audit_record r;
	_uninitialized_ struct audit_entry e;

	while (log_batch_waiting(a->batch) < LOG_BATCH && queue_pop(a->queue, &r)) {
		audit_entry_init(&e, &r);
		if (log_batch_add(a->batch,
				  r.priority < 0 ? event_info(r.event)->priority : r.priority,
				  (struct slice){e.text, e.used}, e.fields, e.n) < 0)
			audit_count_lost(a, 1);
	}
	return log_batch_waiting(a->batch) > 0;
}

/* A journal that is full, stopped or being started anew takes the records later; meanwhile the
 * queue fills, and what it can't hold is lost there. */
static void audit_write(struct audit *a)
{
	size_t left = log_batch_waiting(a->batch);
	int wait = RETRY_MSEC, r;

	while ((r = log_batch_write(a->batch)) < 0) {
		if (log_batch_waiting(a->batch) < left)
			wait = RETRY_MSEC;
		left = log_batch_waiting(a->batch);
		if (r == -EMSGSIZE || audit_out_of_time(a)) {
			log_batch_drop(a->batch);
			audit_count_lost(a, 1);
			continue;
		}
		audit_wait(a, wait);
		wait = MIN(wait * 2, RETRY_MSEC_MAX);
	}
}

/* Records what was lost, as soon as the journal takes something again. */
static void audit_report_lost(struct audit *a)
{
	_uninitialized_ struct audit_entry e;
	uint64_t lost;
	usec_t now;

	audit_count_lost(a, log_take_lost());
	lost = audit_lost(a) - a->reported;
	if (lost == 0)
		return;
	now = clock_monotonic();
	if (now < a->next_report && !atomic_load(&a->stop_at))
		return;

	audit_entry_init_lost(&e, lost);
	if (log_write(event_info(EVENT_LOST)->priority, e.fields, e.n) < 0)
		return;
	a->reported += lost;
	a->next_report = now + REPORT_TIME;
}

/* Between records it naps, and only after a nap that brought none does it say that it sleeps:
 * waking it costs a worker more than everything else about a record. */
static void *audit_main(void *userdata)
{
	struct audit *a = userdata;
	bool napped = false;

	for (;;) {
		bool stop = atomic_load(&a->stop_at); /* read before the queue is found empty */

		audit_report_lost(a);
		atomic_store(&a->asleep, napped); /* then it looks at the queue once more */
		if (audit_take(a)) {
			audit_write(a);
			napped = false;
		} else if (stop) {
			return NULL;
		} else {
			audit_wait(a, napped ? LOOK_MSEC : NAP_MSEC);
			napped = !napped;
		}
	}
}

static struct audit *audit_destroy(struct audit *a)
{
	queue_free(a->queue);
	log_batch_free(a->batch);
	if (a->wake >= 0)
		close(a->wake);
	free(a);
	return NULL;
}

/* Signals belong to the control thread; a thread inherits the mask of its maker. */
static int audit_start_thread(struct audit *a)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&a->thread, NULL, audit_main, a);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r == 0)
		pthread_setname_np(a->thread, "audit");
	return -r;
}

int audit_new(struct audit **ret_audit)
{
	struct audit *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = a->wake < 0 ? -errno : 0;
	if (r == 0)
		r = queue_new(sizeof(struct audit_record), LIMIT_AUDIT_QUEUE, &a->queue);
	if (r == 0)
		r = log_batch_new(&a->batch);
	if (r == 0)
		r = audit_start_thread(a);
	if (r < 0) {
		audit_destroy(a);
		return r;
	}
	*ret_audit = a;
	return 0;
}

struct audit *audit_free(struct audit *a)
{
	if (!a)
		return NULL;
	atomic_store(&a->stop_at, clock_monotonic() + FLUSH_TIME);
	audit_wake(a);
	pthread_join(a->thread, NULL);
	return audit_destroy(a);
}

void audit_submit(struct audit *a, const struct audit_record *record)
{
	if (!queue_push(a->queue, record))
		audit_count_lost(a, 1);
	else if (atomic_load(&a->asleep) && atomic_exchange(&a->asleep, false))
		audit_wake(a);
}

uint64_t audit_lost(const struct audit *a)
{
	return atomic_load_explicit(&a->lost, memory_order_relaxed);
}
