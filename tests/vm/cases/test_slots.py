# SPDX-License-Identifier: Apache-2.0
"""One enclave of the file with several CIDs: all may do the same, and what one of them uses up, or a
reload takes from it, is not the others'."""

import signal

import peers
import pytest
from daemon import Daemon, wait_for
from kms.client import request

PORT = 8000
KEY = "alias/payments"
DESCRIBE = request("DescribeKey", {"KeyId": KEY})
ENCRYPT = request("Encrypt", {"KeyId": KEY, "Plaintext": b"secret"})


def definition(**more):
    return {"endpoints": ["kms"], "limits": {"requests": "1/h", "burst": 3, "connections": 2},
            "allow": [{"name": "use", "actions": ["DescribeKey"], "keys": [KEY]}], **more}


@pytest.fixture
def daemon(tmp_path, aws):
    """The daemon by itself, on the vsock port, with one enclave of three CIDs."""
    config = {
        "listen": [{"vsock": PORT}],
        "endpoints": {"kms": aws.endpoint()},
        "credentials": {"source": "imds"},
        "enclaves": {"fleet": definition(cids=[16, "17-18"]), "other": definition(cid=19)},
    }
    with Daemon(tmp_path, kms=None, imds=None, config=config) as running:
        yield running


def closed(enclave):
    """Whether a connection of it is closed without an answer."""
    with enclave.connect(PORT) as stream:
        return peers.bytes_back(stream, DESCRIBE) == b""


def counters(daemon):
    """The newest record of each slot, by name and CID."""
    def found():
        return [r for r in daemon.records() if "REQUESTS" in r]
    before = len(found())
    daemon.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: len(found()) >= before + 4)
    return {(r["ENCLAVE"], r["ENCLAVE_CID"]): int(r["REQUESTS"]) for r in found()[before:]}


@pytest.mark.nitro
@pytest.mark.sanitize
def test_each_cid_has_limits_and_counters_of_its_own(daemon, enclaves):
    with enclaves(16).client(PORT) as first, enclaves(16).client(PORT), enclaves(17).client(PORT) as second:
        assert [first.ask(DESCRIBE).status for _ in range(3)] == [200] * 3
        assert first.ask(DESCRIBE).error == "ThrottlingException"
        with enclaves(16).client(PORT) as more:     # it has two
            assert more.ask(DESCRIBE).header("Connection") == "close"
        assert daemon.record(REASON="connections")["ENCLAVE_CID"] == "16"
        assert [second.ask(DESCRIBE).status for _ in range(3)] == [200] * 3
        assert second.ask(ENCRYPT).error == "ThrottlingException"   # by the same number of its own
    with enclaves(18).client(PORT) as third:
        assert third.ask(ENCRYPT).error == "AccessDeniedException"  # and by the same policy
    record = daemon.record(REASON="action")
    assert (record["ENCLAVE"], record["ENCLAVE_CID"]) == ("fleet", "18")
    assert counters(daemon) == {
        ("fleet", "16"): 4, ("fleet", "17"): 4, ("fleet", "18"): 1, ("other", "19"): 0}


@pytest.mark.nitro
@pytest.mark.sanitize
def test_a_reload_that_takes_a_cid_out_closes_its_connections_only(daemon, enclaves):
    clients = {cid: enclaves(cid).client(PORT) for cid in (16, 17, 18, 19)}
    for client in clients.values():
        assert client.ask(DESCRIBE).status == 200

    daemon.config["enclaves"]["fleet"]["cids"] = [18, 16]
    daemon.reload(expect=r"loaded, 2 enclaves \(3 slots\)")
    assert clients.pop(17).at_end()
    assert closed(enclaves(17))
    record = daemon.record(REASON="unknown-peer")
    assert (record["ENCLAVE_CID"], record.get("ENCLAVE")) == ("17", None)
    for client in clients.values():
        assert client.ask(DESCRIBE).status == 200

    daemon.config["enclaves"]["fleet"]["cids"] = ["16-18"]
    daemon.reload(expect=r"loaded, 2 enclaves \(4 slots\)")
    with enclaves(17).client(PORT) as again:
        # It comes back to what it had used: one of three.
        assert [again.ask(DESCRIBE).status for _ in range(3)] == [200, 200, 400]
    for client in clients.values():
        assert client.ask(DESCRIBE).status == 200
        client.close()


@pytest.mark.sanitize
def test_a_cid_that_moves_to_another_enclave_begins_anew(daemon, enclaves):
    with enclaves(17).client(PORT) as moved, enclaves(18).client(PORT) as stays, \
            enclaves(19).client(PORT) as other:
        for client in (moved, stays, other):
            assert client.ask(DESCRIBE).status == 200
        daemon.config["enclaves"]["fleet"]["cids"] = [16, 18]
        del daemon.config["enclaves"]["other"]["cid"]
        daemon.config["enclaves"]["other"]["cids"] = [17, 19]
        daemon.reload(expect=r"loaded, 2 enclaves \(4 slots\)")
        assert moved.at_end()
        assert stays.ask(DESCRIBE).status == other.ask(DESCRIBE).status == 200
    with enclaves(17).client(PORT) as client:
        assert [client.ask(DESCRIBE).status for _ in range(4)] == [200, 200, 200, 400]
        assert daemon.record(ENCLAVE="other", ENCLAVE_CID="17", count=3)
