/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Runs one libcurl transfer on a libevent loop. */

#include "macro.h"

#include <curl/curl.h>
#include <event2/event.h>

struct curl_loop;

/* Called once, when the transfer has ended. The loop object may be freed in it. */
typedef void (*curl_loop_cb)(CURLcode code, void *userdata);

/* Starts the transfer of `easy` (borrowed) with the loop's next turn. */
_must_check_ int curl_loop_new(struct event_base *base, CURL *easy, curl_loop_cb done,
			       void *userdata, struct curl_loop **ret_loop);

/* Ends the transfer, without a callback; `easy` is the caller's again. Accepts and returns
 * NULL. */
struct curl_loop *curl_loop_free(struct curl_loop *l);
DEFINE_CLEANUP(struct curl_loop *, curl_loop_free)
