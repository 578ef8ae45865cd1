# SPDX-License-Identifier: Apache-2.0
"""Who a peer is comes from its CID, and what it may do from its own policy."""

import socket

import peers
import pytest
from daemon import Daemon
from kms.client import request

PORT = 8000
KEY = "alias/payments"
DESCRIBE = request("DescribeKey", {"KeyId": KEY})
ENCRYPT = request("Encrypt", {"KeyId": KEY, "Plaintext": b"secret"})
GENERATE = request("GenerateDataKey", {"KeyId": KEY, "KeySpec": "AES_256"})


def rule(*actions, **more):
    return {"name": "use", "actions": list(actions), "keys": [KEY], **more}


def policies():
    """Four enclaves with one policy each."""
    return {
        "reader": {"cid": 16, "allow": [rule("DescribeKey")]},
        "sealer": {"cid": 17, "allow": [rule("Encrypt")]},
        "generator": {"cid": 18, "allow": [rule("GenerateDataKey", plaintext="allow")]},
        "attested": {"cid": 19, "allow": [rule("GenerateDataKey", "DescribeKey")]},
    }


@pytest.fixture
def daemon(tmp_path, aws):
    """The daemon by itself, on the vsock port."""
    config = {
        "listen": [{"vsock": PORT}],
        "endpoints": {"kms": aws.endpoint()},
        "credentials": {"source": "imds"},
        "enclaves": {name: {"endpoints": ["kms"], **policy}
                     for name, policy in policies().items()},
    }
    with Daemon(tmp_path, kms=None, imds=None, config=config) as running:
        yield running


@pytest.mark.nitro
@pytest.mark.sanitize
@pytest.mark.parametrize("cid, answers", [
    (16, {DESCRIBE: "allowed", ENCRYPT: "action", GENERATE: "action"}),
    (17, {DESCRIBE: "action", ENCRYPT: "allowed", GENERATE: "action"}),
    (18, {DESCRIBE: "action", ENCRYPT: "action", GENERATE: "allowed"}),
    (19, {DESCRIBE: "allowed", ENCRYPT: "action", GENERATE: "recipient"}),
])
def test_each_enclave_has_its_own_policy(daemon, enclaves, cid, answers):
    with enclaves(cid).client(PORT) as client:
        for number, (asked, reason) in enumerate(answers.items(), 1):
            answer = client.ask(asked)
            assert answer.status == (200 if reason == "allowed" else 400), answer
            daemon.record(ENCLAVE_CID=cid, count=number)
    reasons = [record["REASON"] for record in daemon.records(ENCLAVE_CID=cid)]
    assert reasons == list(answers.values())


@pytest.mark.nitro
@pytest.mark.sanitize
def test_four_enclaves_at_once_get_their_own_answers(daemon, enclaves):
    clients = {cid: enclaves(cid).client(PORT) for cid in (16, 17, 18, 19)}
    for client in clients.values():
        client.send(DESCRIBE)
    statuses = {cid: client.read().status for cid, client in clients.items()}
    assert statuses == {16: 200, 17: 400, 18: 400, 19: 200}
    for client in clients.values():
        client.close()


@pytest.mark.nitro
@pytest.mark.sanitize
def test_a_cid_of_no_enclave_is_closed(daemon, enclaves):
    with enclaves(20).connect(PORT) as stream:
        assert peers.bytes_back(stream, DESCRIBE) == b""
    record = daemon.record(ENCLAVE_CID=20)
    assert (record["VERDICT"], record["REASON"]) == ("refuse", "unknown-peer")


@pytest.mark.nitro
def test_a_local_process_is_closed(daemon):
    with socket.socket(socket.AF_VSOCK) as stream:
        stream.settimeout(60)
        stream.connect((1, PORT))
        assert peers.bytes_back(stream, DESCRIBE) == b""
    assert daemon.record(ENCLAVE_CID=1)["REASON"] == "unknown-peer"
