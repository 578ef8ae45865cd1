# SPDX-License-Identifier: Apache-2.0
"""The local IMDS, container endpoint, bridge and the programs that run them."""

import base64
import json
import os
import socket
import subprocess
import time

import boto3
import pytest

from control import Control
from kms.client import sign
from nitro import attestation
from standins import (
    Bridge, Client, CredentialStore, Enclave, LocalContainer, LocalImds, LocalKms)
from standins_help import (
    ARN, B64, ca_file, call, connect, enclave, HOST, KEY, kms, LIB, REGION, shared_kms)

# The instance metadata service.

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
ROLES = "/latest/meta-data/iam/security-credentials/"


@pytest.fixture
def imds():
    with LocalImds() as found:
        yield found


def http(standin, method, path, headers=(), **how):
    lines = "".join(f"{n}: {v}\r\n" for n, v in dict(headers).items())
    with Client(("127.0.0.1", standin.port), **how) as client:
        text = f"{method} {path} HTTP/1.1\r\nHost: 169.254.169.254\r\n{lines}\r\n"
        return client.ask(text.encode())


def imds_token(imds, ttl=60):
    answer = http(imds, "PUT", "/latest/api/token", {TTL: ttl})
    assert (answer.status, answer.header("X-Aws-Ec2-Metadata-Token-Ttl-Seconds")) == (200, str(ttl))
    return {TOKEN: answer.body.decode()}


def test_botocore_takes_the_credentials(monkeypatch, kms, ca_file):
    with LocalImds(kms.credentials) as imds:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
                     "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url)
        client = boto3.session.Session().client("kms", region_name=REGION, verify=ca_file,
                                                endpoint_url=f"https://localhost:{kms.port}")
        assert client.describe_key(KeyId=KEY)["KeyMetadata"]["Arn"] == ARN
        assert [r.action for r in imds.requests] == ["PutToken", "ListRoles", "GetCredentials"]


def test_imds_answers(imds):
    token = imds_token(imds)
    for path, text in (("/latest/meta-data/instance-id", "i-0123456789abcdef0"),
                       ("/latest/meta-data/placement/region", "eu-central-1"),
                       ("/latest/meta-data/services/domain", "amazonaws.com"),
                       (ROLES, "enclave-parent")):
        answer = http(imds, "GET", path, token)
        assert (answer.status, answer.body) == (200, text.encode())
    found = http(imds, "GET", ROLES + "enclave-parent", token).json
    assert set(found) == {"Code", "LastUpdated", "Type", "AccessKeyId", "SecretAccessKey", "Token",
                          "Expiration"}
    current = imds.credentials.current
    assert found["Code"] == "Success"
    assert (found["AccessKeyId"], found["Token"]) == (current.access_key_id, current.token)
    assert http(imds, "GET", ROLES + "other", token).status == 404
    assert http(imds, "GET", "/latest/meta-data/nothing", token).status == 404


@pytest.mark.parametrize("method,path,headers,status", [
    ("GET", ROLES, {}, 401), ("GET", ROLES, {TOKEN: "made-up"}, 401),
    ("GET", "/latest/api/token", {}, 405),
    ("PUT", "/latest/api/token", {}, 400), ("PUT", "/latest/api/token", {TTL: "0"}, 400),
    ("PUT", "/latest/api/token", {TTL: "21601"}, 400),
    ("PUT", "/latest/api/token", {TTL: "-1"}, 400),
    ("PUT", "/latest/api/token", {TTL: "1h"}, 400), ("PUT", ROLES, {TTL: "60"}, 405),
    ("PUT", "/latest/api/token", {TTL: "60", "X-Forwarded-For": "10.0.0.1"}, 403),
    ("POST", "/latest/api/token", {TTL: "60"}, 405), ("DELETE", ROLES, {}, 405)])
def test_imds_refuses(imds, method, path, headers, status):
    assert http(imds, method, path, headers).status == status


@pytest.mark.parametrize("ttl", [1, 21600])
def test_imds_takes_the_ends_of_the_ttl(imds, ttl):
    assert http(imds, "GET", ROLES, imds_token(imds, ttl)).status == 200


def test_imds_tokens_expire_and_can_be_invalidated(imds):
    token = imds_token(imds, 60)
    imds.clock_offset = 59
    assert http(imds, "GET", ROLES, token).status == 200
    imds.clock_offset = 61
    assert http(imds, "GET", ROLES, token).status == 401
    imds.clock_offset = 0
    assert http(imds, "GET", ROLES, {**token, "X-Forwarded-For": "10.0.0.1"}).status == 403
    imds.invalidate_tokens()
    assert http(imds, "GET", ROLES, token).status == 401


