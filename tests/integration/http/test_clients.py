# SPDX-License-Identifier: Apache-2.0
"""Clients as authors of enclaves use them, over a bridge from TCP to the daemon's socket."""

import base64
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess

import boto3
import botocore
import botocore.config
import botocore.exceptions
import pytest

import npm
from daemon import DEADLINE, wait_for
from daemon.help import add_enclave, allow, KEY, limits, record_of
from kms.client import request
from standins import Bridge, Client, Enclave, LocalKms

AWS = "/usr/bin/aws"        # Debian's, whatever else is on PATH
REGION = "eu-central-1"
CALLS = pathlib.Path(__file__).with_name("aws_sdk_calls.cjs")
JAVA_CALLS = CALLS.with_name("JavaCalls.java")
LWP_CALLS = CALLS.with_name("lwp_calls.pl")
HTTP2_CALL = CALLS.with_name("http2_call.cjs")
DUMMY = {"AWS_ACCESS_KEY_ID": "dummy", "AWS_SECRET_ACCESS_KEY": "dummy"}


@pytest.fixture(scope="module")
def enclave():
    return Enclave()


@pytest.fixture
def kms(enclave):
    with LocalKms(attestation_root=enclave.authority.root) as service:
        yield service


@pytest.fixture
def bridge(daemon):
    """Started when the daemon is; the tests use its url."""
    with Bridge(daemon.socket_path()) as found:
        yield found


def boto(bridge, unsigned=False, **config):
    """A client of boto3 as in an enclave: it knows no credentials."""
    if unsigned:
        config["signature_version"] = botocore.UNSIGNED
    config.setdefault("retries", {"mode": "standard", "total_max_attempts": 5})
    config.setdefault("read_timeout", DEADLINE)
    return boto3.client(
        "kms", region_name=REGION, endpoint_url=bridge.url, config=botocore.config.Config(**config),
        aws_access_key_id="dummy", aws_secret_access_key="dummy", aws_session_token="dummy")


def run(command, **how):
    how.setdefault("timeout", 4 * DEADLINE)
    environment = {n: v for n, v in os.environ.items() if not n.startswith("AWS_")}
    environment.update(how.pop("environment", {}), AWS_EC2_METADATA_DISABLED="true", LC_ALL="C.UTF-8")
    return subprocess.run(command, capture_output=True, text=True, env=environment, **how)


# awscli.

def awscli(bridge, *arguments, unsigned=False):
    """(exit status, parsed answer, stderr)"""
    found = run([AWS, "kms", *arguments, "--endpoint-url", bridge.url, "--region", REGION, "--output", "json",
                 *(["--no-sign-request"] if unsigned else [])], environment={} if unsigned else DUMMY)
    return found.returncode, json.loads(found.stdout or "null"), found.stderr


def test_awscli_encrypts_and_decrypts(daemon, bridge, tmp_path):
    with daemon:
        status, sealed, error = awscli(bridge, "encrypt", "--key-id", KEY, "--plaintext",
                                       base64.b64encode(b"secret").decode(), "--encryption-context", "app=a")
        assert status == 0, error
        (tmp_path / "blob").write_bytes(base64.b64decode(sealed["CiphertextBlob"]))
        status, opened, error = awscli(bridge, "decrypt", "--key-id", KEY, "--ciphertext-blob",
                                       f"fileb://{tmp_path}/blob", "--encryption-context", "app=a", unsigned=True)
        assert status == 0, error
        assert base64.b64decode(opened["Plaintext"]) == b"secret"
        daemon.record(REASON="allowed", count=2)


def test_awscli_shows_a_refusal_and_does_not_repeat_it(daemon, kms, bridge):
    with daemon:
        status, _, error = awscli(bridge, "list-keys")
        assert status != 0 and "AccessDeniedException" in error and "ListKeys" in error
        assert len(bridge.passages) == 1
    assert len(daemon.records(VERDICT="refuse")) == 1
    assert not kms.requests


# boto3.

