# SPDX-License-Identifier: Apache-2.0
"""A journal that is stopped: requests go on, the loss is counted and recorded after."""

import os
import signal
import subprocess

import journal
import service
from kms.client import request

DESCRIBE = request("DescribeKey", {"KeyId": "alias/payments"})


def journald():
    return int(subprocess.run(["systemctl", "show", "-p", "MainPID", "--value", "systemd-journald"], check=True,
                              stdout=subprocess.PIPE, text=True).stdout)


def test_requests_go_on_while_the_journal_hangs(fast_unit, enclaves):
    fast_unit.start()
    with enclaves(16).client(service.PORT) as client:
        assert client.ask(DESCRIBE).status == 200
        place = journal.cursor()
        pid = journald()
        asked = 0
        os.kill(pid, signal.SIGSTOP)
        try:
            # the socket's buffer and our queue of 1,024 fill up
            for _ in range(2500):
                assert client.ask(DESCRIBE).status == 200
                asked += 1
        finally:
            os.kill(pid, signal.SIGCONT)
        assert client.ask(DESCRIBE).status == 200

    def told():
        """Records written, and records counted as lost: what waited comes after the count."""
        lost = [r for r in journal.records(place, _SYSTEMD_UNIT=service.UNIT) if "LOST" in r]
        return len(journal.records(place, KMS_ACTION="DescribeKey")), sum(int(r["LOST"]) for r in lost)

    service.wait(lambda: sum(told()) >= asked + 1, 120, lambda: f"{asked + 1} requests, {told()} written and lost")
    written, lost = told()
    print(f"{asked + 1} requests, {written} records, {lost} counted as lost")
    assert lost > 0
    assert written + lost == asked + 1
