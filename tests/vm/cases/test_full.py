# SPDX-License-Identifier: Apache-2.0
"""An enclave that has all it may have, over a real vsock, where an end, a reset and a peer that has gone
look otherwise than on a Unix socket: one connection more, and one request more."""

import contextlib
import ctypes
import os
import socket
import stat

import journal
import pytest
import service
from kms.client import request
from vanishing import allow_updates, Asked, client, DESCRIBE, SECONDS, sent, SLOW_KMS, update, vanish, WAYS

PADDED = request("DescribeKey", body=b'{"KeyId":"alias/payments"}' + b" " * 300000)
IN_TIME = {**SLOW_KMS, "seconds": 1}    # before who waits has waited too long


def hold(enclaves, count):
    held = [client(enclaves) for _ in range(count)]
    assert [one.ask(DESCRIBE).status for one in held] == [200] * count
    return held


@pytest.fixture
def full(unit, enclaves):
    """Alpha has its three connections."""
    unit.config["enclaves"]["alpha"]["limits"]["connections"] = 3
    unit.start()
    held = hold(enclaves, 3)
    yield unit
    for one in held:
        one.close()


@pytest.mark.nitro
@pytest.mark.sanitize
@pytest.mark.parametrize("sent", [DESCRIBE, PADDED, b"P"], ids=["small", "large", "byte"])
def test_one_connection_more_is_told_and_may_read_it(full, enclaves, sent):
    place = journal.cursor()
    with client(enclaves) as more:
        with contextlib.suppress(ConnectionError):  # it has its answer before all of it is sent
            more.send(sent)
        answer = more.read()
        assert (answer.status, answer.error) == (400, "ThrottlingException")
        assert answer.header("Connection") == "close"
        with contextlib.suppress(ConnectionResetError):
            assert more.at_end()
    record = journal.wait_for(after=place, REASON="connections")[0]
    assert (record["ENCLAVE"], record["HTTP_STATUS"]) == ("alpha", "400")


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "tls"])
def test_one_connection_more_that_asks_nothing_is_closed(full, enclaves, sent):
    place = journal.cursor()
    with client(enclaves) as more:
        if sent:
            more.send(sent)
        with contextlib.suppress(ConnectionResetError):
            assert more.at_end()
    assert "HTTP_STATUS" not in journal.wait_for(after=place, REASON="connections")[0]


@pytest.mark.sanitize
def test_connections_over_the_limit_harm_nobody(full, enclaves):
    descriptors = full.descriptors()
    for _ in range(10):
        more = [client(enclaves) for _ in range(30)]
        for one in more:
            one.send(DESCRIBE)
        answers = [one.read() for one in more]
        assert {(a.status, a.error) for a in answers} == {(400, "ThrottlingException")}
        with client(enclaves, 17) as other:
            assert other.ask(DESCRIBE).status == 200
        for one in more:
            one.close()
    service.wait(lambda: full.descriptors() <= descriptors + 4, SECONDS,
                 lambda: f"{full.descriptors()} descriptors, {descriptors} before")


@pytest.fixture
def asked(unit, aws):
    allow_updates(unit, in_flight=1)
    return Asked(aws)


@pytest.mark.nitro
@pytest.mark.sanitize
@pytest.mark.parametrize("workers", [1, 2])
def test_one_request_more_waits_for_its_place(unit, enclaves, aws, asked, workers):
    unit.config["workers"] = workers
    unit.start()
    held = hold(enclaves, 3)
    place = journal.cursor()
    aws.ask(fault={**IN_TIME, "count": 1})
    held[0].send(update("first"))
    asked.wait(1)
    for one, text in zip(held[1:], ("second", "third")):
        one.send(update(text))
    assert [one.read().status for one in held] == [200] * 3
    assert len(asked.texts()) == 3
    found = journal.wait_for(3, after=place, KMS_ACTION="UpdateKeyDescription")
    assert sum("WAIT_USEC" in r for r in found) == 2
    for one in held:
        one.close()


@pytest.mark.parametrize("way", [pytest.param(way, marks=[pytest.mark.nitro] if way == "shutdown" else ())
                                 for way in WAYS if way != "destroyed"])
def test_who_goes_while_it_waits_is_never_sent(unit, enclaves, aws, asked, way):
    unit.start()
    hold(enclaves, 1)[0].close()
    place = journal.cursor()
    aws.ask(fault={**IN_TIME, "count": 1})
    first = client(enclaves)
    first.send(update("first"))
    asked.wait(1)
    gone = sent(enclaves(16), ["gone"])
    last = client(enclaves)
    last.send(update("last"))
    vanish(way, enclaves, gone)
    assert first.read().status == 200
    assert last.read().status in (200, 400)     # 400: the machine was too slow for its 2 s
    record = journal.wait_for(after=place, REASON="client-gone", KMS_ACTION="UpdateKeyDescription")[0]
    assert "KMS_STATUS" not in record and "WAIT_USEC" in record
    assert "gone" not in asked.texts()
    for one in (first, last):
        one.close()


@pytest.mark.nitro
def test_who_only_sends_no_more_still_waits(unit, enclaves, aws, asked):
    unit.start()
    hold(enclaves, 1)[0].close()
    aws.ask(fault={**IN_TIME, "count": 1})
    with client(enclaves) as first, client(enclaves) as half:
        first.send(update("first"))
        asked.wait(1)
        half.send(update("half"))
        half.sock.shutdown(socket.SHUT_WR)
        assert first.read().status == 200
        assert half.read().status == 200


SO_VM_SOCKETS_BUFFER_SIZE = 0       # linux/vm_sockets.h
PIDFD_GETFD = 438                   # pidfd_getfd(2), the same on every processor


def vsock_buffers(pid):
    """What the kernel keeps for each vsock socket of a process, the listener's too."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    process = os.pidfd_open(pid)
    try:
        for number in map(int, os.listdir(f"/proc/{pid}/fd")):
            copy = call(PIDFD_GETFD, process, number, 0)
            if copy < 0 or not stat.S_ISSOCK(os.fstat(copy).st_mode):
                continue
            with socket.socket(fileno=copy) as sock:
                if sock.family == socket.AF_VSOCK:
                    yield sock.getsockopt(socket.AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE)
    finally:
        os.close(process)


@pytest.mark.nitro
def test_what_nobody_reads_of_a_connection_is_bounded(unit, enclaves):
    unit.start()
    held = hold(enclaves, 2)
    buffers = list(vsock_buffers(unit.pid))
    assert len(buffers) >= 3 and set(buffers) == {64 << 10}
    for one in held:
        one.close()