@pytest.mark.parametrize("unsigned", [False, True])
def test_boto3_encrypts_and_decrypts(daemon, kms, bridge, unsigned):
    with daemon:
        client = boto(bridge, unsigned)
        sealed = client.encrypt(KeyId=KEY, Plaintext=b"secret", EncryptionContext={"app": "a"})
        opened = client.decrypt(KeyId=KEY, CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext={"app": "a"})
        assert opened["Plaintext"] == b"secret"
        assert client.describe_key(KeyId=KEY)["KeyMetadata"]["CreationDate"]
        daemon.record(REASON="allowed", count=3)
    assert len(bridge.passages) == 1
    assert all(r.access_key_id.startswith("ASIA") for r in kms.requests)


def test_boto3_repeats_what_the_daemon_throttles_on_the_same_connection(daemon, bridge):
    limits(daemon, requests="2/s", burst=1)
    with daemon:
        client = boto(bridge, retries={"mode": "standard", "total_max_attempts": 10})
        for _ in range(2):
            assert client.describe_key(KeyId=KEY)["KeyMetadata"]
        assert len(bridge.passages) == 1
    assert daemon.records(REASON="rate")


def test_boto3_repeats_what_kms_throttles_on_the_same_connection(daemon, kms, bridge):
    kms.fault("throttle", count=2)
    with daemon:
        found = boto(bridge).describe_key(KeyId=KEY)
        assert found["ResponseMetadata"]["RetryAttempts"] == 2
        assert len(bridge.passages) == 1
    assert [r.verdict for r in kms.requests] == ["ThrottlingException"] * 2 + ["ok"]


@pytest.mark.parametrize("of_kms", [False, True])
def test_boto3_does_not_repeat_what_is_denied(daemon, kms, bridge, of_kms):
    if of_kms:
        kms.fault("access_denied", count=None)
    with daemon:
        client = boto(bridge)
        with pytest.raises(botocore.exceptions.ClientError) as raised:
            client.describe_key(KeyId=KEY) if of_kms else client.list_keys()
        response = raised.value.response
        assert response["Error"]["Code"] == "AccessDeniedException"
        assert response["ResponseMetadata"]["RetryAttempts"] == 0
        if not of_kms:
            assert "no rule allows action ListKeys" in response["Error"]["Message"]
            assert daemon.record(REASON="action")["REQUEST_ID"] == response["ResponseMetadata"]["RequestId"]
    assert len(daemon.records(KMS_ACTION="DescribeKey" if of_kms else "ListKeys")) == 1
    assert len(kms.requests) == int(of_kms)


def test_boto3_repeats_503_until_kms_is_there(daemon, kms, bridge):
    kms.stop()
    with daemon, concurrent.futures.ThreadPoolExecutor() as pool:
        client = boto(bridge, retries={"mode": "standard", "total_max_attempts": 15})
        asked = pool.submit(client.describe_key, KeyId=KEY)
        daemon.record(REASON="no-upstream")
        kms.start()
        found = asked.result(2 * DEADLINE)
        assert found["KeyMetadata"] and found["ResponseMetadata"]["RetryAttempts"] >= 1
        assert len(bridge.passages) == 1


def test_boto3_repeats_503_until_there_are_credentials(daemon, imds, bridge):
    imds.role = None
    daemon.start(wait=True)
    with daemon, concurrent.futures.ThreadPoolExecutor() as pool:
        client = boto(bridge, retries={"mode": "standard", "total_max_attempts": 15})
        asked = pool.submit(client.describe_key, KeyId=KEY)
        daemon.record(REASON="no-credentials")
        imds.role = "enclave-parent"
        assert asked.result(4 * DEADLINE)["KeyMetadata"]


def test_parallel_calls_of_boto3_get_their_own_answers(daemon, bridge):
    def one(number):
        client_plain = f"secret {number}".encode()
        sealed = client.encrypt(KeyId=KEY, Plaintext=client_plain)["CiphertextBlob"]
        return client.decrypt(KeyId=KEY, CiphertextBlob=sealed)["Plaintext"] == client_plain

    with daemon:
        client = boto(bridge, max_pool_connections=16)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            assert all(pool.map(one, range(100)))
        assert len(bridge.passages) <= 16


def test_hundreds_of_calls_of_boto3_share_one_connection(daemon, kms, bridge):
    with daemon:
        client = boto(bridge)
        for _ in range(200):
            client.describe_key(KeyId=KEY)
        assert len(bridge.passages) == 1
        assert len({r.connection for r in kms.requests}) == 1


