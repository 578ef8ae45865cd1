# SPDX-License-Identifier: Apache-2.0
"""SIGHUP, SIGTERM, SIGUSR1, and what the service manager hears of it."""

import concurrent.futures
import contextlib
import copy
import os
import signal
import threading
import time

import pytest

from daemon import Daemon, wait_for
from daemon.help import (
    add_enclave, allow, DESCRIBE, ended, KEY, limits, NOT_ALLOWED, sanitized, stopped,
    wait_taken)
from daemon.manager_help import heard
from kms.client import request
from standins import Authority, LocalImds, LocalKms

ENCRYPT = request("Encrypt", {"KeyId": KEY, "Plaintext": b"x"})


def narrow(daemon, *actions, enclave="payments"):
    """Takes actions out of the enclave's first rule."""
    rules = copy.deepcopy(daemon.config["enclaves"][enclave]["allow"])
    rules[0]["actions"] = [a for a in rules[0]["actions"] if a not in actions]
    daemon.config["enclaves"][enclave] = {**daemon.config["enclaves"][enclave], "allow": rules}


def held(daemon, kms):
    """A client whose request KMS holds until kms.clear()."""
    kms.fault("hang", count=1)
    before = len(kms.requests)
    client = daemon.client()
    client.send(DESCRIBE)
    # Not only until KMS has read it: the next request could be the one that is held.
    wait_for(lambda: len(found := kms.requests) > before and found[before].faults)
    return client


# A good one.

def test_a_reload_gives_new_rights_and_leaves_other_enclaves_alone(daemon, kms):
    other = add_enclave(daemon)
    with daemon, daemon.client() as changed, daemon.client(other) as unchanged:
        assert changed.ask(NOT_ALLOWED).error == "AccessDeniedException"
        assert unchanged.ask(DESCRIBE).status == 200
        daemon.config["enclaves"]["payments"] = copy.deepcopy(daemon.config["enclaves"]["payments"])
        allow(daemon, "ListKeys")
        daemon.reload()
        assert ended(changed)       # it was idle
        assert unchanged.ask(NOT_ALLOWED).error == "AccessDeniedException"
        with daemon.client() as client:
            assert client.ask(NOT_ALLOWED).status == 200
        assert unchanged.ask(DESCRIBE).status == 200


def test_a_reload_of_the_same_closes_nothing(daemon, kms):
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        for _ in range(3):
            daemon.reload()
            assert client.ask(DESCRIBE).status == 200


def test_what_is_in_flight_is_answered_under_the_rules_it_began_with(daemon, kms):
    with daemon:
        waits = held(daemon, kms)
        narrow(daemon, "DescribeKey")
        daemon.reload()
        with daemon.client() as client:
            assert client.ask(DESCRIBE).error == "AccessDeniedException"
        kms.clear()
        answer = waits.read()
        assert answer.status == 200
        assert answer.header("Connection") == "close"
        assert ended(waits)
        waits.close()


def test_a_body_on_its_way_is_answered_and_then_closed(daemon):
    with daemon, daemon.client() as slow:
        slow.send(ENCRYPT[:-3])
        wait_taken(slow)
        narrow(daemon, "DescribeKey")
        daemon.reload()
        slow.send(ENCRYPT[-3:] + ENCRYPT)
        answer = slow.read()
        assert (answer.status, answer.header("Connection")) == (200, "close")
        assert ended(slow)      # the second one is not answered


def test_a_head_on_its_way_is_not_judged_by_the_old_rules(daemon, kms):
    with daemon, daemon.client() as slow:
        slow.send(DESCRIBE[:50])
        wait_taken(slow)
        narrow(daemon, "DescribeKey")
        daemon.reload()
        assert ended(slow)
    assert not kms.requests


