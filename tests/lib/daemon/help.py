# SPDX-License-Identifier: Apache-2.0
"""What the tests of the daemon share: more enclaves, raw bytes on a connection, usual requests."""

import contextlib
import fcntl
import pathlib
import signal
import struct
import termios

from daemon.process import parse_line, wait_for
from kms.client import request
from policy.model import DELEGATING

KEY = "alias/payments"
KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = f"arn:aws:kms:eu-central-1:111122223333:key/{KEY_ID}"
DESCRIBE = request("DescribeKey", {"KeyId": KEY})
NOT_ALLOWED = request("ListKeys", {})       # no rule of the default configuration names it


def add_enclave(daemon, name="ledger", **changes):
    """Another enclave with a Unix socket of its own and the rights of the first."""
    daemon.config["listen"].append({"unix": str(daemon.folder / f"{name}.sock"), "enclave": name})
    daemon.config["enclaves"][name] = {**daemon.config["enclaves"]["payments"], **changes}
    return name


def allow(daemon, *actions, enclave="payments", **how):
    """One more rule."""
    rule = {"name": "more", "actions": list(actions), "keys": "any", "plaintext": "allow",
            **({"delegation": "allow"} if DELEGATING & set(actions) else {}), **how}
    daemon.config["enclaves"][enclave]["allow"].append(rule)


def limits(daemon, enclave="payments", **values):
    daemon.config["enclaves"][enclave]["limits"] = values


def wait_taken(client):
    """Waits until the daemon has read every byte that was sent."""
    def unread():
        held = fcntl.ioctl(client.sock.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
        return struct.unpack("i", held)[0]
    wait_for(lambda: unread() == 0, message=lambda: f"{unread()} bytes were not read")


@contextlib.contextmanager
def stopped(daemon):
    """Every thread of it; the signal alone leaves one that runs a moment to answer in."""
    def state(task):
        return (task / "stat").read_text(encoding="ascii").rpartition(") ")[2][0]
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: all(state(t) == "T" for t in pathlib.Path(f"/proc/{daemon.pid}/task").iterdir()))
        yield
    finally:
        daemon.process.send_signal(signal.SIGCONT)


def ended(client):
    """True when the daemon closes the connection without another byte."""
    try:
        return client.at_end()
    except ConnectionResetError:
        return False


def receive(client, count):
    """The next bytes as they are."""
    data = b""
    while len(data) < count:
        more = client.sock.recv(count - len(data))
        assert more, f"the connection ended after {data!r}"
        data += more
    return data


def record_of(daemon, answer):
    """Waits for the audit record of an answer, whoever gave it: KMS's id or the daemon's."""
    name = answer.header("x-amzn-RequestId")
    assert name

    def look():
        return next((parse_line(line) for line in daemon.log().splitlines() if name in line), None)
    return wait_for(look, message=lambda: f"no record of {name} in:\n{daemon.log()[-3000:]}")


def sanitized(daemon):
    """Whether it runs under a sanitizer, which uses and keeps more memory."""
    with open(f"/proc/{daemon.pid}/maps", encoding="utf-8") as maps:
        text = maps.read()
    return "libasan" in text or "libtsan" in text


def first_client(daemon, enclave="payments"):
    """A connection, as soon as the daemon listens: for daemons whose log can't be waited for."""
    def connect():
        try:
            return daemon.client(enclave)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
    return wait_for(connect)
