// SPDX-License-Identifier: Apache-2.0
//
// Calls KMS with Java's own HttpClient, as it is by default, for test_clients.py:
//
//   java JavaCalls.java URL BODY...
//
// Asks with one BODY after the other and prints the status and version of each answer, and its body.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

class JavaCalls {
	public static void main(String[] arguments) throws Exception {
		HttpClient client = HttpClient.newHttpClient();

		for (int i = 1; i < arguments.length; i++) {
			HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
				.header("Content-Type", "application/x-amz-json-1.1; charset=utf-8")
				.header("X-Amz-Target", "TrentService.DescribeKey")
				.POST(HttpRequest.BodyPublishers.ofString(arguments[i]))
				.build();
			HttpResponse<String> answer =
				client.send(request, HttpResponse.BodyHandlers.ofString());

			System.out.println(answer.statusCode() + " " + answer.version() + " " + answer.body());
		}
	}
}
