# SPDX-License-Identifier: Apache-2.0
"""What every integration test may ask for: a local KMS and IMDS, and the real daemon between."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from daemon import Daemon  # noqa: E402
from standins import LocalImds, LocalKms  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "last: to be run when all others have been")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(autouse=True)
def no_report_of_a_sanitizer():
    """What a sanitizer found in a daemon of this test, also in one that was killed."""
    folder = pathlib.Path(os.environ.get("KMS_VSOCK_PROXY_REPORTS", "/nonexistent"))
    before = set(folder.glob("*"))
    yield
    found = set(folder.glob("*")) - before
    assert not found, "\n".join(path.read_text(errors="replace")[:8000] for path in found)


@pytest.fixture
def kms():
    with LocalKms() as service:
        yield service


@pytest.fixture
def imds(kms):
    with LocalImds(kms.credentials) as service:
        yield service


@pytest.fixture
def daemon(tmp_path, kms, imds):
    """Not started: a test changes daemon.config and then says `with daemon:`."""
    instance = Daemon(tmp_path, kms, imds)
    yield instance
    if instance.process is not None:
        instance.process.kill()
        instance.process.wait()
