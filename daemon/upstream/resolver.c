/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver.h"

#include "buf.h"
#include "limit.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/queue.h>

#define ADDRESSES_MAX 1024 /* bytes of one answer: some 20 addresses */

struct waiter {
	STAILQ_ENTRY(waiter) link;
	struct mailbox *mailbox;
	struct letter *letter; /* of the answer, which nobody would ask for again */
	uint64_t id;
};

/* A name that is being looked up, or waits for a thread. */
struct job {
	STAILQ_ENTRY(job) link;
	STAILQ_HEAD(, waiter) waiters;
	bool running;
	char host[];
};

/* The last good answer for a name; names come from the configuration only, so they are few. */
struct known {
	STAILQ_ENTRY(known) link;
	char *addresses;
	char host[];
};

struct resolver {
	pthread_mutex_t mutex; /* guards all of it */
	STAILQ_HEAD(, known) known;
	STAILQ_HEAD(, job) jobs;
	unsigned threads;
	bool closed; /* freed when the last thread has left */
};

int resolver_new(struct resolver **ret_resolver)
{
	struct resolver *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	pthread_mutex_init(&r->mutex, NULL);
	STAILQ_INIT(&r->jobs);
	STAILQ_INIT(&r->known);
	*ret_resolver = r;
	return 0;
}

static struct waiter *waiter_free(struct waiter *w)
{
	if (!w)
		return NULL;
	letter_free(w->letter);
	free(w);
	return NULL;
}

static struct waiter *waiter_new(struct mailbox *mailbox, uint64_t id)
{
	struct waiter *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->mailbox = mailbox;
	w->id = id;
	w->letter = letter_new();
	return w->letter ? w : waiter_free(w);
}

static void job_free(struct job *job)
{
	struct waiter *w;

	while ((w = STAILQ_FIRST(&job->waiters))) {
		STAILQ_REMOVE_HEAD(&job->waiters, link);
		waiter_free(w);
	}
	free(job);
}

static void resolver_destroy(struct resolver *r)
{
	struct known *known;
	struct job *job;

	while ((job = STAILQ_FIRST(&r->jobs))) {
		STAILQ_REMOVE_HEAD(&r->jobs, link);
		job_free(job);
	}
	while ((known = STAILQ_FIRST(&r->known))) {
		STAILQ_REMOVE_HEAD(&r->known, link);
		free(known->addresses);
		free(known);
	}
	pthread_mutex_destroy(&r->mutex);
	free(r);
}

struct resolver *resolver_free(struct resolver *r)
{
	bool last;

	if (!r)
		return NULL;
	pthread_mutex_lock(&r->mutex);
	r->closed = true;
	last = r->threads == 0;
	pthread_mutex_unlock(&r->mutex);
	if (last)
		resolver_destroy(r);
	return NULL;
}

static char *addresses_text(const struct addrinfo *list)
{
	_cleanup_(buf_done) struct buf b = BUF_INIT(ADDRESSES_MAX);
	char host[NI_MAXHOST];

	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		bool v6 = a->ai_family == AF_INET6;

		if (getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof(host), NULL, 0,
				NI_NUMERICHOST) != 0 ||
		    strchr(host, '%')) /* a scope has no place in a dial's list */
			continue;
		if (buf_printf(&b, "%s%s%s%s", b.n ? "," : "", v6 ? "[" : "", host,
			       v6 ? "]" : "") < 0)
			break; /* the ones that fit will do */
	}
	return b.n ? strndup(b.p, b.n) : NULL;
}

static void job_answer(struct job *job, int code, const char *addresses)
{
	struct waiter *w;

	STAILQ_FOREACH (w, &job->waiters, link) {
		struct message m = {.kind = MESSAGE_ADDRESSES,
				    .id = w->id,
				    .number = code,
				    .addresses = addresses ? strdup(addresses) : NULL};

		if (addresses && !m.addresses)
			m.number = EAI_MEMORY;
		mailbox_post(w->mailbox, TAKE_PTR(w->letter), &m);
	}
}

static struct known *find_known(const struct resolver *r, const char *host)
{
	struct known *k;

	STAILQ_FOREACH (k, &r->known, link)
		if (strcmp(k->host, host) == 0)
			return k;
	return NULL;
}

