/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include <inttypes.h>
#include <stdio.h>

static void report_finding(const struct findings *findings, const struct finding *f,
			   const char *path, enum event_kind event)
{
	const char *file = findings_file(findings, f);

	event = f->warning ? EVENT_CONFIG_WARNING : event;
	if (f->line)
		log_event(event, NULL, "%s:%u:%u: %s", file ?: config_base_name(path), f->line,
			  f->column, f->text);
	else
		log_event(event, NULL, "%s: %s", file ?: path, f->text);
}

/* Warnings take only the room that errors leave. */
void report_findings(const struct findings *findings, const char *path, enum event_kind event)
{
	size_t errors = MIN(findings->n_errors, (size_t)REPORT_FINDINGS);
	size_t warnings = REPORT_FINDINGS - errors, left_out = findings->n_left_out;

	for (size_t i = 0; i < findings->n; i++) {
		size_t *room = findings->list[i].warning ? &warnings : &errors;

		if (*room > 0) {
			report_finding(findings, &findings->list[i], path, event);
			(*room)--;
		} else {
			left_out++;
		}
	}
	if (left_out > 0)
		log_event(findings->n_errors > 0 ? event : EVENT_CONFIG_WARNING, NULL,
			  "%s: %zu finding%s more; --check-config prints all of them", path,
			  left_out, plural(left_out));
}

void report_first_error(const struct findings *findings, const char *path,
			struct error *ret_error)
{
	for (size_t i = 0; i < findings->n; i++) {
		const struct finding *f = &findings->list[i];
		const char *file = findings_file(findings, f) ?: config_base_name(path);

		if (f->warning)
			continue;
		if (f->line)
			error_set(ret_error, "%s:%u: %s", file, f->line, f->text);
		else
			error_set(ret_error, "%s: %s", file, f->text);
		return;
	}
}

#define HASH_NAME "CONFIG_HASH="
#define HASH_FIELD_SIZE (sizeof(HASH_NAME) + CONFIG_HASH_SIZE)

void report_started(const struct config *config)
{
	char hash[HASH_FIELD_SIZE], count[CONFIG_COUNT_SIZE];
	const char *const fields[] = {hash, NULL};

	snprintf(hash, sizeof(hash), HASH_NAME "%s", config->hash);
	log_event(EVENT_START, fields,
		  "kms-vsock-proxyd " PROJECT_VERSION
		  " started: %zu listener%s, %s, %zu endpoint%s, %u worker%s",
		  config->n_listeners, plural(config->n_listeners), config_count(config, count),
		  config->n_endpoints, plural(config->n_endpoints), config->workers,
		  plural(config->workers));
}

void report_loaded(const char *path, const struct config *config)
{
	char hash[HASH_FIELD_SIZE], count[CONFIG_COUNT_SIZE];
	const char *const fields[] = {hash, NULL};

	snprintf(hash, sizeof(hash), HASH_NAME "%s", config->hash);
	log_event(EVENT_CONFIG_LOADED, fields, "%s: loaded, %s, %zu endpoint%s", path,
		  config_count(config, count), config->n_endpoints,
		  plural(config->n_endpoints));
}

#define FIELD_SIZE (LIMIT_NAME + sizeof("ENCLAVE="))
#define WHO_SIZE (LIMIT_NAME + sizeof(" (CID 4294967295)"))

/* "payments", or "payments (CID 16)". */
static const char *who(const struct enclave *e, char *out)
{
	int n = snprintf(out, WHO_SIZE, "%s", e->named.name);

	if (e->named.number)
		snprintf(out + n, WHO_SIZE - (size_t)n, " (CID %" PRIu32 ")", e->named.number);
	return out;
}

/* ENCLAVE and, of a slot with one, ENCLAVE_CID. Returns how many fields these are. */
static unsigned add_slot(const struct enclave *e, char room[2][FIELD_SIZE], const char **fields)
{
	snprintf(room[0], FIELD_SIZE, "ENCLAVE=%s", e->named.name);
	snprintf(room[1], FIELD_SIZE, "ENCLAVE_CID=%" PRIu32, e->named.number);
	fields[0] = room[0];
	fields[1] = room[1];
	return e->named.number ? 2 : 1;
}

