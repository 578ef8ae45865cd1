// SPDX-License-Identifier: Apache-2.0
//
// Connects as a client of HTTP/2 with prior knowledge, for test_clients.py:
//
//   http2_call.cjs URL
//
// Prints the GOAWAY that it got as JSON: {"code": NUMBER, "text": TEXT}.

"use strict";
const http2 = require("node:http2");

const session = http2.connect(process.argv[2]);
session.on("goaway", (code, _, text) =>
	process.stdout.write(JSON.stringify({ code, text: text?.toString() })));
session.on("error", (error) => console.error(error.message));
session.request({ ":method": "POST", ":path": "/" }).on("error", () => {}).end();
