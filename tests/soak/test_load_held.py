# SPDX-License-Identifier: Apache-2.0
"""10,000 idle connections on one worker: what they cost, and that nobody waits for them."""

import resource
import socket
import statistics
import time

import pytest

from abuse import ALLOWED, REFUSED
from daemon import wait_for
from net.bridge import connect
from echo_kms import ADDRESSES
from figures import figure
from soak_help import CountedDaemon, EchoKms, sample
from test_soak import config, ENCLAVES

IDLE = 10_000
EACH = 1024         # bytes of resident memory, at most
DESCRIPTORS = IDLE + 1000
AT_ONCE = 1         # seconds, for an answer on a busy machine
*CROWDED, OTHER = ENCLAVES


@pytest.fixture
def many_descriptors():
    """The daemon inherits them."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, max(DESCRIPTORS, before[1])))
    except (ValueError, PermissionError):
        pytest.skip(f"needs {DESCRIPTORS} descriptors")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def ask(sock, data, status):
    start = time.monotonic()
    sock.sendall(data)
    answer = sock.recv(65536)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    return time.monotonic() - start


def client(path):
    sock = socket.socket(socket.AF_UNIX)
    connect(sock, path, 20)
    return sock


def test_10000_idle_connections(tmp_path, many_descriptors):
    with EchoKms(tmp_path) as kms:
        made = config(tmp_path, kms, ADDRESSES[0])
        for enclave in made["enclaves"].values():
            enclave["limits"] = {"requests": "100000/s", "burst": 100000, "connections": 4096}
            enclave["allow"][0].pop("encryption_context")
        with (daemon := CountedDaemon(tmp_path, made)), client(daemon.socket_path(OTHER)) as other:
            ask(other, ALLOWED, 200)
            before = sample(daemon.pid)
            held = [client(daemon.socket_path(CROWDED[i % len(CROWDED)])) for i in range(IDLE)]
            try:
                for sock in held:
                    ask(sock, REFUSED, 400)
                after = sample(daemon.pid)
                times = [ask(other, ALLOWED, 200) for _ in range(200)]
            finally:
                for sock in held:
                    sock.close()
            wait_for(lambda: sample(daemon.pid)["descriptors"] <= before["descriptors"])
    each = (after["resident"] - before["resident"]) / IDLE
    figure("load held, an idle connection of 10,000", f"{each:.0f} bytes of resident memory")
    figure("load held, a request of another enclave meanwhile",
           f"median {statistics.median(times) * 1e3:.2f} ms, slowest of 200 {max(times) * 1e3:.2f} ms")
    print(f"\nan idle connection: {each:.0f} bytes; a request: {statistics.median(times) * 1e3:.2f} ms, "
          f"slowest {max(times) * 1e3:.2f} ms")
    assert after["descriptors"] - before["descriptors"] == IDLE
    assert each <= EACH
    assert max(times) < AT_ONCE
