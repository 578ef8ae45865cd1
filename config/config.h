/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The configuration, read and validated: immutable and counted. kms-vsock-proxy.yaml(5) is the
 * specification; config/options.c has one row an option. */

#include "clock.h"
#include "error.h"
#include "macro.h"
#include "policy.h"
#include "rate_limit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

enum listener_kind { LISTENER_VSOCK, LISTENER_UNIX, LISTENER_SYSTEMD };

struct listener_config {
	enum listener_kind kind;
	unsigned line;
	unsigned port;     /* vsock */
	char *path;        /* unix */
	char *fd_name;     /* systemd: FileDescriptorName */
	int enclave_index; /* index into enclaves; -1: the peer's CID names it */
	mode_t mode;       /* unix: 0600 by default */
	char *group;       /* unix: NULL or the socket's group */
};

/* An HTTP proxy that connections go through. */
struct proxy_config {
	char *host; /* an address without brackets, or a name; NULL: there is none */
	unsigned port;
	char *credentials_file; /* as small_file_find() takes it; NULL: it asks for none */
};

struct endpoint_config {
	char *name;
	unsigned line;
	char *host;           /* given, or made from region, fips and dualstack */
	char *written_region; /* as the file has it: may be "instance" */
	char *region;         /* the one that is meant; NULL: the instance's, not known */
	unsigned port;        /* 443 */
	char *host_header; /* what is sent and signed: host, or host:port unless that is 443 */
	char *connect_to;  /* connect there instead: an address without brackets, or a name; or
			      NULL */
	unsigned connect_port;
	struct proxy_config proxy;
	char *ca_file; /* NULL: the system's bundle */
	bool fips, dualstack;
	unsigned connections; /* a worker */
	usec_t connect_timeout, reply_timeout, queue_timeout;
};

/* Whether it is in the region of the instance, whichever that is. */
static inline bool endpoint_is_instance(const struct endpoint_config *e)
{
	return e->written_region && strcmp(e->written_region, "instance") == 0;
}

struct tunnel_host {
	char *host;
	unsigned port;
	char *connect_to; /* NULL: host */
	unsigned connect_port;
	unsigned line;
	bool tls; /* false: any bytes, and by CONNECT only */
	struct proxy_config proxy;
};

struct tunnel_config {
	struct tunnel_host *hosts;
	size_t n_hosts;     /* 0: the enclave has no tunnel */
	uint64_t bandwidth; /* bytes a second, both ways together; 0: no limit */
	unsigned connections;
	usec_t idle;
};

struct limits_config {
	struct rate requests; /* with its burst */
	unsigned in_flight;
	unsigned connections;
	size_t body;
};

/* CIDs from `first` to `last`, both of them. */
struct cid_range {
	unsigned first, last; /* 4 or more */
	unsigned line;
};

/* What stands in the file under one name; its slots are in struct config. */
struct enclave_config {
	char *name;
	const char *file; /* borrowed of `files` */
	unsigned line;
	unsigned cid;           /* 0: it has `cids`, or none */
	struct cid_range *cids; /* in the order of the file */
	size_t n_cids;
	unsigned *endpoints; /* indices; the first is the default */
	size_t n_endpoints;
	struct limits_config limits;
	struct policy policy;
	struct tunnel_config tunnel;
};

/* Who is one enclave to the kernel: the peer with one CID, or the peers of the Unix listeners
 * that name the enclave. The slots of an enclave have its policy and its limits in common, and
 * nothing of what they have used. */
struct slot_config {
	unsigned enclave; /* index into enclaves */
	unsigned cid;     /* 0: that of the listeners */
	unsigned line;    /* of the CID; else of the enclave */
};

enum source_kind { SOURCE_IMDS, SOURCE_CONTAINER, SOURCE_FILE };

struct credentials_config {
	enum source_kind source;
	bool needed;                /* an enclave has an endpoint */
	char *imds_endpoint;        /* "http://169.254.169.254" */
	char *imds_role;            /* NULL: the role that IMDS lists */
	char *container_uri;        /* NULL: from the environment, as the SDKs do */
	char *container_token_file; /* NULL: from the environment */
	char *file;                 /* a path; a relative one is under $CREDENTIALS_DIRECTORY */
};

#define CONFIG_HASH_SIZE 65

enum audit_mode { AUDIT_ALL, AUDIT_REFUSALS };

struct config {
	_Atomic unsigned refs;
	char *path;
	char **files; /* relative to the folder of `path`: the main file's, the drop-ins' */
	size_t n_files;
	char hash[CONFIG_HASH_SIZE]; /* of all files, in hexadecimal; "": not from files */
	struct listener_config *listeners;
	size_t n_listeners;
	struct endpoint_config *endpoints;
	size_t n_endpoints;
	struct enclave_config *enclaves;
	size_t n_enclaves;
	struct slot_config *slots; /* in the order of the enclaves; the one without CID last */
	size_t n_slots;
	struct credentials_config credentials;
	struct limits_config limits; /* the enclaves' default; theirs hold what is in force */
	unsigned workers;
	size_t memory;
	enum audit_mode audit;
};

