/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials_cache.h"

#include "container.h"
#include "credentials_file.h"
#include "imds.h"
#include "log.h"
#include "refresh.h"
#include "source.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

/* The timer never sleeps longer, so that a wall clock that jumps (a resumed machine) is
 * noticed. */
#define LONGEST_SLEEP (60 * USEC_PER_SEC)

enum cache_state {
	CACHE_UNNEEDED, /* nobody has a use for credentials: none are fetched */
	CACHE_STARTING, /* no answer yet */
	CACHE_GOOD,
	CACHE_FAILING, /* can't refresh; what we have is valid */
	CACHE_EXPIRED, /* can't refresh; what we have has expired, and is used all the same: KMS
			* decides, and its clock counts, not ours */
	CACHE_MISSING, /* can't get any */
};

struct credentials_cache {
	struct event_base *base;
	struct event *timer;
	struct credentials_config config; /* its strings are ours */
	struct source *source;
	credentials_cb changed;
	void *userdata;
	struct credentials *current; /* NULL: none so far */
	uint64_t last_serial;        /* of `current` */
	enum cache_state state;
	bool asking; /* one at a time */
	unsigned failures;
	struct error why; /* the last of them */
	usec_t early_at;  /* when a rejection last made us ask; 0: never */
	usec_t due;       /* monotonic; -1: never */
	usec_t due_wall;  /* wall clock, whichever comes first; -1: the other alone counts */
	char status[sizeof(struct error) + 128];
};

/* The strings of a struct credentials_config. */
static const size_t strings[] = {
	offsetof(struct credentials_config, imds_endpoint),
	offsetof(struct credentials_config, imds_role),
	offsetof(struct credentials_config, container_uri),
	offsetof(struct credentials_config, container_token_file),
	offsetof(struct credentials_config, file),
};

static char **string_of(const struct credentials_config *config, size_t i)
{
	return (char **)((char *)config + strings[i]);
}

static void config_done(struct credentials_config *config)
{
	for (size_t i = 0; i < ELEMENTSOF(strings); i++) {
		free(*string_of(config, i));
		*string_of(config, i) = NULL;
	}
}

static int config_copy(const struct credentials_config *config,
		       struct credentials_config *ret_copy)
{
	_cleanup_(config_done) struct credentials_config copy = {.source = config->source,
								 .needed = config->needed};

	for (size_t i = 0; i < ELEMENTSOF(strings); i++) {
		const char *s = *string_of(config, i);

		if (s && !(*string_of(&copy, i) = strdup(s)))
			return -ENOMEM;
	}
	*ret_copy = copy;
	copy = (struct credentials_config){0};
	return 0;
}

static bool config_equal(const struct credentials_config *a, const struct credentials_config *b)
{
	if (a->source != b->source || a->needed != b->needed)
		return false;
	for (size_t i = 0; i < ELEMENTSOF(strings); i++) {
		const char *s = *string_of(a, i), *t = *string_of(b, i);

		if (!s != !t || (s && strcmp(s, t) != 0))
			return false;
	}
	return true;
}

static const char *source_name(enum source_kind source)
{
	static const char *const names[] = {
		[SOURCE_IMDS] = "imds",
		[SOURCE_CONTAINER] = "container",
		[SOURCE_FILE] = "file",
	};

	return names[source];
}

static int source_new(struct event_base *base, const struct credentials_config *config,
		      struct source **ret_source)
{
	switch (config->source) {
	case SOURCE_IMDS:
		return imds_new(base, config, ret_source);
	case SOURCE_CONTAINER:
		return container_new(base, config, ret_source);
	case SOURCE_FILE:
		return credentials_file_new(config, ret_source);
	}
	return -EINVAL;
}

static bool has_expired(const struct credentials *c, usec_t wall)
{
	return c->expiration && c->expiration <= wall;
}

static enum cache_state find_state(const struct credentials_cache *cache, usec_t wall)
{
	if (!cache->config.needed)
		return CACHE_UNNEEDED;
	if (!cache->current)
		return cache->failures ? CACHE_MISSING : CACHE_STARTING;
	if (!cache->failures)
		return CACHE_GOOD;
	return has_expired(cache->current, wall) ? CACHE_EXPIRED : CACHE_FAILING;
}

