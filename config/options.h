/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The option table: one row an option. It drives reading, defaults, --print-config and the test
 * that every option is in the man page and in the shipped file. A new option is a new row (and,
 * where its kind is new, a reader in load.c and a printer in print.c). */

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTION_BURST_MAX 200000 /* two seconds of the highest rate */

enum option_type {
	/* one scalar, value.h */
	OPTION_NUMBER,    /* unsigned */
	OPTION_SIZE,      /* size_t, bytes; B, KiB, MiB */
	OPTION_TIME,      /* usec_t; ms, s, m, h */
	OPTION_BANDWIDTH, /* uint64_t, bytes a second; B/s, KiB/s, MiB/s, or none (0) */
	OPTION_RATE,      /* struct rate; /s, /m, /h; sets the burst to twice the number */
	OPTION_MODE,      /* mode_t, octal */
	OPTION_BOOL,      /* bool: false or true, or the two `words` */
	OPTION_WORD,      /* an enum: the index in `words` */
	OPTION_TEXT,      /* char *, which `syntax` accepts */
	/* of more than one part: a reader in load.c, a printer in print.c */
	OPTION_ADDRESS,   /* HOST:PORT: char * at `offset`, unsigned at `second` */
	OPTION_PROXY,     /* http://HOST:PORT: the same */
	OPTION_ENCLAVE,   /* the name of one: its index */
	OPTION_CIDS,      /* CIDs and ranges of them, of an enclave */
	OPTION_ENDPOINTS, /* names, of an enclave */
	OPTION_SUBSET,    /* names of the enclave's endpoints, of a rule */
	OPTION_ACTIONS,
	OPTION_KEYS,
	OPTION_CONTEXT,
	OPTION_NAMES, /* a list of texts that `syntax` accepts, each once: char ** at `offset`,
		       * their number at `second` */
	OPTION_HOSTS, /* of a tunnel */
	/* with options of their own */
	OPTION_SECTION, /* a mapping: the struct at `offset` */
	OPTION_LIST,    /* a list of such mappings: array at `offset`, its length at `second` */
	OPTION_MAP,     /* the same, by name */
	_OPTION_TYPE_MAX,
};

enum section_id {
	SECTION_ROOT,
	SECTION_LISTENER,
	SECTION_ENDPOINT,
	SECTION_CREDENTIALS,
	SECTION_IMDS,
	SECTION_CONTAINER,
	SECTION_LIMITS,
	SECTION_ENCLAVE,
	SECTION_RULE,
	SECTION_TUNNEL,
	SECTION_TUNNEL_HOST,
	_SECTION_MAX,
};

struct config_option {
	const char *name;
	enum option_type type;
	bool required;
	const char *instead; /* not required where this one is there */
	bool restart;        /* a reload reports a change of it and does not apply it */
	size_t offset;       /* in the section's struct */
	size_t second;       /* of a value that takes two fields */
	uint64_t min,
		max; /* both allowed; of a rate: the interval in usec; of a map: entries */
	const char *fallback;              /* the default as one would write it; NULL: none */
	const char *const *words;          /* NULL-terminated, by value */
	bool (*syntax)(struct slice text); /* OPTION_TEXT */
	const char *expected;              /* what `syntax` accepts, for messages */
	enum section_id section;           /* what stands within */
	const char *help;                  /* one line */
};

struct section {
	const char *name; /* as messages call it */
	const struct config_option *options;
	size_t n_options;
	size_t size; /* of its struct */
	size_t line; /* of an item of a list or map: the field for its line */
	size_t file; /* and for its file; 0: always the main file */
	size_t item; /* of an item of a map: the field for its name */
};

const struct section *section_get(enum section_id id);

/* The option of that name, or NULL. */
const struct config_option *section_find(const struct section *section, struct slice name);
