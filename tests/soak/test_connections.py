# SPDX-License-Identifier: Apache-2.0
"""The flood of test_surplus.py, at length."""

from daemon import Daemon
from daemon.flooded import assert_a_flood_harms_nobody
from standins import LocalImds, LocalKms


def test_100000_connections_over_the_limit(tmp_path):
    with LocalKms() as kms, LocalImds(kms.credentials) as imds:
        assert_a_flood_harms_nobody(Daemon(tmp_path, kms, imds), 100000)