/* The sentence for the journal and the status line. */
static void describe(const struct credentials_cache *cache, char *out, size_t size)
{
	char date[CLOCK_HTTP_DATE_SIZE] = "for ever";
	const char *until = "";

	if (cache->current && cache->current->expiration) {
		clock_format_http_date(cache->current->expiration, date);
		until = "until ";
	}
	switch (cache->state) {
	case CACHE_UNNEEDED:
		snprintf(out, size, "no enclave has an endpoint: no credentials are fetched");
		return;
	case CACHE_STARTING:
		snprintf(out, size, "fetching credentials");
		return;
	case CACHE_GOOD:
		snprintf(out, size, "credentials valid %s%s", until, date);
		return;
	case CACHE_FAILING:
		snprintf(out, size, "credentials valid %s%s, but they can't be refreshed: %s",
			 until, date, cache->why.text);
		return;
	case CACHE_EXPIRED:
		snprintf(out, size,
			 "credentials expired %s and can't be refreshed, still using "
			 "them: %s",
			 date, cache->why.text);
		return;
	case CACHE_MISSING:
		snprintf(out, size, "no credentials: %s", cache->why.text);
		return;
	}
}

const char *credentials_cache_status(struct credentials_cache *cache)
{
	describe(cache, cache->status, sizeof(cache->status));
	return cache->status;
}

static void report(struct credentials_cache *cache, enum event_kind event)
{
	char key[160], source[64];
	const char *fields[] = {source, cache->current ? key : NULL, NULL};

	snprintf(source, sizeof(source), "CREDENTIALS_SOURCE=%s",
		 source_name(cache->config.source));
	if (cache->current)
		snprintf(key, sizeof(key), "ACCESS_KEY_ID=%s", cache->current->access_key_id);
	log_event(event, fields, "%s", credentials_cache_status(cache));
}

static void arm(struct credentials_cache *cache, usec_t delay)
{
	const usec_t sleep = MIN(delay, LONGEST_SLEEP);
	const struct timeval tv = {sleep / USEC_PER_SEC, sleep % USEC_PER_SEC};

	if (evtimer_add(cache->timer, &tv) < 0)
		log_event(
			EVENT_MACHINE, NULL,
			"Out of memory: credentials won't be refreshed until the next reload.");
}

static void schedule_now(struct credentials_cache *cache)
{
	cache->due = 0;
	arm(cache, 0);
}