def test_the_largest_ciphertext(daemon, kms, bridge):
    plain = os.urandom(4096)
    blob = kms.make_ciphertext(KEY, plain, size=6144)
    assert len(blob) == 6144
    with daemon:
        assert boto(bridge).decrypt(KeyId=KEY, CiphertextBlob=blob)["Plaintext"] == plain


# The largest attestation document. Debian's botocore knows no Recipient.

def recipient_of(enclave, size):
    found = enclave.recipient(size=size)
    assert len(base64.b64decode(found["AttestationDocument"])) == size
    return found


def sealed_rule(daemon):
    rule = daemon.config["enclaves"]["payments"]["allow"][0]
    rule.update(plaintext="refuse", actions=["Decrypt", "GenerateDataKey"])


def test_the_largest_attestation_document(daemon, kms, bridge, enclave):
    sealed_rule(daemon)
    recipient = recipient_of(enclave, 262144)
    assert len(recipient["AttestationDocument"]) == 349528
    blob = kms.make_ciphertext(KEY, b"secret", size=6144)
    with daemon, Client(("127.0.0.1", bridge.port)) as client:
        answer = client.ask(request("Decrypt", {"KeyId": KEY, "CiphertextBlob": blob, "Recipient": recipient}))
        assert answer.status == 200, answer
        assert enclave.open(answer.json) == b"secret"
        assert record_of(daemon, answer)["RECIPIENT"] == "present"
        asked = kms.requests[-1]
        assert asked.json["Recipient"] == recipient
        # one byte more than KMS takes is refused here
        recipient["AttestationDocument"] = base64.b64encode(bytes(262145)).decode()
        answer = client.ask(request("Decrypt", {"KeyId": KEY, "CiphertextBlob": blob, "Recipient": recipient}))
        assert answer.error == "AccessDeniedException"
        assert record_of(daemon, answer)["REASON"] == "recipient"


# The SDK for JavaScript.

@pytest.fixture(scope="session")
def node_modules():
    """The folder where the SDK is installed, once for all runs."""
    return npm.installed(npm.SDK)


def sdk(node_modules, bridge, *calls, **how):
    found = run(["node", CALLS, bridge.url], input=json.dumps({"calls": calls, **how}),
                environment={"NODE_PATH": str(node_modules)})
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def encoded(data):
    return {"base64": base64.b64encode(data).decode()}


def decoded(value):
    return base64.b64decode(value["base64"])


@pytest.mark.parametrize("unsigned", [False, True])
def test_javascript_encrypts_is_refused_and_throttled(daemon, kms, bridge, node_modules, unsigned):
    kms.fault("throttle", action="DescribeKey")
    with daemon:
        sealed, denied, described = sdk(
            node_modules, bridge, ["Encrypt", {"KeyId": KEY, "Plaintext": encoded(b"secret")}],
            ["ListKeys", {}], ["DescribeKey", {"KeyId": KEY}], unsigned=unsigned)
        opened, = sdk(node_modules, bridge, ["Decrypt", {"KeyId": KEY, "CiphertextBlob": sealed["answer"]["CiphertextBlob"]}])
        assert decoded(opened["answer"]["Plaintext"]) == b"secret"
        assert denied == {"error": "AccessDeniedException", "attempts": 1}
        assert described["attempts"] == 2 and described["answer"]["KeyMetadata"]
        assert len(bridge.passages) == 2    # one of each process
    assert len(daemon.records(KMS_ACTION="ListKeys")) == 1


def test_javascript_with_a_recipient_in_parallel(daemon, kms, bridge, node_modules, enclave):
    sealed_rule(daemon)
    plain = [f"secret {n}".encode() for n in range(12)]
    recipient = recipient_of(enclave, 262144)
    recipient["AttestationDocument"] = {"base64": recipient["AttestationDocument"]}
    calls = [["Decrypt", {"KeyId": KEY, "CiphertextBlob": encoded(kms.make_ciphertext(KEY, p, size=6144)),
                          "Recipient": recipient}] for p in plain]
    with daemon:
        results = sdk(node_modules, bridge, *calls, parallel=True)
        opened = [enclave.open({"CiphertextForRecipient": decoded(r["answer"]["CiphertextForRecipient"])})
                  for r in results]
        assert opened == plain
        # an SDK that knows Recipient and sends none
        denied, = sdk(node_modules, bridge, ["GenerateDataKey", {"KeyId": KEY, "KeySpec": "AES_256"}])
        assert denied["error"] == "AccessDeniedException"


