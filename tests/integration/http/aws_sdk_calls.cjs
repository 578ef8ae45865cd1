// SPDX-License-Identifier: Apache-2.0
//
// Calls KMS with the AWS SDK for JavaScript, for test_clients.py.
//
//   aws_sdk_calls.cjs URL < CALLS > RESULTS
//
// CALLS is JSON: {"calls": [["Decrypt", {...}], ...], "parallel": bool, "unsigned": bool,
// "attempts": N}; RESULTS a list of {"answer": {...}} or {"error": NAME}, each with "attempts".
// Bytes are {"base64": TEXT} in both.

"use strict";
const fs = require("node:fs");
const sdk = require("@aws-sdk/client-kms");

function toBytes(value) {
	if (typeof value !== "object" || value === null)
		return value;
	if (typeof value.base64 === "string")
		return new Uint8Array(Buffer.from(value.base64, "base64"));
	return Object.fromEntries(Object.entries(value).map(([n, v]) => [n, toBytes(v)]));
}

function fromBytes(value) {
	return value instanceof Uint8Array ? { base64: Buffer.from(value).toString("base64") } : value;
}

async function call(client, [action, params]) {
	try {
		const { $metadata, ...answer } = await client.send(
			new sdk[`${action}Command`](toBytes(params)));
		for (const name of Object.keys(answer))
			answer[name] = fromBytes(answer[name]);
		return { answer, attempts: $metadata.attempts };
	} catch (error) {
		return { error: error.name, attempts: error.$metadata?.attempts };
	}
}

async function main() {
	const asked = JSON.parse(fs.readFileSync(0, "utf-8"));
	const client = new sdk.KMSClient({
		endpoint: process.argv[2],
		region: "eu-central-1",
		maxAttempts: asked.attempts ?? 3,
		credentials: { accessKeyId: "dummy", secretAccessKey: "dummy" },
		...(asked.unsigned && { signer: { sign: async (request) => request } }),
	});
	const results = [];
	if (asked.parallel)
		results.push(...await Promise.all(asked.calls.map((one) => call(client, one))));
	else
		for (const one of asked.calls)
			results.push(await call(client, one));
	client.destroy();
	process.stdout.write(JSON.stringify(results));
}

main();