static void schedule(struct credentials_cache *cache, usec_t wall)
{
	const struct credentials *current = cache->current;
	const struct refresh refresh = {
		.left = current ? current->expiration - wall : 0,
		.have = current,
		.never_expire = current && !current->expiration,
		.failures = cache->failures,
	};
	usec_t delay = cache->source->ops->poll;
	uint64_t random = 0;

	/* Without randomness there is no jitter, and nothing worse. */
	if (!delay && getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = 0;
	if (!delay)
		delay = refresh_delay(&refresh, random);

	cache->due = delay < 0 ? -1 : clock_monotonic() + delay;
	/* An expiry is a moment of the wall clock, a backoff is a time span. */
	cache->due_wall = delay < 0 || cache->failures ? -1 : wall + delay;
	if (delay >= 0)
		arm(cache, delay);
}

/* Whether the source's answer is better than what we have. Expired ones are, where we have
 * none: perhaps the clock is wrong, and services honour them while IMDS is ill. */
static bool is_better(const struct credentials_cache *cache, const struct credentials *answer,
		      usec_t wall)
{
	if (!cache->current)
		return true;
	if (credentials_equal(cache->current, answer))
		return false; /* not even the serial changes: signers keep their keys */
	return !has_expired(answer, wall) || has_expired(cache->current, wall);
}

/* No other thread knows them before they are published, so that the serial can still be set. A
 * source never gives again what was replaced: nothing gets two serials. */
static void replace_current(struct credentials_cache *cache, struct credentials *answer)
{
	assert(!answer->serial);
	answer->serial = ++cache->last_serial;
	credentials_unref(cache->current);
	cache->current = credentials_ref(answer);
}

/* Logs what changed: new credentials, another state, another reason for the same state. */
static void settle(struct credentials_cache *cache, bool is_new, const char *failure,
		   usec_t wall)
{
	enum cache_state before = cache->state;
	bool news;

	cache->failures = failure ? cache->failures + 1 : 0;
	news = failure && strcmp(failure, cache->why.text) != 0;
	error_set(&cache->why, "%s", failure ?: "");
	cache->state = find_state(cache, wall);
	if (failure && (news || cache->state != before))
		report(cache, EVENT_CREDENTIALS_FAIL);
	else if (!failure && (is_new || cache->state != before))
		report(cache, EVENT_CREDENTIALS);
}

static void on_answer(struct credentials *answer, const struct error *error, void *userdata)
{
	struct credentials_cache *cache = userdata;
	usec_t wall = clock_wall();
	bool is_new = answer && is_better(cache, answer, wall);
	struct error failure = {""};

	cache->asking = false;
	if (is_new)
		replace_current(cache, answer);
	if (!answer)
		failure = *error;
	else if (has_expired(answer, wall))
		error_set(&failure,
			  "the source (%s) gives credentials that have expired by this "
			  "machine's clock",
			  source_name(cache->config.source));
	settle(cache, is_new, failure.text[0] ? failure.text : NULL, wall);
	schedule(cache, wall);
	if (is_new)
		cache->changed(cache->current, cache->userdata);
}

static bool is_due(const struct credentials_cache *cache, usec_t monotonic, usec_t wall)
{
	return cache->due >= 0 &&
	       (monotonic >= cache->due || (cache->due_wall >= 0 && wall >= cache->due_wall));
}

static void on_timer(evutil_socket_t fd, short what, void *userdata)
{
	struct credentials_cache *cache = userdata;
	usec_t now = clock_monotonic();

	(void)fd;
	(void)what;
	if (cache->asking || cache->due < 0)
		return;
	if (!is_due(cache, now, clock_wall())) {
		arm(cache, cache->due - now);
		return;
	}
	cache->asking = true;
	cache->source->ops->start(cache->source, on_answer, cache);
}

/* The source is made anew: what it keeps belongs to its configuration. */
static int set_config(struct credentials_cache *cache, const struct credentials_config *config)
{
	_cleanup_(source_freep) struct source *source = NULL;
	struct credentials_config copy;
	int r = source_new(cache->base, config, &source);

	if (r >= 0)
		r = config_copy(config, &copy);
	if (r < 0)
		return r;
	config_done(&cache->config);
	cache->config = copy;
	if (cache->source && cache->asking)
		cache->source->ops->cancel(cache->source);
	source_free(cache->source);
	cache->source = TAKE_PTR(source);
	cache->asking = false;
	cache->failures = 0;
	cache->due = -1;
	if (!config->needed || cache->state == CACHE_UNNEEDED)
		cache->state = find_state(cache, clock_wall());
	if (config->needed)
		schedule_now(cache);
	else
		evtimer_del(cache->timer);
	return 0;
}

int credentials_cache_new(struct event_base *base, const struct credentials_config *config,
			  credentials_cb changed, void *userdata,
			  struct credentials_cache **ret_cache)
{
	_cleanup_(credentials_cache_freep) struct credentials_cache *cache =
		calloc(1, sizeof(*cache));
	int r;

	if (!cache)
		return -ENOMEM;
	cache->base = base;
	cache->changed = changed;
	cache->userdata = userdata;
	cache->due_wall = -1;
	cache->timer = evtimer_new(base, on_timer, cache);
	if (!cache->timer)
		return -ENOMEM;
	r = set_config(cache, config);
	if (r < 0)
		return r;
	*ret_cache = TAKE_PTR(cache);
	return 0;
}

struct credentials_cache *credentials_cache_free(struct credentials_cache *cache)
{
	if (!cache)
		return NULL;
	source_free(cache->source);
	config_done(&cache->config);
	credentials_unref(cache->current);
	if (cache->timer)
		event_free(cache->timer);
	free(cache);
	return NULL;
}

int credentials_cache_configure(struct credentials_cache *cache,
				const struct credentials_config *config)
{
	return config_equal(&cache->config, config) ? 0 : set_config(cache, config);
}

void credentials_cache_reject(struct credentials_cache *cache, uint64_t serial)
{
	if (!cache->config.needed || !cache->current || cache->current->serial != serial ||
	    cache->asking)
		return;
	if (cache->early_at && !refresh_early(clock_monotonic() - cache->early_at))
		return;
	cache->early_at = clock_monotonic();
	schedule_now(cache);
}
