# SPDX-License-Identifier: Apache-2.0
"""A journal of the test's own, and the name space in which the daemon finds it."""

import os
import re
import select
import socket
import struct
import subprocess

import pytest

from daemon.process import DEADLINE, wait_for

# A mount namespace in which the journal's folder is one of the test's.
WITH_JOURNAL = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal
mount --bind "$1" /run/systemd/journal
shift
exec "$@"
"""


def can_unshare(namespace="--mount"):
    return subprocess.run(["unshare", namespace, "true"], capture_output=True).returncode == 0


def parse_entry(data):
    """An entry of the journal's native protocol, strictly."""
    fields = {}
    while data:
        line, newline, data = data.partition(b"\n")
        assert newline, line
        name, equals, value = line.partition(b"=")
        if not equals:
            length, = struct.unpack_from("<Q", data)
            value, data = data[8:8 + length], data[8 + length + 1:]
        name = name.decode()
        assert re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name) and name not in fields, name
        fields[name] = value.decode()
    return fields


class Journal:
    """A journal that keeps what it gets, once it is asked."""

    def __init__(self, folder):
        self.path = folder / "socket"
        self.sock = None
        self.entries = []

    def open(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(self.path))

    def close(self):
        if self.sock:
            self.read()
            self.sock.close()
            self.path.unlink()
            self.sock = None

    def read(self):
        """Takes what is there now."""
        while select.select([self.sock], [], [], 0)[0]:
            self.entries.append(parse_entry(self.sock.recv(65536)))

    def found(self, **fields):
        return [e for e in self.entries if all(e.get(n) == v for n, v in fields.items())]

    def wait(self, count=1, said="", **fields):
        """Waits for so many entries with these fields; returns the last."""
        def look():
            self.read()
            found = [e for e in self.found(**fields) if said in e["MESSAGE"]]
            return len(found) >= count and dict(found[-1])
        return wait_for(look, 2 * DEADLINE, lambda: f"not {count} entries of {fields} {said}: {self.entries[-5:]}")

    def lead(self, daemon):
        """The daemon, not yet started, is to write to it."""
        daemon.log_path.touch()
        found = os.stat(daemon.log_path)
        daemon.environment["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
        daemon.wrapper = ["unshare", "--mount", "sh", "-c", WITH_JOURNAL, "sh", self.path.parent]


def make_journal(folder):
    """Not yet there: open() makes its socket."""
    if not can_unshare():
        pytest.skip("a mount namespace can't be made here")
    folder.mkdir()
    return Journal(folder)