def test_javascript_repeats_503_until_kms_is_there(daemon, kms, bridge, node_modules):
    kms.stop()
    with daemon, concurrent.futures.ThreadPoolExecutor() as pool:
        asked = pool.submit(sdk, node_modules, bridge, ["DescribeKey", {"KeyId": KEY}], attempts=20)
        daemon.record(REASON="no-upstream")
        kms.start()
        found, = asked.result(4 * DEADLINE)
        assert found["answer"]["KeyMetadata"] and found["attempts"] > 1


# curl.

def curl(*arguments, **how):
    return run(["curl", "--silent", "--show-error", "--max-time", str(DEADLINE), *arguments], **how)


HEADERS = ["-H", "Content-Type: application/x-amz-json-1.1", "-H", "X-Amz-Target: TrentService.DescribeKey"]
BODY = json.dumps({"KeyId": KEY})


def test_curl_over_the_socket_and_the_bridge(daemon, bridge):
    with daemon:
        for where in (["--unix-socket", daemon.socket_path(), "http://localhost/"], [bridge.url]):
            found = curl(*HEADERS, "-d", BODY, *where)
            assert json.loads(found.stdout)["KeyMetadata"], found
        # two on one connection; signed by curl itself; one that waits for 100 Continue
        found = curl(*HEADERS, "-d", BODY, "-w", "%{num_connects}", bridge.url, "-o", os.devnull,
                     bridge.url, "-o", os.devnull)
        assert found.stdout == "10"
        found = curl(*HEADERS, "-d", BODY, "--aws-sigv4", "aws:amz:eu-central-1:kms", "--user", "a:b", bridge.url)
        assert json.loads(found.stdout)["KeyMetadata"]
        found = curl(*HEADERS, "-H", "Expect: 100-continue", "-d", BODY, "-D-", bridge.url)
        assert found.stdout.startswith("HTTP/1.1 100 Continue") and "KeyMetadata" in found.stdout


@pytest.mark.parametrize("sent, status", [
    (["-T", "-", "-X", "POST"], "400"),                          # chunked
    (["-d", BODY, "--http1.0"], "400"), (["-G"], "400"), (["-d", BODY, "--path-as-is", "/.."], "400"),
    (["-d", BODY, "-H", "Host: evil.example.com"], "400"),
    (["--data-binary", "@-"], "413"),                            # with Expect: 100-continue
], ids=["chunked", "http-1.0", "get", "path", "host", "large"])
def test_what_curl_is_refused(daemon, kms, bridge, sent, status):
    url = bridge.url + (sent.pop() if sent[-1] == "/.." else "")
    with daemon:
        found = curl(*HEADERS, *sent, "-o", os.devnull, "-w", "%{http_code}", url, input=" " * (1100 << 10))
        assert found.stdout == status, found
    assert len(daemon.records(VERDICT="refuse")) == 1
    assert not kms.requests


# HTTP clients that are no SDK, as they are by default, on one connection each.

def java(url, _):
    return run(["java", JAVA_CALLS, url, BODY, BODY])


def lwp(url, _):
    return run(["perl", LWP_CALLS, url, "1", BODY, BODY])


def curl_http2(url, _):
    return curl("--http2", *HEADERS, "-d", BODY, "-w", r"\n", url, url)


def curl_proxy(url, host):
    """The proxy knows the endpoint by its name, and as itself."""
    return curl("--proxy", url, "--noproxy", "", "-H", 'Content-Type: application/x-amz-json-1.1;charset="UTF-8"',
                *HEADERS[2:], "-d", BODY, "-w", r"\n", f"http://{host}:80/", url)


