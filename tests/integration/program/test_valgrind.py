# SPDX-License-Identifier: Apache-2.0
"""The daemon under valgrind: every refused request of the table, good ones, faults, a reload."""

import os
import shutil
import subprocess

import pytest

from daemon import ROOT
from daemon.help import DESCRIBE
from kms.client import Client, request
from net import wire_table

BAD = wire_table.load("bad-requests.txt", 3)
ERROR_EXIT = 99     # valgrind's, so that Daemon sees that something was found


@pytest.fixture(scope="module")
def build():
    """Of its own: what is zero from the start in others hides what was never set."""
    if os.environ.get("KMS_VSOCK_PROXY_BUILD", "").endswith(("sanitize", "tsan")):
        pytest.skip("valgrind finds nothing more in a sanitizers' run")
    found = subprocess.run([ROOT / "tests" / "suites" / "build", "valgrind"], check=True,
                           stdout=subprocess.PIPE, text=True)
    return found.stdout.strip()


@pytest.fixture
def checked(daemon, build, monkeypatch):
    assert shutil.which("valgrind"), "valgrind is not installed"
    monkeypatch.setenv("KMS_VSOCK_PROXY_BUILD", build)
    daemon.wrapper = ["valgrind", "-q", f"--error-exitcode={ERROR_EXIT}", "--leak-check=full",
                      "--errors-for-leak-kinds=definite", "--track-fds=no"]
    daemon.config["enclaves"]["payments"]["limits"] = {"requests": "10000/s", "burst": 10000}
    return daemon


def swallow(daemon, data):
    """Sends one row of the table; the status of its answer, 0 where it is closed unanswered (TLS)."""
    with Client(f"unix:{daemon.socket_path()}", timeout=60) as client:
        client.send(data)
        try:
            return client.read().status
        except EOFError:
            return 0


def test_nothing_is_read_or_written_where_it_must_not(checked, kms):
    with checked:
        statuses = [swallow(checked, row.bytes) for row in BAD]
        assert set(statuses) <= {0, 400, 413, 417, 431}
        assert statuses.count(0) < 5
        with checked.client(timeout=60) as enclave:
            assert enclave.ask(DESCRIBE).status == 200
            for fault in ("trailing", "bad_header", "gzip", "close_before_read"):
                kms.fault(fault)
                assert enclave.ask(DESCRIBE).status in (200, 502)
            checked.config["enclaves"]["payments"]["limits"]["in_flight"] = 7
            checked.reload()
        with checked.client(timeout=60) as enclave:
            assert enclave.ask(request("Encrypt", {"KeyId": "alias/payments", "Plaintext": b"x"})).status == 200
            assert enclave.ask(request("ListKeys", {})).status == 400
    # leaving the block checks that the exit status is 0, not valgrind's
