/* SPDX-License-Identifier: Apache-2.0 */
#include "cbor.h"

struct cbor cbor_begin(struct slice bytes)
{
	return (struct cbor){.rest = bytes, .start = bytes.p};
}

bool cbor_fail(struct cbor *c, const char *at, const char *fault)
{
	if (c->fault)
		return false;
	c->fault = fault;
	c->fault_at = at ? (size_t)(at - c->start) : 0;
	return false;
}

/* The number of a head: in its first byte, or in the 1, 2, 4 or 8 after it. */
static bool read_number(struct cbor *c, unsigned char first, uint64_t *ret_number)
{
	/* The least number that needs so many bytes. */
	static const uint64_t least[] = {24, 0x100, 0x10000, 0x100000000};
	unsigned information = first & 31;
	const char *at = c->rest.p - 1;
	uint64_t number = 0;
	size_t n;

	if (information < 24) {
		*ret_number = information;
		return true;
	}
	if (information == 31)
		return cbor_fail(c, at, "a length that is not definite");
	if (information > 27)
		return cbor_fail(c, at, "a reserved form of head");
	n = (size_t)1 << (information - 24);
	if (c->rest.n < n)
		return cbor_fail(c, at, "cut off in a head");
	for (size_t i = 0; i < n; i++)
		number = number << 8 | (unsigned char)c->rest.p[i];
	if (number < least[information - 24])
		return cbor_fail(c, at, "a head that is not the shortest");
	c->rest = (struct slice){c->rest.p + n, c->rest.n - n};
	*ret_number = number;
	return true;
}

/* What the number must fit. */
static bool check_item(struct cbor *c, const char *at, struct cbor_item *item)
{
	switch (item->type) {
	case CBOR_BYTES:
	case CBOR_TEXT:
		if (item->number > c->rest.n)
			return cbor_fail(c, at, "cut off in a string");
		item->bytes = (struct slice){c->rest.p, (size_t)item->number};
		c->rest = (struct slice){c->rest.p + item->bytes.n, c->rest.n - item->bytes.n};
		return true;
	case CBOR_ARRAY:
		if (item->number > c->rest.n)
			return cbor_fail(c, at, "an array of more items than there are bytes");
		return true;
	case CBOR_MAP:
		if (item->number > c->rest.n / 2)
			return cbor_fail(c, at, "a map of more pairs than there are bytes");
		return true;
	case CBOR_UNSIGNED:
	case CBOR_NEGATIVE:
	case CBOR_TAG:
	case CBOR_SIMPLE:
		return true;
	}
	return false;
}

bool cbor_read(struct cbor *c, struct cbor_item *ret_item)
{
	struct cbor_item item = {0};
	const char *at = c->rest.p;
	unsigned char first;

	if (c->fault)
		return false;
	if (c->rest.n == 0)
		return cbor_fail(c, at, "cut off before an item");
	first = (unsigned char)*at;
	c->rest = (struct slice){at + 1, c->rest.n - 1};
	item.type = first >> 5;
	if (item.type == CBOR_SIMPLE) {
		item.number = first & 31;
		if (item.number < CBOR_FALSE || item.number > CBOR_NULL)
			return cbor_fail(c, at, "neither false, true nor null");
	} else if (!read_number(c, first, &item.number)) {
		return false;
	}
	if (!check_item(c, at, &item))
		return false;
	*ret_item = item;
	return true;
}

bool cbor_peek(const struct cbor *c, enum cbor_type *ret_type)
{
	if (c->fault || c->rest.n == 0)
		return false;
	*ret_type = (unsigned char)*c->rest.p >> 5;
	return true;
}

bool cbor_expect(struct cbor *c, enum cbor_type type, uint64_t min, uint64_t max,
		 struct cbor_item *ret_item)
{
	static const char *const others[] = {
		[CBOR_UNSIGNED] = "not an unsigned number",
		[CBOR_NEGATIVE] = "not a negative number",
		[CBOR_BYTES] = "not a byte string",
		[CBOR_TEXT] = "not a text",
		[CBOR_ARRAY] = "not an array",
		[CBOR_MAP] = "not a map",
		[CBOR_TAG] = "not a tag",
		[CBOR_SIMPLE] = "neither false, true nor null",
	};
	static const char *const bounds[] = {
		[CBOR_UNSIGNED] = "a number out of range",
		[CBOR_NEGATIVE] = "a number out of range",
		[CBOR_BYTES] = "a string of a wrong length",
		[CBOR_TEXT] = "a text of a wrong length",
		[CBOR_ARRAY] = "an array of a wrong length",
		[CBOR_MAP] = "a map of a wrong length",
		[CBOR_TAG] = "another tag",
		[CBOR_SIMPLE] = "another of false, true and null",
	};
	const char *at = c->rest.p;
	struct cbor_item item;
	enum cbor_type found;

	if (cbor_peek(c, &found) && found != type)
		return cbor_fail(c, at, others[type]);
	if (!cbor_read(c, &item))
		return false;
	if (item.number < min || item.number > max)
		return cbor_fail(c, at, bounds[type]);
	*ret_item = item;
	return true;
}

bool cbor_end(struct cbor *c)
{
	if (!c->fault && c->rest.n > 0)
		return cbor_fail(c, c->rest.p, "bytes behind the end");
	return !c->fault;
}