static uint64_t counted(const struct enclave *e, enum counter counter)
{
	return atomic_load(&e->counters[counter]);
}

static bool is_in_force(const struct generation *g, const struct enclave *e)
{
	for (size_t i = 0; i < g->config->n_slots; i++)
		if (g->enclaves[i] == e)
			return true;
	return false;
}

/* Of one that is gone only what nobody was told yet: CIDs come and go, and all are remembered.
 */
static bool is_due(struct enclave *e, const struct generation *in_force)
{
	uint64_t before = e->reported;

	e->reported = 0;
	for (unsigned i = 0; i < _COUNTER_MAX; i++)
		e->reported += counted(e, i);
	return e->reported != before || is_in_force(in_force, e);
}

static void report_enclave(const struct enclave *e)
{
	char text[_COUNTER_MAX][48], slot[2][FIELD_SIZE], name[WHO_SIZE];
	const char *fields[_COUNTER_MAX + 3] = {NULL};
	unsigned n = add_slot(e, slot, fields);

	for (unsigned i = 0; i < _COUNTER_MAX; i++) {
		snprintf(text[i], sizeof(text[i]), "%s=%" PRIu64, counter_name(i),
			 counted(e, i));
		fields[n + i] = text[i];
	}
	fields[n + _COUNTER_MAX] = NULL;
	log_event(EVENT_COUNTERS, fields,
		  "%s: requests %" PRIu64 " (allowed %" PRIu64 ", refused %" PRIu64
		  ", throttled %" PRIu64 ", failed %" PRIu64 "), waited %" PRIu64
		  "; errors of AWS KMS: denied %" PRIu64 ", throttled %" PRIu64
		  ", failed %" PRIu64 "; connections %" PRIu64 " (refused %" PRIu64
		  "); tunnels %" PRIu64 "; bytes in %" PRIu64 ", out %" PRIu64,
		  who(e, name), counted(e, COUNTER_REQUESTS), counted(e, COUNTER_ALLOWED),
		  counted(e, COUNTER_REFUSED), counted(e, COUNTER_THROTTLED),
		  counted(e, COUNTER_FAILED), counted(e, COUNTER_WAITED),
		  counted(e, COUNTER_KMS_DENIED), counted(e, COUNTER_KMS_THROTTLED),
		  counted(e, COUNTER_KMS_FAILED), counted(e, COUNTER_CONNECTIONS),
		  counted(e, COUNTER_CONNECTIONS_REFUSED), counted(e, COUNTER_TUNNELS),
		  counted(e, COUNTER_BYTES_IN), counted(e, COUNTER_BYTES_OUT));
}

void report_counters(const struct enclave_table *table, const struct generation *in_force)
{
	struct enclave *e;

	for (unsigned i = 0; (e = enclave_table_at(table, i)); i++)
		if (is_due(e, in_force))
			report_enclave(e);
}

/* `e` is NULL for peers of no enclave. */
static void report_left_out(struct flood *flood, const struct enclave *e)
{
	uint64_t left_out = flood_take_suppressed(flood);
	char slot[2][FIELD_SIZE], count[48], name[WHO_SIZE];
	const char *fields[4] = {NULL};
	unsigned n = e ? add_slot(e, slot, fields) : 0;

	if (left_out == 0)
		return;
	snprintf(count, sizeof(count), "SUPPRESSED=%" PRIu64, left_out);
	fields[n] = count;
	fields[n + 1] = NULL;
	log_event(EVENT_SUPPRESSED, fields,
		  "%s: %" PRIu64 " records of refused requests or connections were left out",
		  e ? who(e, name) : "peers of no enclave", left_out);
}

void report_suppressed(const struct enclave_table *table, struct flood *unknown)
{
	struct enclave *e;

	for (unsigned i = 0; (e = enclave_table_at(table, i)); i++)
		report_left_out(&e->flood, e);
	report_left_out(unknown, NULL);
}
