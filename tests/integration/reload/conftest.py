# SPDX-License-Identifier: Apache-2.0
"""What the tests of reloads share."""

import socket

import pytest


@pytest.fixture
def manager(daemon, tmp_path):
    """The service manager's end of what the daemon, not yet started, tells it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(20)
        daemon.environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        yield sock