/* Keeps a good answer; in place of a bad one gives what is kept. Returns what to answer with,
 * which the caller owns, or NULL. Called with the mutex held. */
static char *remember(struct resolver *r, const char *host, char *addresses)
{
	size_t n = strlen(host) + 1;
	struct known *k = find_known(r, host);
	char *copy;

	if (!addresses)
		return k && k->addresses ? strdup(k->addresses) : NULL;
	if (!k) {
		k = calloc(1, sizeof(*k) + n);
		if (!k)
			return addresses;
		memcpy(k->host, host, n);
		STAILQ_INSERT_TAIL(&r->known, k, link);
	}
	copy = strdup(addresses);
	if (copy) {
		free(k->addresses);
		k->addresses = copy;
	}
	return addresses;
}

static void job_run(struct resolver *r, struct job *job)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	char *addresses = NULL;
	int code;

	code = getaddrinfo(job->host, NULL, &hints, &list);
	if (code == 0) {
		addresses = addresses_text(list);
		freeaddrinfo(list);
		if (!addresses)
			code = EAI_NODATA;
	}

	pthread_mutex_lock(&r->mutex);
	STAILQ_REMOVE(&r->jobs, job, job, link);
	addresses = remember(r, job->host, addresses);
	if (!r->closed) /* else the mailboxes are going, or gone */
		job_answer(job, code, addresses);
	pthread_mutex_unlock(&r->mutex);
	job_free(job);
	free(addresses);
}

static struct job *next_job(struct resolver *r)
{
	struct job *job;

	STAILQ_FOREACH (job, &r->jobs, link)
		if (!job->running)
			return job;
	return NULL;
}

static void *lookup_thread(void *userdata)
{
	struct resolver *r = userdata;
	bool last;

	pthread_mutex_lock(&r->mutex);
	for (;;) {
		struct job *job = r->closed ? NULL : next_job(r);

		if (!job)
			break;
		job->running = true;
		pthread_mutex_unlock(&r->mutex);
		job_run(r, job);
		pthread_mutex_lock(&r->mutex);
	}
	r->threads--;
	last = r->closed && r->threads == 0;
	pthread_mutex_unlock(&r->mutex);
	if (last)
		resolver_destroy(r);
	return NULL;
}

/* Called with the mutex held. Signals stay with the control thread. */
static int start_thread(struct resolver *r)
{
	pthread_attr_t attr;
	sigset_t all, before;
	pthread_t thread;
	int e;

	if (r->threads >= LIMIT_LOOKUPS)
		return 0;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	e = pthread_create(&thread, &attr, lookup_thread, r);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (e != 0)
		return r->threads > 0 ? 0 : -e; /* one of the running ones will take the job */
	r->threads++;
	return 0;
}

static struct job *find_or_add(struct resolver *r, const char *host)
{
	size_t n = strlen(host) + 1;
	struct job *job;

	STAILQ_FOREACH (job, &r->jobs, link)
		if (strcmp(job->host, host) == 0)
			return job;

	job = calloc(1, sizeof(*job) + n);
	if (!job)
		return NULL;
	STAILQ_INIT(&job->waiters);
	memcpy(job->host, host, n);
	STAILQ_INSERT_TAIL(&r->jobs, job, link);
	return job;
}

int resolver_lookup(struct resolver *r, const char *host, struct mailbox *mailbox, uint64_t id)
{
	struct waiter *w = waiter_new(mailbox, id);
	struct job *job;
	int e = -ENOMEM;

	if (!w)
		return -ENOMEM;

	pthread_mutex_lock(&r->mutex);
	job = find_or_add(r, host);
	if (job)
		e = job->running ? 0 : start_thread(r);
	if (e == 0)
		STAILQ_INSERT_TAIL(&job->waiters, w, link);
	else if (job && STAILQ_EMPTY(&job->waiters)) {
		STAILQ_REMOVE(&r->jobs, job, job, link);
		job_free(job);
	}
	pthread_mutex_unlock(&r->mutex);
	if (e < 0)
		waiter_free(w);
	return e;
}

char *resolver_known(struct resolver *r, const char *host)
{
	struct known *k;
	char *addresses;

	pthread_mutex_lock(&r->mutex);
	k = find_known(r, host);
	addresses = k && k->addresses ? strdup(k->addresses) : NULL;
	pthread_mutex_unlock(&r->mutex);
	return addresses;
}
