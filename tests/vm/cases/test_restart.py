# SPDX-License-Identifier: Apache-2.0
"""Restarts and crashes during traffic: the socket unit holds the port, no call is lost."""

import os
import signal

import service
from figures import figure
from traffic import Traffic

CIDS = (16, 17, 18, 19)
RATE = 50           # calls a second of the whole time; those due while the service is away come after
ALL = 3600          # seconds: that is, all of them


def steady(enclaves):
    return Traffic(enclaves, CIDS, RATE, behind=ALL)


def check(traffic, title):
    traffic.report(title)
    figure(f"calls a second, answered, of the whole time of {title}", round(traffic.answered_per_second()))
    assert traffic.failed() == []
    assert traffic.refused_connections() == 0
    assert set(traffic.statuses()) == {200}


def test_restart_during_traffic(fast_unit, enclaves):
    fast_unit.start()
    with steady(enclaves) as traffic:
        traffic.wait_answers(40)
        for _ in range(2):
            service.systemctl("restart", service.UNIT)
            traffic.wait_answers(40)
            traffic.wait_rate()
    check(traffic, "two restarts")


def test_kill_during_traffic(fast_unit, enclaves):
    fast_unit.start()
    with steady(enclaves) as traffic:
        traffic.wait_answers(40)
        for _ in range(2):
            pid = fast_unit.pid
            os.kill(pid, signal.SIGKILL)
            service.wait(lambda: fast_unit.pid not in (0, pid))
            traffic.wait_answers(40)
            traffic.wait_rate()
    check(traffic, "two kill -9")
