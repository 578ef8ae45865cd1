/* SPDX-License-Identifier: Apache-2.0 */
#include "region.h"

#include "imds.h"
#include "log.h"
#include "notify.h"
#include "refresh.h"
#include "report.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define ATTEMPT_TIME (30 * USEC_PER_SEC) /* more than one takes: systemd gives so much more */

/* One go at it, from the first question to the answer. */
struct asker {
	struct event_base *base;
	struct source *source;
	struct event *timer; /* the next attempt; NULL: there is none */
	char *out;
	struct error error; /* why the last attempt failed */
	unsigned failures;
	bool known;
};

static void attempt(struct asker *a);

static void on_timer(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	attempt(userdata);
}

/* The same reason over and over is told once. */
static void wait_and_retry(struct asker *a, const struct error *why)
{
	uint64_t random = 0;
	char status[sizeof(why->text) + 64];
	struct timeval delay;
	usec_t t;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = 0;
	a->failures++;
	t = refresh_delay(&(struct refresh){.failures = a->failures}, random);
	if (strcmp(a->error.text, why->text) != 0)
		log_event(EVENT_REGION_FAIL, NULL,
			  "the region of this instance isn't known yet: %s", why->text);
	a->error = *why;
	snprintf(status, sizeof(status), "Waiting for the region of this instance: %s",
		 why->text);
	notify_status(status);
	notify_extend_timeout(t + ATTEMPT_TIME);
	delay = (struct timeval){t / USEC_PER_SEC, t % USEC_PER_SEC};
	if (event_add(a->timer, &delay) < 0)
		event_base_loopbreak(a->base);
}

static void on_region(const char *region, const struct error *error, void *userdata)
{
	struct asker *a = userdata;

	if (region) {
		snprintf(a->out, REGION_SIZE, "%s", region);
		a->known = true;
	}
	if (!region && a->timer) {
		wait_and_retry(a, error);
		return;
	}
	if (error)
		a->error = *error;
	event_base_loopbreak(a->base);
}

static void attempt(struct asker *a)
{
	imds_ask_region(a->source, on_region, a);
}

static void asker_done(struct asker *a)
{
	source_free(a->source);
	if (a->timer)
		event_free(a->timer);
}

/* Runs the loop until it is known or the loop is broken; the first attempt begins in its first
 * turn, since it may end at once. */
static int run(struct asker *a, const struct credentials_config *config, bool again)
{
	static const struct timeval now = {0, 0};
	int r = imds_new(a->base, config, &a->source);

	if (r < 0)
		return r;
	if (again)
		a->timer = event_new(a->base, -1, 0, on_timer, a);
	if (again && !a->timer)
		return -ENOMEM;
	if (event_base_once(a->base, -1, EV_TIMEOUT, on_timer, a, &now) < 0)
		return -ENOMEM;
	event_base_dispatch(a->base);
	return 0;
}

static int await(struct region *region, const struct credentials_config *config)
{
	_cleanup_(asker_done) struct asker a = {.base = region->base, .out = region->text};
	int r;

	region->state = REGION_WAITING;
	notify_status("Asking IMDS for the region of this instance");
	notify_extend_timeout(ATTEMPT_TIME);
	r = run(&a, config, true);
	if (r == 0 && a.known)
		log_event(EVENT_REGION, NULL, "this instance is in region %s", region->text);
	else if (r == 0 && region->state == REGION_WAITING)
		r = -ENOMEM; /* the timer could not be armed */
	return r;
}

/* A file that is wrong changes nothing while the region isn't known; when it is, it must be
 * right. */
static int read_again(const struct region *region, const char *path, struct config **config)
{
	const struct config_facts facts = {.instance_region =
						   region->text[0] ? region->text : NULL};
	_cleanup_(findings_done) struct findings findings = {0};
	struct config *found;
	int r = config_load(path, &facts, &found, &findings);

	report_findings(&findings, path, EVENT_CONFIG_REFUSED);
	if (r == 0) {
		config_unref(*config);
		*config = found;
	}
	return r < 0 && region->text[0] ? r : 0;
}

int region_settle(struct region *region, struct event_base *base, const char *path,
		  struct config **config)
{
	int r = 0;

	region->base = base;
	while (r == 0 && !region->text[0] && config_needs_region(*config)) {
		r = await(region, &(*config)->credentials);
		if (r == 0 && region->state == REGION_STOPPED)
			return 1;
		r = r < 0 ? r : read_again(region, path, config);
	}
	region->state = REGION_IDLE;
	return r;
}

bool region_take_signal(struct region *region, int number)
{
	if (region->state == REGION_IDLE)
		return false;
	if (number == SIGTERM || number == SIGINT)
		region->state = REGION_STOPPED;
	else if (number == SIGHUP && region->state == REGION_WAITING)
		region->state = REGION_REREAD;
	else
		return true;
	event_base_loopbreak(region->base);
	return true;
}

struct config_facts region_facts(const struct region *region)
{
	return (struct config_facts){
		.instance_region = region->text[0] ? region->text : NULL,
		.no_region = "instance is asked for at the start only, and nothing needed it "
			     "then; restart the service",
		.no_region_is_error = true};
}

int region_ask(const struct credentials_config *config, char *ret_region, struct error *error)
{
	struct asker a = {.base = event_base_new(), .out = ret_region};
	int r = a.base ? run(&a, config, false) : -ENOMEM;

	asker_done(&a);
	if (a.base)
		event_base_free(a.base);
	if (r < 0)
		return error_set_errno(error, r, "can't ask IMDS");
	if (a.known)
		return 0;
	*error = a.error;
	return -EIO;
}