CLIENTS = {
    # the program, how it asks twice, what it sends that others don't
    "java": ("java", java, [b"Upgrade: h2c", b"HTTP2-Settings: ", b"Connection: Upgrade, HTTP2-Settings", b"; charset=utf-8"]),
    "lwp": ("perl", lwp, [b"TE: deflate,gzip;q=0.3", b"Connection: TE", b"Connection: Keep-Alive, TE"]),
    "curl-http2": ("curl", curl_http2, [b"Upgrade: h2c", b"HTTP2-Settings: ", b"Connection: Upgrade, HTTP2-Settings"]),
    "curl-proxy": ("curl", curl_proxy, [b"POST http://kms.", b"POST http://127.0.0.1:", b'charset="UTF-8"']),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_two_requests_of_a_real_client_on_one_connection(daemon, kms, name):
    program, ask, sent = CLIENTS[name]
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    with daemon, Bridge(daemon.socket_path(), record=True) as bridge:
        found = ask(bridge.url, next(iter(kms.hosts)))
        answers = found.stdout.splitlines()
        assert ['"KeyMetadata"' in a for a in answers] == [True, True], found
        passage, = bridge.passages
        assert [text for text in sent if text not in passage.sent] == []
        daemon.record(REASON="allowed", count=2)
        for asked in kms.requests:
            names = {n.lower() for n, _ in asked.headers}
            assert not names & {"upgrade", "http2-settings", "te", "connection"}, names
            assert asked.header("Content-Type") == "application/x-amz-json-1.1"
    assert len(kms.requests) == 2


def test_lwp_without_keep_alive(daemon, bridge):
    with daemon:
        found = run(["perl", LWP_CALLS, bridge.url, "0", BODY, BODY])
        assert ['"KeyMetadata"' in a for a in found.stdout.splitlines()] == [True, True], found
        assert len(bridge.passages) == 2


def test_urllib_by_its_proxy_variable(daemon, kms):
    """It leaves the path of the target empty."""
    code = ("import sys, urllib.request as u; print(u.urlopen(u.Request(sys.argv[1], sys.argv[2].encode(), "
            "{'Content-Type': 'application/x-amz-json-1.1', 'X-Amz-Target': 'TrentService.DescribeKey'})).read())")
    host = next(iter(kms.hosts))
    with daemon, Bridge(daemon.socket_path(), record=True) as bridge:
        found = run(["/usr/bin/python3", "-c", code, f"http://{host}", BODY],
                    environment={"http_proxy": bridge.url, "no_proxy": ""})
        assert "KeyMetadata" in found.stdout, found
        assert bridge.passages[0].sent.startswith(f"POST http://{host} HTTP/1.1\r\n".encode())


# Clients that take HTTP/2 for granted.

def test_curl_with_prior_knowledge_of_http2(daemon, kms, bridge):
    with daemon:
        found = curl("--http2-prior-knowledge", *HEADERS, "-d", BODY, bridge.url)
        assert found.returncode != 0 and found.stderr, found
        record = daemon.record(REASON="http2")
        assert record["VERDICT"] == "refuse" and "HTTP/1.1" in record["MESSAGE"]
    assert not kms.requests


def test_what_a_client_of_http2_is_told(daemon, kms, bridge):
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    with daemon:
        found = run(["node", HTTP2_CALL, bridge.url])
        told = json.loads(found.stdout)
        assert told["code"] == 13       # HTTP_1_1_REQUIRED, RFC 9113 7
        assert "HTTP/1.1" in told["text"]
        daemon.record(REASON="http2")
    assert not kms.requests


# Two enclaves at once.

def test_each_enclave_has_its_own_bridge_and_policy(daemon, bridge):
    other = add_enclave(daemon, allow=[
        {"name": "list", "actions": ["ListKeys"], "keys": "any"}])
    allow(daemon, "ListAliases")
    with daemon, Bridge(daemon.socket_path(other)) as second:
        assert boto(second).list_keys()["Keys"]
        assert boto(bridge).describe_key(KeyId=KEY)["KeyMetadata"]
        for client, call in ((boto(second), "describe_key"), (boto(bridge), "list_keys")):
            with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
                getattr(client, call)(**({"KeyId": KEY} if call == "describe_key" else {}))
        wait_for(lambda: len(daemon.records(VERDICT="refuse")) == 2)
        assert {r["ENCLAVE"] for r in daemon.records(VERDICT="refuse")} == {"payments", other}