@pytest.mark.parametrize("workers", [1, 3])
def test_narrowing_during_traffic(daemon, kms, workers):
    """Rights go away and come back while clients ask all the time; none gets a wrong answer, and
    none is cut off in the middle of one."""
    daemon.config["workers"] = workers
    limits(daemon, requests="100000/s", burst=100000)
    stop, wrong, counts = threading.Event(), [], []

    def run():
        count = {200: 0, 400: 0, 503: 0}
        while not stop.is_set():
            with daemon.client() as client:
                while not stop.is_set():
                    try:
                        answer = client.ask(DESCRIBE)
                    except (EOFError, BrokenPipeError, ConnectionResetError) as error:
                        if client._held:
                            wrong.append(error)
                        break
                    count[answer.status] += 1
                    expected = {200: None, 400: "AccessDeniedException",
                                503: "ServiceUnavailableException"}     # it waited, and the rules changed
                    if answer.error != expected[answer.status]:
                        wrong.append(answer)
                    if answer.header("Connection") == "close":
                        break
        counts.append(count)

    whole = daemon.config["enclaves"]["payments"]
    with daemon:
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(6):
            narrow(daemon, "DescribeKey")
            daemon.reload()
            daemon.record(REASON="action", count=len(daemon.records(REASON="action")) + 1)
            daemon.config["enclaves"]["payments"] = whole
            daemon.reload()
            kms.wait_for_requests(len(kms.requests) + 1)
        narrow(daemon, "DescribeKey")
        daemon.reload()
        with daemon.client() as client:     # of every worker, since it comes after the reload
            assert client.ask(DESCRIBE).status == 400
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert all(c[200] and c[400] for c in counts), counts


def test_an_enclave_that_is_gone_is_closed_and_comes_back(daemon):
    other = add_enclave(daemon)
    with daemon, daemon.client(other) as client:
        assert client.ask(DESCRIBE).status == 200
        before = copy.deepcopy(daemon.config)
        path = daemon.socket_path(other)
        daemon.config["listen"].pop()
        del daemon.config["enclaves"][other]
        daemon.reload()
        daemon.wait_log("`listen` has changed; a restart is needed")
        assert ended(client)
        daemon.config = before
        assert daemon.socket_path(other) == path
        with daemon.client(other) as late:
            assert ended(late)
        assert daemon.record(REASON="unknown-peer")["VERDICT"] == "refuse"
        daemon.reload()
        with daemon.client(other) as client:
            assert client.ask(DESCRIBE).status == 200


def test_what_needs_a_restart_is_said_and_not_done(daemon):
    daemon.config["workers"] = 1
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        threads = len(os.listdir(f"/proc/{daemon.pid}/task"))
        daemon.config["workers"] = 2
        daemon.config["listen"].append({"unix": str(daemon.folder / "new.sock"), "enclave": "payments"})
        daemon.reload()
        assert "`workers` is 2 now; a restart is needed for it to take effect" in daemon.log()
        assert "`listen` has changed; a restart is needed for it to take effect" in daemon.log()
        assert not (daemon.folder / "new.sock").exists()
        assert len(os.listdir(f"/proc/{daemon.pid}/task")) <= threads
        assert client.ask(DESCRIBE).status == 200
        warnings = len(daemon.records(LEVEL="warning"))
        daemon.config["workers"] = 1
        daemon.config["listen"].pop()
        daemon.reload()     # as it was: nothing to be said
        assert len(daemon.records(LEVEL="warning")) == warnings


def test_what_an_enclave_has_used_survives_a_reload(daemon):
    limits(daemon, requests="1/h", burst=4)
    with daemon:
        with daemon.client() as client:
            assert [client.ask(DESCRIBE).status for _ in range(5)] == [200] * 4 + [400]
        daemon.config["enclaves"]["payments"] = copy.deepcopy(daemon.config["enclaves"]["payments"])
        allow(daemon, "ListKeys")
        daemon.reload()
        with daemon.client() as client:
            assert client.ask(DESCRIBE).error == "ThrottlingException"
        daemon.process.send_signal(signal.SIGUSR1)
        counters = wait_for(lambda: next((r for r in daemon.records() if "REQUESTS" in r), None))
        assert int(counters["REQUESTS"]) == 6


# Endpoints.

def test_another_endpoint_is_asked_from_then_on(daemon, kms):
    with LocalKms(kms.credentials) as second, daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        waits = held(daemon, kms)
        (daemon.folder / "second.pem").write_bytes(second.ca_pem())
        daemon.config["endpoints"]["kms"].update(
            connect_to=second.address, ca_file=str(daemon.folder / "second.pem"))
        daemon.reload()
        with daemon.client() as fresh:
            assert fresh.ask(DESCRIBE).status == 200
        assert len(second.requests) == 1
        kms.clear()
        assert waits.read().status == 200       # from the one that was asked
        waits.close()
        kms.wait_closed()                       # whose connections are not kept


