/* SPDX-License-Identifier: Apache-2.0 */
#include "descriptors.h"

#include "limit.h"

#include <inttypes.h>
#include <sys/resource.h>

/* The journal, systemd, libcurl's, lookups, and a few for each thread. */
#define OWN 64
#define OWN_OF_WORKER 4

uint64_t descriptors_needed(const struct config *c)
{
	uint64_t n =
		OWN + c->n_listeners + (uint64_t)OWN_OF_WORKER * c->workers + LIMIT_SURPLUS;

	for (size_t i = 0; i < c->n_endpoints; i++)
		n += (uint64_t)c->endpoints[i].connections * c->workers;
	for (size_t i = 0; i < c->n_enclaves; i++) {
		const struct enclave_config *e = &c->enclaves[i];

		n += e->limits.connections;
		if (e->tunnel.n_hosts)
			n += e->tunnel.connections;
	}
	return n;
}

void descriptors_check(const struct config *config, struct findings *findings)
{
	uint64_t needed = descriptors_needed(config);
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || needed <= limit.rlim_max)
		return;
	findings_add(findings, true, (struct place){0},
		     "limits.connections, tunnels and connections to endpoints may need "
		     "%" PRIu64 " descriptors, and the process may have %" PRIu64
		     "; without one no enclave is accepted: lower limits.connections, or "
		     "raise LimitNOFILE of the unit (ulimit -Hn)",
		     needed, (uint64_t)limit.rlim_max);
}

void descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit); /* else it goes on with what it has */
}
