# SPDX-License-Identifier: Apache-2.0
"""An enclave with several CIDs and a listener: each is a slot with what it has used. (CIDs on vsock:
tests/vm/cases/test_slots.py.)"""

import signal

import pytest

from daemon import wait_for
from daemon.help import add_enclave, allow, DESCRIBE, ended, KEY_ID, limits
from kms.client import request

CIDS = ["16", "17", "18"]


@pytest.fixture
def daemon(daemon):
    """`payments` also has three CIDs."""
    daemon.config["enclaves"]["payments"]["cids"] = [16, "17-18"]
    daemon.config["workers"] = 1
    return daemon


def counters(daemon, slots):
    """What the next record of each of these slots says, by name and CID; there are no more."""
    def found():
        return [r for r in daemon.records() if "REQUESTS" in r]
    before = len(found())
    daemon.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: len(found()) >= before + len(slots))
    said = {(r["ENCLAVE"], r.get("ENCLAVE_CID")): r for r in found()[before:]}
    assert list(said) == slots
    return said


def test_each_slot_has_counters_of_its_own(daemon):
    slots = [("payments", cid) for cid in CIDS] + [("payments", None)]
    with daemon:
        assert "started: 1 listener, 1 enclave (4 slots), 1 endpoint" in daemon.log()
        with daemon.client() as client:
            assert client.ask(DESCRIBE).status == 200
        said = counters(daemon, slots)
        assert [said[slot]["REQUESTS"] for slot in slots] == ["0", "0", "0", "1"]
        assert said[slots[0]]["MESSAGE"].startswith("payments (CID 16): requests 0 ")
        assert said[slots[3]]["MESSAGE"].startswith("payments: requests 1 ")


def test_a_slot_that_is_gone_is_counted_once_more_if_it_was_used(daemon):
    other = add_enclave(daemon, cids=[20])
    with daemon:
        with daemon.client(other) as client:
            assert client.ask(DESCRIBE).status == 200
        daemon.config["enclaves"]["payments"]["cids"] = [17]
        entry, enclave = daemon.config["listen"].pop(), daemon.config["enclaves"].pop(other)
        daemon.reload()
        left = [("payments", "17"), ("payments", None)]
        assert counters(daemon, [*left, (other, None)])[other, None]["REQUESTS"] == "1"
        counters(daemon, left)
        daemon.config["listen"].append(entry)
        daemon.config["enclaves"][other] = enclave
        daemon.reload()
        again = counters(daemon, [*left, (other, "20"), (other, None)])
        assert again[other, None]["REQUESTS"] == "1"


def test_a_cid_that_comes_or_goes_touches_no_other_slot(daemon):
    enclave = daemon.config["enclaves"]["payments"]
    with daemon, daemon.client() as client:
        for number, cids in enumerate(([16], [16, 20, "30-35"], [20, 16], [99]), 1):
            assert client.ask(DESCRIBE).status == 200
            enclave["cids"] = cids
            daemon.reload()
        del enclave["cids"]
        enclave["cid"] = 16
        daemon.reload(expect="loaded, 1 enclave \\(2 slots\\)")
        assert client.ask(DESCRIBE).status == 200
        del enclave["cid"]
        daemon.reload(expect="loaded, 1 enclave, 1 endpoint")
        assert client.ask(DESCRIBE).status == 200
        enclave["cids"] = [17]
        enclave["limits"] = {"requests": "9000/s"}
        daemon.reload()
        assert ended(client)


def test_what_a_slot_has_used_it_has_used_also_after_its_cids_changed(daemon):
    limits(daemon, requests="1/h", burst=2)
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        assert client.ask(DESCRIBE).status == 200
        daemon.config["enclaves"]["payments"]["cids"] = [17, 40]
        daemon.reload()
        assert client.ask(DESCRIBE).error == "ThrottlingException"


def test_a_listener_that_is_gone_from_the_file_takes_its_slot_with_it(daemon):
    """The enclave stays, with its CIDs; the socket stays open until the restart, for nobody."""
    other = add_enclave(daemon, cids=[20, 21])
    path = daemon.socket_path(other)
    with daemon, daemon.client(other) as client, daemon.client() as unchanged:
        assert client.ask(DESCRIBE).status == unchanged.ask(DESCRIBE).status == 200
        entry = daemon.config["listen"].pop()
        daemon.reload(expect="loaded, 2 enclaves \\(6 slots\\)")
        daemon.wait_log("`listen` has changed; a restart is needed")
        assert ended(client)
        daemon.config["listen"].append(entry)
        assert daemon.socket_path(other) == path
        with daemon.client(other) as late:
            assert ended(late)
        record = daemon.record(REASON="unknown-peer")
        assert "no listener of the file names its enclave" in record["MESSAGE"] + str(record)
        assert "ENCLAVE_CID" not in record
        assert unchanged.ask(DESCRIBE).status == 200
        daemon.reload(expect="loaded, 2 enclaves \\(7 slots\\)")
        with daemon.client(other) as again:
            assert again.ask(DESCRIBE).status == 200


BROKEN = {
    "a CID twice": ({"cids": [16, "16-17"]}, "cids: 16 is the CID of enclave \"payments\" at kms-vsock-proxy.yaml:"),
    "too many": ({"cids": ["16-80"]}, "there are 65 slots"),
    "too little memory": ({"cids": ["16-78"]}, "memory: 96MiB is too little for 64 slots of enclaves; expected"),
    "both": ({"cid": 17, "cids": [18]}, "it can't have both"),
}


@pytest.mark.parametrize("change, said", BROKEN.values(), ids=BROKEN)
def test_a_broken_list_changes_nothing(daemon, change, said):
    enclave = daemon.config["enclaves"]["payments"]
    with daemon, daemon.client() as client:
        good = dict(enclave)
        enclave.clear()
        enclave.update({**good, **change})
        daemon.reload(expect="not loaded; the configuration in force stays")
        assert said in daemon.log()
        assert client.ask(DESCRIBE).status == 200


def test_the_most_slots_for_the_memory_serve_the_largest_request_each(daemon, kms):
    """One more is an error, which names the memory it wants."""
    enclave = daemon.config["enclaves"]["payments"]
    enclave["cids"] = ["4-64"]      # 62 with the listener's
    enclave["limits"] = {"body": "512KiB", "requests": "1000/s"}
    allow(daemon, "UpdateKeyDescription")

    def described(n):
        return request("UpdateKeyDescription", {"KeyId": KEY_ID, "Description": "x" * n})
    most = 512 * 1024 - len(described(0).partition(b"\r\n\r\n")[2])
    with daemon:
        with daemon.client() as client:
            # KMS itself refuses it, and quotes it: the answer is as large.
            assert client.ask(described(most)).error == "ValidationException"
        clients = [daemon.client() for _ in range(63)]     # the first may still be open
        for client in clients:
            client.send(DESCRIBE)
        for client in clients:
            assert client.read().status == 200
            client.close()
        enclave["cids"] = ["4-65"]
        daemon.reload(expect="memory: 96MiB is too little for 63 slots of enclaves; expected 97MiB or more")
    assert len(kms.asked("UpdateKeyDescription")) == 1