def test_the_ca_file_is_read_again(daemon, kms):
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        (daemon.folder / "ca.pem").write_bytes(Authority().pem())
        assert client.ask(DESCRIBE).status == 200
        daemon.reload()
        # No connection and no TLS session of before helps.
        answer = client.ask(DESCRIBE)
        assert (answer.status, answer.error) == (503, "ServiceUnavailableException")
        daemon.wait_log("can't connect to .*(certificate|SSL)")
        (daemon.folder / "ca.pem").write_bytes(kms.ca_pem())
        daemon.reload()
        wait_for(lambda: client.ask(DESCRIBE).status == 200)


# A broken one.

def broken(change):
    """A configuration with something wrong in it, and a right less, which must not go either."""
    def make(daemon):
        config = copy.deepcopy(daemon.config)
        config["enclaves"]["payments"]["allow"][0]["actions"].remove("DescribeKey")
        change(config)
        return config
    return make


BROKEN = {
    "syntax": (lambda d: '{"listen": [', r":\d+:\d+: .+"),
    "not-a-map": (lambda d: "- a\n", r":1:1: .+"),
    "unknown-option": (broken(lambda c: c.update(wrokers=2)), r':\d+:\d+: .*"?wrokers"?.*workers'),
    "action": (broken(lambda c: c["enclaves"]["payments"]["allow"][0].update(actions=["decrypt"])),
               r":\d+:\d+: .*decrypt.*Decrypt"),
    "two-errors": (broken(lambda c: c.update(workers=0, memory="1KiB")), r":\d+:\d+: .*1KiB"),
    "no-ca": (broken(lambda c: c["endpoints"]["kms"].update(ca_file="/nonexistent/ca.pem")),
              r"/nonexistent/ca.pem"),
    "bad-ca": (broken(lambda c: c["endpoints"]["kms"].update(ca_file="/etc/passwd")), r"/etc/passwd"),
    "cid": (broken(lambda c: c["enclaves"]["payments"].update(cid=3)), r":\d+:\d+: .*3"),
    "duplicate": (lambda d: '{"workers": 1, "workers": 2}', r":1:\d+: .*workers"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_changes_nothing(daemon, kms, name):
    make, said = BROKEN[name]
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        waits = held(daemon, kms)
        good, daemon.config = daemon.config, make(daemon)
        daemon.reload(expect=r"not loaded; the configuration in force stays as it was")
        daemon.config = good
        daemon.wait_log("error: .*kms-vsock-proxy.yaml" + (said if said.startswith(":") else ".*" + said))
        assert client.ask(DESCRIBE).status == 200       # on the same connection
        assert client.ask(NOT_ALLOWED).error == "AccessDeniedException"
        kms.clear()
        answer = waits.read()
        assert (answer.status, answer.header("Connection")) == (200, None)
        waits.close()
        assert len({r.connection for r in kms.requests}) == 2


def test_all_errors_of_a_broken_file_are_said(daemon):
    with daemon:
        good, daemon.config = daemon.config, {**daemon.config, "workers": 0, "audit": "none", "memory": "1"}
        daemon.reload(expect="not loaded")
        for name in ("workers", "audit", "memory"):
            daemon.wait_log(rf"error: \S*kms-vsock-proxy.yaml:\d+:\d+: {name}")
        daemon.config = good


def test_a_file_that_is_gone_changes_nothing(daemon):
    with daemon, daemon.client() as client:
        daemon.config_path.unlink()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_log("not loaded; the configuration in force stays")
        assert "No such file" in daemon.log()
        assert client.ask(DESCRIBE).status == 200


def test_many_reloads_leave_nothing_behind(daemon, kms):
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        for _ in range(5):
            daemon.reload()
        before = daemon.descriptors(), daemon.resident()
        for _ in range(40):
            daemon.reload()
            assert client.ask(DESCRIBE).status == 200
        wait_for(lambda: daemon.descriptors() <= before[0] + 1)
        if not sanitized(daemon):       # which keeps what was freed
            assert daemon.resident() - before[1] < 16 << 20
        daemon.process.send_signal(signal.SIGHUP)       # and in a row, without waiting
        for _ in range(50):
            daemon.process.send_signal(signal.SIGHUP)
        assert client.ask(DESCRIBE).status == 200


# The end.

class Stalled:
    """A daemon that is told to stop while a request never comes back."""

    def __init__(self, daemon, kms):
        daemon.config["endpoints"]["kms"]["reply_timeout"] = "5m"
        daemon.start()
        self.daemon = daemon
        self.client = held(daemon, kms)
        self.client.sock.settimeout(120)
        self.pool = concurrent.futures.ThreadPoolExecutor()
        self.end = self.pool.submit(self.stop)

    def stop(self):
        start = time.monotonic()
        self.daemon.process.terminate()
        answer = self.client.read()
        status = self.daemon.process.wait(60)
        return time.monotonic() - start, answer, status


@pytest.fixture(scope="session", autouse=True)
def stalled(tmp_path_factory):
    """Begun with this file; test_the_end_waits_30_seconds_at_most looks at it after all."""
    with LocalKms() as kms, LocalImds(kms.credentials) as imds:
        found = Stalled(Daemon(tmp_path_factory.mktemp("stalled"), kms, imds), kms)
        yield found
        if found.daemon.process.poll() is None:
            found.daemon.process.kill()
        found.pool.shutdown()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_drains_and_ends(daemon, kms, number):
    with daemon.start(), daemon.client() as idle:
        assert idle.ask(DESCRIBE).status == 200
        waits = held(daemon, kms)
        daemon.process.send_signal(number)
        daemon.wait_log("stopping: no new connections")
        assert ended(idle)
        wait_for(lambda: not os.path.exists(daemon.socket_path()))
        with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
            daemon.client()
        assert daemon.process.poll() is None
        kms.clear()
        answer = waits.read()
        assert (answer.status, answer.header("Connection")) == (200, "close")
        assert ended(waits)
        waits.close()
        assert daemon.process.wait(20) == 0
    assert daemon.records(REASON="allowed", VERDICT="allow")[-1]["HTTP_STATUS"] == "200"
    assert "stopped" in daemon.log()


def test_a_pipeline_is_not_read_on_while_it_drains(daemon, kms):
    with daemon.start():
        waits = held(daemon, kms)
        waits.send(DESCRIBE)
        daemon.process.terminate()
        daemon.wait_log("stopping: no new connections")
        kms.clear()
        assert waits.read().header("Connection") == "close"
        assert ended(waits)
        waits.close()
    assert len(kms.requests) == 1


def test_a_body_on_its_way_is_waited_for(daemon):
    with daemon.start(), daemon.client() as slow:
        slow.send(DESCRIBE[:-3])
        wait_taken(slow)
        daemon.process.terminate()
        daemon.wait_log("stopping: no new connections")
        slow.send(DESCRIBE[-3:])
        assert slow.read().status == 200
        assert daemon.process.wait(20) == 0


def test_the_second_signal_ends_it_at_once(daemon, kms):
    with daemon.start():
        waits = held(daemon, kms)
        start = time.monotonic()
        daemon.process.terminate()
        daemon.wait_log("stopping: no new connections")
        daemon.process.terminate()
        answer = waits.read()
        assert (answer.status, answer.error) == (503, "ServiceUnavailableException")
        waits.close()
        assert daemon.process.wait(20) == 0
        assert time.monotonic() - start < 15
    record, = daemon.records(REASON="shutting-down")
    assert record["HTTP_STATUS"] == "503"


def test_it_ends_while_clients_ask_and_loses_no_answer(daemon, kms):
    """Every request whose answer had begun is answered whole; the rest sees an end, not rubbish."""
    bad, answered = [], []

    def run():
        count = 0
        try:
            with daemon.client() as client:
                while True:
                    try:
                        assert client.ask(DESCRIBE).status == 200
                        count += 1
                    except (EOFError, OSError):
                        if client._held:
                            bad.append(client._held)
                        raise
        except (EOFError, OSError):
            answered.append(count)

    with daemon.start():
        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        kms.wait_for_requests(50)
        daemon.process.terminate()
        for thread in threads:
            thread.join()
        assert daemon.process.wait(20) == 0
    assert not bad and len(answered) == 8
    assert len(daemon.records(REASON="allowed")) == sum(answered)


def test_a_request_that_was_accepted_before_the_end_is_answered(daemon):
    """The worker hears of the connections and of the end at once, and has read nothing yet, nor accepted
    all of them: so many come not in one turn of the loop."""
    with daemon.start(), contextlib.ExitStack() as stack:
        with stopped(daemon):
            clients = [stack.enter_context(daemon.client()) for _ in range(60)]
            for client in clients:
                client.send(DESCRIBE)
            daemon.process.terminate()
        for client in clients:
            answer = client.read()
            assert (answer.status, answer.header("Connection")) == (200, "close")
            assert ended(client)
        assert daemon.process.wait(20) == 0


def test_reload_while_draining_does_nothing(daemon, kms):
    with daemon.start():
        waits = held(daemon, kms)
        daemon.process.terminate()
        daemon.wait_log("stopping: no new connections")
        daemon.process.send_signal(signal.SIGHUP)
        kms.clear()
        assert waits.read().status == 200
        waits.close()
    assert ": loaded, " not in daemon.log()


@pytest.mark.last
def test_the_end_waits_30_seconds_at_most(stalled):
    took, answer, status = stalled.end.result(120)
    assert (answer.status, answer.error) == (503, "ServiceUnavailableException")
    assert answer.header("Connection") == "close"
    assert status == 0
    assert 29 < took < 50


# Counters.

def test_the_counters_of_each_enclave(daemon, kms):
    other = add_enclave(daemon)
    limits(daemon, requests="1/h", burst=6)
    with daemon:
        with daemon.client() as client:
            for sent in (DESCRIBE, DESCRIBE, NOT_ALLOWED, DESCRIBE):
                client.ask(sent)
            kms.fault("gzip")
            assert client.ask(DESCRIBE).status == 502
            client.ask(b"GET / HTTP/1.1\r\n\r\n")
        with daemon.client() as client:
            assert client.ask(DESCRIBE).error == "ThrottlingException"
        with daemon.client() as client:
            pass
        daemon.record(REASON="no-request")
        daemon.process.send_signal(signal.SIGUSR1)
        found = wait_for(lambda: {r["ENCLAVE"]: r for r in daemon.records() if "REQUESTS" in r}
                         if len([r for r in daemon.records() if "REQUESTS" in r]) == 2 else None)
        mine = {n: int(v) for n, v in found["payments"].items() if v.isdigit()}
        assert {n: mine[n] for n in (
            "CONNECTIONS", "REQUESTS", "ALLOWED", "REFUSED", "THROTTLED", "FAILED")} == {
            "CONNECTIONS": 3, "REQUESTS": 7, "ALLOWED": 3, "REFUSED": 2, "THROTTLED": 1, "FAILED": 1}
        assert mine["BYTES_IN"] > 5 * len(DESCRIBE) and mine["BYTES_OUT"] > 1000
        assert int(found[other]["REQUESTS"]) == 0


# The service manager.

def test_the_service_manager_is_told(daemon, manager, imds):
    daemon.config["enclaves"]["payments"]["limits"] = {}
    with daemon.start():
        heard(manager, "READY=1", "WATCHDOG=1")
        heard(manager, "Serving 1 enclave,")
        daemon.reload()
        heard(manager, "RELOADING=1", "READY=1")
        daemon.config, good = {"wrong": 1}, daemon.config
        daemon.reload(expect="not loaded")
        heard(manager, "RELOADING=1", "READY=1")
        daemon.config = good
        daemon.process.terminate()
        heard(manager, "STOPPING=1", "EXTEND_TIMEOUT_USEC=35000000")


def test_the_status_says_that_there_are_no_credentials(daemon, manager, imds):
    imds.role = None
    daemon.start(wait=True)
    with daemon:
        heard(manager, "READY=1")
        said = heard(manager, "STATUS=Serving 1 enclave,")
        assert "no credentials" in said[-1] or "no credentials" in heard(manager, "no credentials")[-1]
        imds.role = "enclave-parent"
        daemon.wait_log("credentials valid", deadline=90)
        heard(manager, "credentials valid")
