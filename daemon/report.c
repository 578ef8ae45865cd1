/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include <inttypes.h>
#include <stdio.h>

void report_findings(const struct findings *findings, const char *path, enum event_kind event)
{
	size_t n = MIN(findings->n, (size_t)REPORT_FINDINGS);

	for (size_t i = 0; i < n; i++) {
		const struct finding *f = &findings->list[i];
		const char *file = findings_file(findings, f);

		if (f->line)
			log_event(f->warning ? EVENT_CONFIG_WARNING : event, NULL,
				  "%s:%u:%u: %s", file ?: config_base_name(path), f->line,
				  f->column, f->text);
		else
			log_event(f->warning ? EVENT_CONFIG_WARNING : event, NULL, "%s: %s",
				  file ?: path, f->text);
	}
	if (n < findings->n)
		log_event(event, NULL,
			  "%s: %zu findings more; --check-config prints all of them", path,
			  findings->n - n);
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
	char hash[HASH_FIELD_SIZE];
	const char *const fields[] = {hash, NULL};

	snprintf(hash, sizeof(hash), HASH_NAME "%s", config->hash);
	log_event(EVENT_START, fields,
		  "kms-vsock-proxyd " PROJECT_VERSION " started: %zu listeners, %zu enclaves, "
		  "%zu endpoints, %u workers",
		  config->n_listeners, config->n_enclaves, config->n_endpoints,
		  config->workers);
}

void report_loaded(const char *path, const struct config *config)
{
	char hash[HASH_FIELD_SIZE];
	const char *const fields[] = {hash, NULL};

	snprintf(hash, sizeof(hash), HASH_NAME "%s", config->hash);
	log_event(EVENT_CONFIG_LOADED, fields, "%s: loaded, %zu enclaves, %zu endpoints", path,
		  config->n_enclaves, config->n_endpoints);
}

static void report_enclave(const struct enclave *e)
{
	char text[_COUNTER_MAX][48], name[LIMIT_NAME + sizeof("ENCLAVE=")];
	const char *fields[_COUNTER_MAX + 2] = {NULL};

	snprintf(name, sizeof(name), "ENCLAVE=%s", e->named.name);
	fields[0] = name;
	for (unsigned i = 0; i < _COUNTER_MAX; i++) {
		snprintf(text[i], sizeof(text[i]), "%s=%" PRIu64, counter_name(i),
			 atomic_load(&e->counters[i]));
		fields[i + 1] = text[i];
	}
	log_event(EVENT_COUNTERS, fields, "%s: %" PRIu64 " requests, %" PRIu64 " allowed",
		  e->named.name, atomic_load(&e->counters[COUNTER_REQUESTS]),
		  atomic_load(&e->counters[COUNTER_ALLOWED]));
}

void report_counters(const struct enclave_table *table)
{
	const struct enclave *e;

	for (unsigned i = 0; (e = enclave_table_at(table, i)); i++)
		report_enclave(e);
}

static void report_left_out(struct flood *flood, const char *enclave, const char *who)
{
	uint64_t n = flood_take_suppressed(flood);
	char name[LIMIT_NAME + sizeof("ENCLAVE=")], count[48];
	const char *fields[] = {count, name, NULL};

	if (n == 0)
		return;
	snprintf(count, sizeof(count), "SUPPRESSED=%" PRIu64, n);
	snprintf(name, sizeof(name), "ENCLAVE=%s", enclave);
	if (!enclave[0])
		fields[1] = NULL;
	log_event(EVENT_SUPPRESSED, fields,
		  "%s: %" PRIu64 " records of refused requests or connections were left out",
		  who, n);
}

void report_suppressed(const struct enclave_table *table, struct flood *unknown)
{
	struct enclave *e;

	for (unsigned i = 0; (e = enclave_table_at(table, i)); i++)
		report_left_out(&e->flood, e->named.name, e->named.name);
	report_left_out(unknown, "", "peers of no enclave");
}
