# SPDX-License-Identifier: Apache-2.0
"""The journal: writing marks, and waiting for records."""

import json
import socket
import subprocess
import time

SOCKET = "/run/systemd/journal/socket"
FOLLOW_SECONDS = 60     # emulated, a record takes a while to come


def send(message, **fields):
    """Writes one record in journald's native protocol."""
    lines = [f"{name}={value}" for name, value in {"MESSAGE": message, **fields}.items()]
    assert not any("\n" in line for line in lines)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.sendto("\n".join(lines).encode() + b"\n", SOCKET)


def cursor():
    """The place after which later records stand; for `after` below."""
    shown = subprocess.run(["journalctl", "-n", "0", "--show-cursor", "--no-pager"], check=True,
                           stdout=subprocess.PIPE, text=True).stdout
    return shown.partition("cursor: ")[2].strip()


def records(after=None, **fields):
    """The records with these fields, as dictionaries, oldest first."""
    command = ["journalctl", "-o", "json", "--no-pager", "--all"]
    if after:
        # Not --after-cursor: with fields to match, systemd 252 skips the first that does.
        command.append(f"--cursor={after}")
    command += [f"{name}={value}" for name, value in fields.items()]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    found = [json.loads(line) for line in output.splitlines()]
    return [record for record in found if record["__CURSOR"] != after]


def wait_for(count=1, after=None, seconds=FOLLOW_SECONDS, **fields):
    """The records with these fields, once there are `count` of them."""
    deadline = time.monotonic() + seconds
    while True:
        found = records(after, **fields)
        if len(found) >= count:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{len(found)} of {count} records with {fields} in {seconds} s")
        time.sleep(0.2)
