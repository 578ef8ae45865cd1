# SPDX-License-Identifier: Apache-2.0
"""Each allocation fails once: the daemon's, libcurl's, OpenSSL's, libevent's and glibc's."""

import contextlib
import os
import signal

import pytest

import scenarios
from daemon import wait_for
from fault_points import trace
from daemon.help import DESCRIBE
from subject import CLOSED, ONLY, sweep_in_lanes

pytestmark = pytest.mark.skipif(
    "sanitize" in os.environ.get("KMS_VSOCK_PROXY_BUILD", ""),
    reason="AddressSanitizer's malloc() suffers nothing before itself")

# So many each scenario has at least: else the library counts nothing.
AT_ONCE = {"Signed": 10, "Refused": 5, "RefusedHead": 3, "InPieces": 10, "Pipelined": 15,
           "BigReply": 10, "BigChunkedReply": 10}
IN_LANES = {"Cold": 500, "Tunnel": 15, "Connect": 15}
SAMPLED = {"Stale": 5, "Reload": 40, "Refresh": 40, "Container": 40}     # each 40th


@pytest.mark.parametrize("name", AT_ONCE)
def test_each_allocation(subject, name):
    scenario = getattr(scenarios, name)()
    scenario.configure(subject)
    with subject:
        points = subject.sweep(scenario, "allocation", ["ENOMEM"])
    assert ONLY or points >= AT_ONCE[name]


@pytest.mark.parametrize("name", [*IN_LANES, *SAMPLED])
def test_each_allocation_where_the_daemon_waits_after_it(lanes, name):
    scenario = getattr(scenarios, name)()
    for lane in lanes:
        scenario.configure(lane)
    points = sweep_in_lanes(lanes, scenario, "allocation", ["ENOMEM"], each=SAMPLED.get(name, 1))
    assert ONLY or points >= IN_LANES.get(name, 50)


def test_each_allocation_of_a_lookup(lanes):
    """The resolver's, all of them: nobody asks again for an answer that was lost."""
    scenario = scenarios.Reload()
    for lane in lanes:
        scenario.configure(lane)
    points = sweep_in_lanes(lanes, scenario, "allocation", ["ENOMEM"], threads=["resolver"])
    assert ONLY or points >= 5


def test_a_connection_there_is_no_memory_for_has_its_record(subject):
    with subject:
        start = subject.said_so_far()
        subject.page.arm("allocation", ["worker"], 1, "ENOMEM")
        assert subject.ask(DESCRIBE) == CLOSED
        assert subject.page.disarm() == 1
        subject.wait_said(r"payments: connection closed \(memory\): out of memory .*REASON=memory", start)


def test_each_allocation_of_the_end(subject):
    """SIGTERM with a request in flight: it ends, and ends well."""
    for n in range(1, 25):
        subject.daemon.log_path.unlink(missing_ok=True)
        subject.daemon.start()
        with subject.daemon.client() as client:
            subject.kms.fault("hang")
            client.send(DESCRIBE)
            subject.kms.wait_for_requests(1)
            subject.page.arm("allocation", ["control", "worker"], n, "ENOMEM")
            subject.daemon.process.send_signal(signal.SIGTERM)
            subject.kms.clear()
            subject.read(client)
            assert subject.daemon.stop() == 0, subject.daemon.log()[-2000:]
        if not subject.page.disarm():
            break
        subject.count("allocation", 1)
        subject.kms.forget_requests()
    assert n > 2


def test_a_turn_comes_though_its_timer_had_no_memory(subject):
    """libevent's heap of timers grows with the ninth of them, whosever it is."""
    subject.daemon.config["endpoints"]["kms"].update(
        connect_timeout="60s", queue_timeout="60s", reply_timeout="60s")
    with subject, contextlib.ExitStack() as waiting:
        subject.kms.fault("hang_at_accept", count=None)
        subject.kms.drop_connections()
        scenario = scenarios.PipelinedRefused()
        for _ in range(9):
            client = waiting.enter_context(subject.daemon.client())
            before = subject.kms.server.connection_count
            client.send(DESCRIBE)
            wait_for(lambda: subject.kms.server.connection_count > before)
            for n in range(1, 9):
                subject.page.arm("allocation", ["worker"], n, "ENOMEM")
                scenario.run(subject)
                if not subject.page.disarm():
                    break
                subject.count("allocation", 1)
        subject.kms.clear()


def test_what_a_worker_had_no_memory_to_hear_it_is_told_again(subject):
    """A reload's last allocations are its messages to the workers: none of the last is left out."""
    scenario = scenarios.Reload()
    scenario.configure(subject)
    with subject:
        for _ in range(2):      # its two configurations differ in length
            scenario.before(subject)
            before = subject.page.calls("allocation", ["control"])
            scenario.run(subject)
            last = subject.page.calls("allocation", ["control"]) - before
        called = ""
        for n in [n for n in range(last - 9, last + 1) for _ in range(2)]:
            if subject.point(scenario, "allocation", ["control"], n, "ENOMEM"):
                called += trace(subject.frames)
                subject.count("allocation", 1)
        assert "send_generation" in called