def test_imds_failures(imds):
    token = imds_token(imds)
    path = ROLES + "enclave-parent"

    def ask(kind, **how):
        imds.fault(kind, **how)
        return http(imds, "GET", path, token)
    assert ask("code").json["Code"] == "AssumeRoleUnauthorizedAccess"
    assert "AccessKeyId" not in ask("code", code="Failed").json
    assert ask("body", text='{"Code" : ').body == b'{"Code" : '
    assert len(ask("huge_body", size=1 << 20).body) == 1 << 20
    assert "Token" not in ask("fields", drop=["Token"]).json
    assert ask("fields", change={"SecretAccessKey": ""}).json["SecretAccessKey"] == ""
    assert ask("expired").json["Expiration"] < time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert ask("status", status=503).status == 503
    for status in (400, 403, 404, 500):
        imds.fault("status", status=status, action="PutToken")
        assert http(imds, "PUT", "/latest/api/token", {TTL: "60"}).status == status
    imds.fault("hang", action="PutToken")
    with pytest.raises(TimeoutError):
        http(imds, "PUT", "/latest/api/token", {TTL: "60"}, timeout=0.3)
    imds.role = None
    assert http(imds, "GET", ROLES, token).status == 404 and http(imds, "GET", path,
                                                                  token).status == 404
    imds.role = "../../../evil"
    assert http(imds, "GET", ROLES, token).body == b"../../../evil"
    assert http(imds, "GET", ROLES + "../../../evil", token).status == 200
    imds.stop()
    with pytest.raises(ConnectionRefusedError):
        http(imds, "GET", ROLES, token)
    imds.start()
    assert http(imds, "GET", ROLES, token).status == 200


def test_imds_rotation(imds):
    token, old = imds_token(imds), imds.credentials.current
    imds.rotate()
    found = http(imds, "GET", ROLES + imds.role, token).json
    assert found["AccessKeyId"] != old.access_key_id and found["Token"] != old.token
    imds.rotate_ahead = 600
    imds.credentials.expire_at(time.time() + 599)
    assert http(imds, "GET", ROLES + imds.role, token).json["AccessKeyId"] != found["AccessKeyId"]


# The container endpoint.

def test_container_credentials(monkeypatch, tmp_path):
    with LocalContainer() as container:
        assert http(container, "GET", "/v1/credentials").status == 401
        assert http(container, "GET", "/v1/credentials", {"Authorization": "x"}).status == 401
        assert http(container, "POST", "/v1/credentials",
                    {"Authorization": container.token}).status == 405
        assert http(container, "GET", "/v1/other", {"Authorization": container.token}).status == 404
        found = http(container, "GET", "/v1/credentials", {"Authorization": container.token}).json
        assert set(found) == {"AccessKeyId", "SecretAccessKey", "Token", "Expiration", "AccountId"}
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.credentials_url)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", container.token)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
                     "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        taken = boto3.session.Session().get_credentials()
        assert taken.access_key == container.credentials.current.access_key_id
        container.token = None
        assert http(container, "GET", "/v1/credentials").status == 200


# The bridge.

