# SPDX-License-Identifier: Apache-2.0
"""One enclave misbehaves in every way; the others' requests neither fail nor pass their deadline,
and what it held is given back."""

import time

import peers
import pytest
import service
from kms.client import request
from traffic import Traffic

DESCRIBE = request("DescribeKey", {"KeyId": "alias/payments"})
GOOD = (17, 18, 19)
DEADLINE = 30       # of one call: reply_timeout


def destroy_mid_request(enclaves):
    for part in (DESCRIBE[:30], DESCRIBE[:-5], DESCRIBE):
        bad = enclaves(16)
        streams = [bad.connect(service.PORT) for _ in range(5)]
        for stream in streams:
            stream.sendall(part)
        bad.die()
        for stream in streams:
            stream.close()


def never_read(enclaves):
    streams = [enclaves(16).connect(service.PORT) for _ in range(8)]
    for stream in streams:
        stream.settimeout(5)
        try:
            for _ in range(200):
                stream.sendall(DESCRIBE * 5)
        except OSError:
            pass        # it isn't read any more: as it should be
    for stream in streams:
        stream.close()


def reset_everywhere(enclaves):
    for part in (b"", DESCRIBE[:30], DESCRIBE[:-5], DESCRIBE, DESCRIBE * 3):
        for _ in range(5):
            stream = enclaves(16).connect(service.PORT)
            if part:
                stream.sendall(part)
            enclaves(16).reset(stream)
            stream.close()


def two_thousand_connections(enclaves):
    for _ in range(20):
        streams = []
        for _ in range(100):
            try:
                streams.append(enclaves(16).connect(service.PORT))
            except OSError:
                break       # the backlog is full: reset by the kernel
        for stream in streams:
            stream.close()


def flood_of_bad_requests(enclaves):
    for _ in range(100):
        with enclaves(16).connect(service.PORT) as stream:
            try:
                stream.sendall(b"GET / HTTP/1.1\nHost: x\n\n" * 20)
                stream.recv(1000)
            except OSError:
                pass


ABUSES = [destroy_mid_request, never_read, reset_everywhere, two_thousand_connections, flood_of_bad_requests]


def is_warm(enclaves):
    """Whether 16 has its answer. The kernel may refuse one whose predecessor was just destroyed."""
    try:
        with enclaves(16).client(service.PORT) as client:
            return client.ask(DESCRIBE).status == 200
    except peers.Refused:
        return False


@pytest.mark.sanitize
@pytest.mark.parametrize("abuse", ABUSES, ids=[a.__name__ for a in ABUSES])
def test_one_bad_enclave_harms_no_other(fast_unit, enclaves, arrangement, abuse):
    fast_unit.start()
    service.wait(lambda: is_warm(enclaves), 30)
    with Traffic(enclaves, GOOD, 15) as calm:
        calm.wait_answers(45)
    time.sleep(1)       # not for an event: the pool's and connections' own housekeeping runs each second
    descriptors, resident = fast_unit.descriptors(), fast_unit.resident_kib()

    with Traffic(enclaves, GOOD, 15) as traffic:
        abuse(enclaves)
        traffic.wait_answers(15)
    calm.report("calm")
    traffic.report(abuse.__name__)
    assert traffic.failed() == []
    assert set(traffic.statuses()) == {200}
    assert max(x for c in traffic.callers.values() for x in c.latencies) < DEADLINE
    service.wait(lambda: fast_unit.descriptors() <= descriptors + 8, 60,
                 lambda: f"{fast_unit.descriptors()} descriptors, {descriptors} before")
    print(f"resident: {resident} KiB before, {fast_unit.resident_kib()} KiB after")
    if arrangement != "sanitize":      # which keeps freed memory aside on purpose
        assert fast_unit.resident_kib() < resident + 4096


@pytest.mark.sanitize
def test_a_reused_cid_gets_nothing_of_its_predecessor(unit, enclaves, aws):
    """A CID is a slot: who comes next under it has the policy, but none of the connections."""
    unit.start()
    with enclaves(16).client(service.PORT) as client:
        assert client.ask(DESCRIBE).status == 200
    aws.ask(to="kms", fault={"kind": "delay", "seconds": 3, "action": "DescribeKey", "count": 1})
    old = enclaves(16)
    streams = [old.connect(service.PORT) for _ in range(4)]
    streams[0].sendall(DESCRIBE)        # its answer comes when the enclave is gone
    streams[1].sendall(DESCRIBE[:40])
    ports = [s.source_port for s in streams]
    old.die()
    for stream in streams:
        stream.close()
    new = enclaves(16)
    assert new is not old
    # even from the same source ports
    reborn = [new.connect(service.PORT, port) for port in ports]
    for stream in reborn:
        stream.settimeout(4)
        with pytest.raises(TimeoutError):
            stream.recv(1)
        stream.close()
    with new.client(service.PORT) as client:
        answer = client.ask(request("Encrypt", {"KeyId": "alias/payments", "Plaintext": b"mine"}))
        assert answer.status == 200
        assert "CiphertextBlob" in answer.json
