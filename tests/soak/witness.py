#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The enclaves that behave: asks for each in turn, one request at a time, and measures each answer.

    witness.py PATH...      the sockets of the enclaves

Reads commands from standard input: {"seconds": 2}, and answers each with
{"times": [...], "failed": [...]}: seconds of each answer, and what was no right answer.
"""

import json
import socket
import sys
import time

from abuse import HOST
from net.bridge import connect
from echo_kms import echo

EACH = 0.002        # seconds from a request to the next
DEADLINE = 10       # of a request; SDKs wait for 60 s


class Enclave:
    def __init__(self, path):
        self.path = path
        self.n = 0
        self.sock = None

    def ask(self):
        """None, or what is wrong; each tenth time on a new connection."""
        if self.sock is None or self.n % 10 == 0:
            self.sock = socket.socket(socket.AF_UNIX)
            connect(self.sock, self.path, DEADLINE)
        self.n += 1
        marker = f"w-{self.n}"
        body = json.dumps({"KeyId": "alias/soak", "Plaintext": marker})
        self.sock.sendall((f"POST / HTTP/1.1\r\nHost: {HOST}\r\nX-Amz-Target: TrentService.Encrypt\r\nContent-Type: "
                           f"application/x-amz-json-1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode())
        said = b""
        while f'"{echo(marker)}"'.encode() not in said:
            more = self.sock.recv(65536)
            said += more
            if not more or said.startswith(b"HTTP/1.1 4") or said.startswith(b"HTTP/1.1 5"):
                return said.decode() or "closed"
        return None


def measure(enclaves, seconds):
    times, failed = [], []
    end = time.monotonic() + seconds
    while (start := time.monotonic()) < end:
        for enclave in enclaves:
            begun = time.monotonic()
            try:
                wrong = enclave.ask()
            except OSError as e:
                wrong = str(e)
            times.append(time.monotonic() - begun)
            if wrong:
                failed.append(wrong)
                enclave.sock = None
        time.sleep(max(0.0, EACH * len(enclaves) - (time.monotonic() - start)))
    return {"times": times, "failed": failed}


def main():
    enclaves = [Enclave(path) for path in sys.argv[1:]]
    for line in sys.stdin:
        print(json.dumps(measure(enclaves, json.loads(line)["seconds"])), flush=True)


if __name__ == "__main__":
    main()
