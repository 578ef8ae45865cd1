# SPDX-License-Identifier: Apache-2.0
"""Restarts and crashes during traffic: the socket unit holds the port, no call is lost."""

import os
import signal

import service
from traffic import Traffic

CIDS = (16, 17, 18, 19)
RATE = 50


def test_restart_during_traffic(fast_unit, enclaves):
    fast_unit.start()
    with Traffic(enclaves, CIDS, RATE) as traffic:
        traffic.wait_answers(40)
        for _ in range(2):
            service.systemctl("restart", service.UNIT)
            traffic.wait_answers(40)
    traffic.report("restart")
    assert traffic.failed() == []
    assert traffic.refused_connections() == 0
    assert set(traffic.statuses()) == {200}


def test_kill_during_traffic(fast_unit, enclaves):
    fast_unit.start()
    with Traffic(enclaves, CIDS, RATE) as traffic:
        for _ in range(2):
            traffic.wait_answers(40)
            pid = fast_unit.pid
            os.kill(pid, signal.SIGKILL)
            service.wait(lambda: fast_unit.pid not in (0, pid))
        traffic.wait_answers(40)
    traffic.report("kill -9")
    assert traffic.failed() == []
    assert traffic.refused_connections() == 0
    assert set(traffic.statuses()) == {200}