def test_bridge_half_close_record_and_pieces(tmp_path):
    path = str(tmp_path / "s.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    with Bridge(f"unix:{path}", piece=3, record=True) as bridge, \
            socket.create_connection(("127.0.0.1", bridge.port), timeout=10) as client:
        peer, _ = listener.accept()
        peer.settimeout(10)
        client.sendall(b"hello world")
        client.shutdown(socket.SHUT_WR)
        received = b""
        while data := peer.recv(100):
            received += data
        assert received == b"hello world"
        # Our half is closed; theirs still carries.
        peer.sendall(b"x" * 100000)
        peer.close()
        answered = b""
        while data := client.recv(65536):
            answered += data
        assert answered == b"x" * 100000
        bridge.wait(lambda: not bridge.passages[0].open)
        assert bridge.passages[0].sent == b"hello world"
        assert len(bridge.passages[0].received) == 100000
    listener.close()


def test_bridge_without_a_target(tmp_path):
    with Bridge(f"unix:{tmp_path}/none") as bridge:
        with socket.create_connection(("127.0.0.1", bridge.port), timeout=10) as client:
            assert client.recv(1) == b""
        bridge.wait(lambda: bridge.passages[0].failed)


def test_bridge_writes_pieces_one_at_a_time(tmp_path):
    # A datagram-like socket keeps the borders of what was sent.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    source, sink = socket.socketpair()
    bridge = Bridge("unix:/none", piece=4)
    source.sendall(b"0123456789")
    source.shutdown(socket.SHUT_WR)
    bridge._pump(sink, ours, bytearray())
    assert [theirs.recv(100) for _ in range(4)] == [b"0123", b"4567", b"89", b""]


# The programs.

@pytest.fixture
def program(tmp_path):
    """local_aws.py running, its folder and state."""
    folder = tmp_path / "aws"
    with subprocess.Popen([str(LIB / "local_aws.py"), "--dir", str(folder), "--attestation",
                           "--bridge", "127.0.0.1:0=unix:/none"], stdout=subprocess.PIPE,
                           text=True) as process:
        lines = [process.stdout.readline() for _ in range(3)]
        try:
            yield folder, json.loads((folder / "state.json").read_text()), lines
        finally:
            process.terminate()
            assert process.wait(30) == 0


def test_program(program):
    folder, state, lines = program
    assert lines == [f"{name} {state[name]['url']}\n" for name in ("kms", "imds", "container")]
    assert int((folder / "kms.port").read_text()) == state["kms"]["port"]
    assert state["kms"]["keys"][0]["arn"] == ARN and state["bridges"][0]["to"] == "/none"
    store = CredentialStore(folder / "credentials.json")
    ca = (folder / "ca.pem").read_bytes()
    enclave = Enclave(attestation.AttestationAuthority.load(folder / "attestation"))

    def ask(action, params=None):
        with Client(("127.0.0.1", state["kms"]["port"]), ca=ca, server_name=HOST) as client:
            return client.ask(sign(store.current, REGION, action, params, host=HOST))
    answer = ask("GenerateRandom", {"NumberOfBytes": 8, "Recipient": enclave.recipient()})
    assert len(enclave.open(answer.json)) == 8
    other = ask("GenerateRandom", {"NumberOfBytes": 8, "Recipient": Enclave().recipient()})
    assert other.error == "ValidationException"
    with Control(folder) as control:
        control.ask({"fault": {"kind": "throttle", "action": "ListKeys"}})
        assert ask("ListKeys").error == "ThrottlingException" and ask("ListKeys").status == 200
        last = control.ask({"requests": {"since": 2}})
        assert [r["verdict"] for r in last["requests"]] == ["ThrottlingException",
                                                            "ok"] and last["last"] == 4
        old = store.current
        fresh = control.ask({"rotate": {"revoke_old": True}})["access_key_id"]
        assert store.current.access_key_id == fresh != old.access_key_id
        assert ask("ListKeys").status == 200
        control.ask({"to": "imds", "set": {"role": None}})
        assert control.ask({"to": "imds", "state": True})["role"] is None
        made = control.ask({"ciphertext": {"key": KEY, "plaintext": B64,
                                           "size": 6144}})["ciphertext"]
        assert base64.b64decode(ask("Decrypt", {"CiphertextBlob": made}).json["Plaintext"]) == b"x"
        control.ask({"stop": True})
        with pytest.raises(ConnectionRefusedError):
            ask("ListKeys")
        control.ask({"start": True})
        assert control.ask({"clear": True}) == {"cleared": 0}
        for wrong in ({"fault": {"kind": "nothing"}}, {"jump": True}, {"set": {"keys": 1}},
                      {"to": "x", "clear": True}):
            with pytest.raises(ValueError):
                control.ask(wrong)


def test_control_program(program):
    folder, _, _ = program
    done = subprocess.run([str(LIB / "control.py"), str(folder), '{"fault": {"kind": "hang"}}'],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and json.loads(done.stdout) == {"id": 1}
    done = subprocess.run([str(LIB / "control.py"), str(folder), '{"fault": {"kind": "hong"}}'],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "no fault 'hong'" in done.stderr


def test_separate_programs_share_credentials(tmp_path):
    shared = tmp_path / "credentials.json"
    with subprocess.Popen([str(LIB / "local_imds.py"), "--dir", str(tmp_path / "imds"),
                           "--credentials",
                           str(shared)], stdout=subprocess.PIPE, text=True) as process:
        try:
            process.stdout.readline()
            with LocalKms(CredentialStore(shared)) as kms, Control(tmp_path / "imds") as control:
                for _ in range(2):
                    current = CredentialStore(shared).current
                    assert call(kms, "ListKeys", credentials=current).status == 200
                    control.ask({"rotate": True})
        finally:
            process.terminate()
    assert process.returncode == 0


def test_enclave_program(program, tmp_path):
    # It speaks plain HTTP, as to the proxy: a stand-in that signs for it is a few lines.
    folder, state, _ = program
    store, ca = CredentialStore(folder / "credentials.json"), (folder / "ca.pem").read_bytes()
    listener = socket.create_server(("127.0.0.1", 0))
    process = subprocess.Popen(
        [str(LIB / "enclave.py"), "--connect", f"127.0.0.1:{listener.getsockname()[1]}",
         "--attestation",
         str(folder / "attestation"), "GenerateRandom", '{"NumberOfBytes": 5}'],
         stdout=subprocess.PIPE)
    client, _ = listener.accept()
    with client, listener:
        asked = b""
        while b"\r\n\r\n" not in asked or not asked.endswith(b"}}"):
            asked += client.recv(65536)
        assert b"Authorization" not in asked
        with Client(("127.0.0.1", state["kms"]["port"]), ca=ca, server_name=HOST) as upstream:
            upstream.send(sign(store.current, REGION, "GenerateRandom", host=HOST,
                               body=asked.split(b"\r\n\r\n")[1]))
            answer = upstream.read()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer.body)
        client.sendall(head + answer.body)
        shown = json.loads(process.communicate(timeout=30)[0])
    assert shown["status"] == 200 and len(base64.b64decode(shown["opened"])) == 5
