# SPDX-License-Identifier: Apache-2.0
"""The daemon with the library of this folder preloaded, and all around it."""

import contextlib
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from figures import figure  # noqa: E402
from standins import LocalImds, LocalKms  # noqa: E402
from subject import Subject  # noqa: E402

LANES = 8
survived = {}       # kind: points, over all tests of this run


@contextlib.contextmanager
def lane(folder):
    folder.mkdir()
    with LocalKms() as kms, LocalImds(kms.credentials) as imds:
        made = Subject(folder, kms, imds, survived)
        try:
            yield made
        finally:
            made.kill()


@pytest.fixture
def subject(tmp_path):
    """Not started: a test changes subject.daemon.config and then says `with subject:`."""
    with lane(tmp_path / "lane") as made:
        yield made


@pytest.fixture
def lanes(tmp_path):
    """Several, which share the points of a sweep: for points after which the daemon waits."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(lane(tmp_path / f"lane-{i}")) for i in range(LANES)]


def pytest_sessionfinish():
    if "sanitize" in os.environ.get("KMS_VSOCK_PROXY_BUILD", ""):
        figure("faults survived under AddressSanitizer", sum(survived.values()))
        return
    for kind, points in sorted(survived.items()):
        figure(f"faults survived: {kind}", points)
    figure("faults survived, all kinds", sum(survived.values()))
