# SPDX-License-Identifier: Apache-2.0
"""Each system call on a request's way fails once, with each error that it really has, or does less
than it was asked to."""

import os

import pytest

import scenarios
from fault_points import SHORT
from subject import EVERY, ONLY, in_lanes

SANITIZED = "sanitize" in os.environ.get("KMS_VSOCK_PROXY_BUILD", "")

# By scenario: the kind of call and its errors. EAGAIN comes with what follows it from a real
# kernel: the socket is readable or writable again, the eventfd really full.
TRANSFERS = {
    "send": ["EAGAIN", "EINTR", "EPIPE", "ECONNRESET", "ENOBUFS", "ENOMEM", SHORT],
    "recv": ["EAGAIN", "EINTR", "ECONNRESET", "ETIMEDOUT", "ENOMEM", SHORT],
}
WAITS = {
    "epoll_wait": ["EINTR"],
    "epoll_ctl": ["ENOMEM", "ENOSPC"],
    "eventfd_write": ["EAGAIN"],
    "eventfd_read": ["EAGAIN", "EINTR"],
}
SOCKETS = {
    "socket": ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"],
    "connect": ["ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL", "ETIMEDOUT", "EAGAIN", "ENOMEM"],
    "socket_option": ["ENOMEM", "ENOBUFS"],
    "socket_name": ["ENOBUFS", "ENOTCONN"],
    "descriptor": ["EMFILE", "ENFILE", "ENOMEM"],
    "secure": ["ENOMEM"],
    "random": ["EAGAIN", "EINTR", "ENOSYS"],
}
POLL = {"poll": ["EINTR", "ENOMEM"]}
# What is taken as one of those before it; only for a nightly run.
LIKE_ANOTHER = {
    "send": ["ECONNRESET", "ENOBUFS", "ENOMEM"],
    "recv": ["ETIMEDOUT", "ENOMEM"],
    "socket": ["ENFILE", "ENOMEM"],
    "connect": ["EADDRNOTAVAIL", "ENOMEM"],
    "socket_option": ["ENOBUFS"],
    "descriptor": ["ENFILE"],
    "open": ["ENFILE"],
}
CALLS = {
    "Signed": {**TRANSFERS, **WAITS, **POLL},
    "Refused": {**TRANSFERS, **WAITS, **POLL},
    "RefusedHead": TRANSFERS,
    "InPieces": TRANSFERS,
    "Pipelined": TRANSFERS,
    "BigReply": TRANSFERS,
    "Cold": {**TRANSFERS, **WAITS, **POLL, **SOCKETS},
    "Stale": TRANSFERS,
    "Tunnel": {**TRANSFERS, **WAITS, **POLL, **SOCKETS, "thread": ["EAGAIN"]},
    "Connect": {**TRANSFERS, **SOCKETS},
    "Reload": {**WAITS, **SOCKETS, "open": ["EMFILE", "ENFILE", "ENOMEM"], "thread": ["EAGAIN"],
               "recv": ["EIO", "EINTR", SHORT]},
    "Refresh": {**TRANSFERS, **WAITS, **SOCKETS},
    "Container": {"open": ["EMFILE", "ENFILE", "ENOMEM"], "recv": ["EIO", "EINTR", SHORT]},
}
ACCEPT = ["EMFILE", "ENFILE", "ECONNABORTED", "ENOBUFS", "ENOMEM", "EINTR", "EAGAIN", "EPROTO",
          "EPERM"]


WAITING = ["Cold", "Stale", "Reload", "Refresh", "Container"]   # the daemon tries again later
# Under AddressSanitizer these are enough, of what takes its time.
BRIEF = ["Signed", "Refused", "RefusedHead", "Pipelined", "Tunnel", "Connect"]


def calls(name):
    """(kind, error) each."""
    if SANITIZED and name not in BRIEF:
        pytest.skip("takes minutes under AddressSanitizer")
    return [(kind, error) for kind, errors in CALLS[name].items() for error in errors
            if EVERY or ONLY or error not in LIKE_ANOTHER.get(kind, [])]


@pytest.mark.parametrize("name", [name for name in CALLS if name not in WAITING])
def test_each_call(subject, name):
    scenario = getattr(scenarios, name)()
    scenario.configure(subject)
    with subject:
        for kind, error in calls(name):
            subject.sweep(scenario, kind, [error])
    assert ONLY or subject.points >= 10


@pytest.mark.parametrize("name", WAITING)
def test_each_call_where_the_daemon_waits_after_it(lanes, name):
    scenario, shared = getattr(scenarios, name)(), calls(name)

    def run(lane, i):
        scenario.configure(lane)
        with lane:
            for kind, error in shared[i::len(lanes)]:
                lane.sweep(scenario, kind, [error])
        return lane.points

    assert in_lanes(lanes, run) >= 10 or ONLY


@pytest.mark.parametrize("error", ["EAGAIN", "EINTR", "ENOSYS"])
def test_without_randomness_credentials_are_not_fetched_over_and_over(subject, error):
    scenario = scenarios.Refresh()
    scenario.configure(subject)
    with subject:
        scenario.before(subject)
        subject.page.arm("random", ["control"], 1, error, 50)
        scenario.run(subject)
        subject.settle()
        assert subject.page.disarm() == 1
        subject.count("random", 1)


@pytest.mark.parametrize("error", ACCEPT)
@pytest.mark.parametrize("times", [1, 3])
def test_accepting_fails(subject, error, times):
    """Who connects is served when there are descriptors again; who gave up is nobody's loss."""
    scenario = scenarios.Signed()
    with subject:
        for n in range(1, 5):
            assert subject.point(scenario, "accept", scenario.threads, n, error, times) or n > 1
            subject.count("accept", 1)


def test_running_out_of_descriptors_is_said_once(subject):
    with subject:
        start = subject.said_so_far()
        subject.page.arm("accept", ["control", "worker"], 1, "EMFILE", 5)
        assert subject.ask(scenarios.DESCRIBE) == 200
        assert subject.page.disarm() == 5
        subject.wait_said("can't accept connections", start)
        said = subject.daemon.log(start)
        assert said.count("can't accept connections: Too many open files") == 1


@pytest.mark.parametrize("error", ["EAGAIN", "EINTR", "EPIPE", "ENOSPC", "EIO"])
def test_a_record_that_cannot_be_written_is_written_later(subject, error):
    with subject:
        for n in range(1, 4):
            start = subject.said_so_far()
            subject.page.arm("send", ["audit"], n, error, 3)
            assert subject.ask(scenarios.DESCRIBE) == 200
            subject.wait_said(r"DescribeKey allowed.*REASON=allowed", start)
            subject.page.disarm()
            subject.check_works()
            subject.count("send", 1)