/* One finding about a file: an error or a warning, with its place. */
struct finding {
	bool warning;
	unsigned file;         /* 0: the main file; findings_file() has the name of others */
	unsigned line, column; /* 1-based; 0 when the file as a whole is meant */
	char text[400];        /* the value, what was expected, "did you mean" */
};

struct findings {
	struct finding *list; /* in the order of the files, and of each file */
	size_t n, n_errors;
	size_t n_left_out; /* more than a person would read */
	char **files;      /* the drop-ins, relative to the folder of the main file */
	size_t n_files;
	unsigned file; /* the one that is being read */
};

void findings_done(struct findings *findings);

/* The drop-in that it is in, relative to the folder of the main file; NULL: the main file. */
const char *findings_file(const struct findings *findings, const struct finding *finding);

/* Prints them as `FILE:LINE:COLUMN: error: TEXT`, one a line; FILE can be opened from where
 * `path` can. */
void findings_print(const struct findings *findings, const char *path, FILE *f);

/* What a configuration names and this machine should have. */
enum config_thing {
	CONFIG_CA_FILE, /* NULL: the system's bundle */
	CONFIG_GROUP,
	CONFIG_SOCKET, /* the path of a Unix listener */
	CONFIG_CREDENTIALS,
	CONFIG_TOKEN_FILE,
	CONFIG_PROXY_CREDENTIALS,
};

/* 0: it is there. Negative errno: it isn't, and `error` says why in a phrase; 1: the same, but
 * it can't be told from here. */
typedef int config_look(enum config_thing thing, const char *value, struct error *error);

/* What a file can't know. Without them nothing of the machine is looked at. */
struct config_facts {
	const char *instance_region; /* of `region: instance`; NULL: not known */
	const char *no_region;   /* what to say then; NULL: nothing, it is asked for later */
	bool no_region_is_error; /* else a warning */
	config_look *look;       /* NULL: nothing is looked at */
	bool look_is_error;      /* what it finds is one; else a warning, and only of what every
				  * machine has that the file is for: CA files, groups */
};

/* Reads and validates the file at `path` ("-" is stdin) and the drop-ins beside it,
 * `X.d/NAME.yaml` for X.yaml: texts.h says which, and which are refused. 0 with *ret_config;
 * -EINVAL when there are errors (all of them in `findings`); -errno when the file can't be read
 * (also as a finding). The findings hold warnings in either case; the caller frees them. */
_must_check_ int config_load(const char *path, const struct config_facts *facts,
			     struct config **ret_config, struct findings *findings);

/* The same from bytes, without drop-ins; `path` is only used in messages. For tests and
 * fuzzing.
 */
_must_check_ int config_parse_with(const char *text, size_t n, const char *path,
				   const struct config_facts *facts, struct config **ret_config,
				   struct findings *findings);

/* The same without facts; `path` is only used in messages. For tests
 * and fuzzing. */
_must_check_ int config_parse(const char *text, size_t n, const char *path,
			      struct config **ret_config, struct findings *findings);

struct config *config_ref(struct config *c);
struct config *config_unref(struct config *c); /* returns NULL */
DEFINE_CLEANUP(struct config *, config_unref)

/* The last part of a path. */
const char *config_base_name(const char *path);

/* Prints the effective configuration, defaults filled in, as YAML that loads to the same again.
 */
void config_print(const struct config *config, FILE *f);

/* The enclave of that name: an index, or -1. */
int config_find_enclave(const struct config *config, const char *name);

/* Whether an endpoint has `region: instance`: then the region must be known before the
 * configuration can be in force. */
bool config_needs_region(const struct config *config);

/* The slot with that CID, and the one without CID of the enclave of that name: an index, or -1.
 */
int config_find_cid(const struct config *config, unsigned cid);
int config_find_slot(const struct config *config, const char *name);

/* What to call the slots in a message that counts them: "enclaves" where each has one. */
const char *config_slots_noun(const struct config *config);

/* "2 enclaves", and " (5 slots)" where these are not as many. */
#define CONFIG_COUNT_SIZE 64
const char *config_count(const struct config *config, char out[CONFIG_COUNT_SIZE]);

/* How many slots there are whose enclaves list this endpoint. */
unsigned config_endpoint_users(const struct config *config, unsigned endpoint);

/* The endpoint that a request's Host picks for an enclave: an index, or -1 for a name that is
 * not one of the enclave's. `host` is as authority_parse() read it, without port and brackets.
 */
int config_pick_endpoint(const struct config *config, const struct enclave_config *enclave,
			 struct slice host);
