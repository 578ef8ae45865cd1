# SPDX-License-Identifier: Apache-2.0
"""What each enclave may ask of KMS, and which replies it may get, through the real daemon."""

import base64
import json
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from daemon import Daemon, program
from daemon.help import ARN, KEY, KEY_ID, record_of
from kms import faults as kms_faults
from kms.client import request
from nitro.attestation import spki
from standins import Enclave, LocalImds, LocalKms

HOST_EU, HOST_US = "kms.eu-central-1.amazonaws.com", "kms.us-east-1.amazonaws.com"
ARN_US = ARN.replace("eu-central-1", "us-east-1")
ALIAS_ARN = "arn:aws:kms:eu-central-1:111122223333:alias/payments"
OTHER_ARN = ARN.replace(KEY_ID, "aaaabbbb-cccc-4ddd-8eee-ffff00001111")
ECDH = "00000004-0000-4000-8000-000000000004"
CONTEXT = {"app": "payments", "stage": "test"}
SECRET = b"the secret that must not pass in clear"


def rule(name, actions, keys="any", **how):
    return {"name": name, "actions": actions, "keys": keys, **how}


ENCLAVES = {
    # Its own secrets, sealed to it; everything by names of one region.
    "sealed": {"endpoints": ["eu"], "allow": [
        rule("unwrap", ["Decrypt", "GenerateDataKey", "GenerateDataKeyPair"],
             [ARN, KEY], encryption_context={"app": "payments", "stage": ["test", "production"]}),
        rule("agree", ["DeriveSharedSecret"], [ECDH]),
        rule("random", ["GenerateRandom"]),
        rule("wrap", ["Encrypt"], [ARN]),
    ]},
    # The same in clear, and ReEncrypt.
    "clear": {"endpoints": ["eu"], "allow": [
        rule("all", ["Decrypt", "GenerateDataKey", "GenerateDataKeyPair", "DescribeKey", "Encrypt"],
             [ARN, KEY], plaintext="allow"),
        rule("rewrap", ["ReEncrypt"], [KEY_ID], encryption_context={"app": "payments"}),
        rule("derive", ["DeriveSharedSecret"], [ECDH], plaintext="allow"),
        rule("random", ["GenerateRandom"], plaintext="allow"),
        rule("aliases", ["CreateAlias", "DeleteAlias"], [KEY_ID, "alias/mine"]),
        rule("retire", ["RetireGrant"], [KEY_ID]),
    ]},
    # Two regions.
    "two": {"endpoints": ["eu", "us"], "allow": [
        rule("eu-only", ["DescribeKey"], [ARN], endpoints=["eu"]),
        rule("us-random", ["GenerateRandom"], endpoints=["us"], plaintext="allow"),
        rule("both", ["Encrypt"], [ARN, ARN_US]),
    ]},
    "nothing": {"endpoints": ["eu"], "tunnel": {"hosts": ["kms.eu-central-1.amazonaws.com:443"]}},
}


@pytest.fixture(scope="module")
def enclave():
    return Enclave()


@pytest.fixture(scope="module")
def shared_kms(enclave):
    with LocalKms(regions=("eu-central-1", "us-east-1"), attestation_root=enclave.authority.root) as kms:
        kms.keys.add(id=KEY_ID, region="us-east-1")
        yield kms


@pytest.fixture(scope="module")
def proxy(shared_kms, tmp_path_factory):
    """A daemon for all of the file."""
    with LocalImds(shared_kms.credentials) as imds:
        daemon = Daemon(tmp_path_factory.mktemp("policy"), shared_kms, imds)
        endpoint = daemon.config["endpoints"].pop("kms")
        daemon.config["endpoints"] = {
            "eu": {**endpoint, "host": HOST_EU, "region": "eu-central-1"},
            "us": {**endpoint, "host": HOST_US, "region": "us-east-1"},
            "far": {**endpoint, "host": "kms.eu-west-1.amazonaws.com", "region": "eu-west-1"}}
        daemon.config["limits"] = {"requests": "1000/s", "burst": 10000}
        daemon.config["listen"], daemon.config["enclaves"] = [], {}
        # Many of each: only so many refusals of one enclave are recorded at once.
        for name, what in ENCLAVES.items():
            for number in range(6):
                one = f"{name}-{number}"
                daemon.config["listen"].append(
                    {"unix": str(daemon.folder / f"{one}.sock"), "enclave": one})
                daemon.config["enclaves"][one] = what
        daemon.turn = 0
        with daemon:
            yield daemon


@pytest.fixture
def kms(shared_kms):
    shared_kms.forget_requests()
    yield shared_kms
    shared_kms.clear()


def ask(proxy, name, action, params, **how):
    """(answer, record) of one request of an enclave."""
    proxy.turn += 1
    with proxy.client(f"{name}-{proxy.turn % 6}") as client:
        answer = client.ask(request(action, params, **how))
    return answer, record_of(proxy, answer)


# Host picks the endpoint.

@pytest.mark.parametrize("host, endpoint", [
    ("127.0.0.1:8000", "eu"), ("localhost:8000", "eu"), ("LocalHost", "eu"), ("[::1]:1", "eu"),
    ("169.254.169.254", "eu"), (HOST_EU, "eu"), (HOST_EU + ":443", "eu"), (HOST_US, "us"),
    (HOST_US.upper(), "us"), (HOST_US + ":8000", "us")])
def test_host_picks_an_endpoint_of_the_enclave(proxy, kms, host, endpoint):
    arn = ARN if endpoint == "eu" else ARN_US
    answer, record = ask(proxy, "two", "Encrypt", {"KeyId": arn, "Plaintext": b"x"}, host=host)
    assert answer.status == 200
    assert (record["ENDPOINT"], record["RULE"]) == (endpoint, "both")
    # It is the endpoint's own name that is sent and signed, whatever the client called it.
    assert kms.requests[-1].header("Host") == (HOST_EU if endpoint == "eu" else HOST_US)


@pytest.mark.parametrize("host", [
    "kms.eu-west-1.amazonaws.com",      # an endpoint, but not of this enclave
    "kms.ap-south-1.amazonaws.com", "example.com", "localhost.example.com", "localhostx",
    HOST_EU + ".example.com", "x" + HOST_EU, "sts.eu-central-1.amazonaws.com"])
def test_any_other_name_is_refused(proxy, kms, host):
    answer, record = ask(proxy, "two", "Encrypt", {"KeyId": ARN, "Plaintext": b"x"}, host=host)
    assert (answer.status, answer.error) == (400, "AccessDeniedException")
    assert (record["REASON"], record["VERDICT"]) == ("host", "refuse")
    assert host in record["MESSAGE"]
    assert not kms.requests


def test_the_refusal_of_a_name_says_which_there_are(proxy, kms):
    answer, record = ask(proxy, "two", "Encrypt", {"KeyId": ARN, "Plaintext": b"x"}, host="kms.eu-west-1.amazonaws.com")
    said = f"is no endpoint of enclave {record['ENCLAVE']}; it has {HOST_EU}, {HOST_US}"
    assert said in record["MESSAGE"] and said in json.loads(answer.body)["message"]


def test_the_refusal_of_a_name_says_as_many_as_fit(daemon, kms):
    endpoint, rules = daemon.config["endpoints"].pop("kms"), daemon.config["enclaves"]["payments"]["allow"]
    hosts = [f"{'x' * 50}-{n}.kms.example" for n in range(9)]
    daemon.config["endpoints"] = {f"e{n}": {**endpoint, "host": host} for n, host in enumerate(hosts)}
    daemon.config["enclaves"] = {
        "payments": {"endpoints": [f"e{n}" for n in range(9)], "allow": rules},
        "tunnel": {"tunnel": {"hosts": ["host.example:443"]}}}
    daemon.config["listen"].append({"unix": str(daemon.folder / "tunnel.sock"), "enclave": "tunnel"})
    with daemon:
        for name, host, said in (
                ("payments", "other.example", f"; it has {hosts[0]}, {hosts[1]} and 7 more"),
                ("payments", "y" * 60 + ".example", f"; it has {hosts[0]} and 8 more"),
                ("tunnel", "other.example", ", which has none")):
            with daemon.client(name) as client:
                answer = client.ask(request("Encrypt", {"KeyId": ARN, "Plaintext": b"x"}, host=host))
            message = json.loads(answer.body)["message"]
            assert message.endswith(f"Host {host} is no endpoint of enclave {name}{said}"), message


def test_the_enclave_of_one_region_does_not_reach_the_other(proxy, kms):
    answer, record = ask(proxy, "clear", "GenerateRandom", {"NumberOfBytes": 1}, host=HOST_US)
    assert (answer.error, record["REASON"]) == ("AccessDeniedException", "host")
    assert not kms.requests


# Rules.

ALLOWED = [
    # enclave, action, params, rule, Host
    ("clear", "DescribeKey", {"KeyId": ARN}, "all", HOST_EU),
    ("clear", "DescribeKey", {"KeyId": KEY_ID}, "all", HOST_EU),   # the id of a listed ARN
    ("clear", "DescribeKey", {"KeyId": KEY}, "all", HOST_EU),      # byte for byte
    ("clear", "Encrypt", {"KeyId": KEY, "Plaintext": SECRET, "EncryptionContext": CONTEXT}, "all", HOST_EU),
    ("clear", "GenerateRandom", {"NumberOfBytes": 7}, "random", HOST_EU),
    ("clear", "CreateAlias", {"AliasName": "alias/mine", "TargetKeyId": KEY_ID}, "aliases", HOST_EU),
    ("clear", "DeleteAlias", {"AliasName": "alias/mine"}, "aliases", HOST_EU),
    ("sealed", "Encrypt", {"KeyId": KEY_ID, "Plaintext": SECRET}, "wrap", HOST_EU),
    ("two", "DescribeKey", {"KeyId": ARN}, "eu-only", HOST_EU),
    ("two", "Encrypt", {"KeyId": KEY_ID, "Plaintext": SECRET}, "both", HOST_US),
    ("two", "GenerateRandom", {"NumberOfBytes": 7}, "us-random", HOST_US),
]


@pytest.mark.parametrize("name, action, params, rule, host", ALLOWED)
def test_what_a_rule_allows_reaches_kms_as_it_was(proxy, kms, name, action, params, rule, host):
    answer, record = ask(proxy, name, action, params, host=host)
    assert answer.status == 200, answer
    assert (record["VERDICT"], record["RULE"], record["REASON"]) == ("allow", rule, "allowed")
    asked, = kms.requests
    assert (asked.verdict, asked.action) == ("ok", action)
    sent = request(action, params).partition(b"\r\n\r\n")[2]
    assert json.loads(asked.body) == json.loads(sent)
    assert record.get("KMS_KEY", "") == ",".join(
        params[n] for n in ("AliasName", "TargetKeyId", "KeyId") if n in params)


BLOB = base64.b64encode(b"a ciphertext that nobody looks at").decode()
REFUSED = [
    # enclave, action, params, reason, rule, Host
    ("clear", "ScheduleKeyDeletion", {"KeyId": ARN}, "action", None, HOST_EU),
    ("clear", "Sign", {"KeyId": ARN, "Message": "eA==", "SigningAlgorithm": "ECDSA_SHA_256"},
     "action", None, HOST_EU),
    ("clear", "DescribeKey", {"KeyId": OTHER_ARN}, "key", "all", HOST_EU),
    ("clear", "DescribeKey", {"KeyId": ARN_US}, "key", "all", HOST_EU),
    ("clear", "DescribeKey", {"KeyId": ARN.replace("1111", "2222", 1)}, "key", "all", HOST_EU),
    ("clear", "DescribeKey", {"KeyId": "alias/other"}, "key", "all", HOST_EU),
    ("clear", "DescribeKey", {"KeyId": ALIAS_ARN}, "key", "all", HOST_EU),     # not a listed form
    ("clear", "DescribeKey", {"KeyId": KEY_ID.upper()}, "key", "all", HOST_EU),
    ("clear", "DescribeKey", {"KeyId": ARN + " "}, "key", "all", HOST_EU),
    ("clear", "DescribeKey", {"KeyId": ARN + "\u0000"}, "key", "all", HOST_EU),
    ("clear", "DescribeKey", {"KeyId": "Alias/payments"}, "key", "all", HOST_EU),
    ("clear", "Decrypt", {"CiphertextBlob": BLOB}, "key", "all", HOST_EU),     # KMS would take it
    ("clear", "CreateAlias", {"AliasName": "alias/other", "TargetKeyId": KEY_ID}, "key", "aliases", HOST_EU),
    ("clear", "CreateAlias", {"AliasName": "alias/mine", "TargetKeyId": OTHER_ARN}, "key", "aliases", HOST_EU),
    ("clear", "ReEncrypt", {"SourceKeyId": KEY_ID, "DestinationKeyId": OTHER_ARN, "CiphertextBlob": BLOB},
     "key", "rewrap", HOST_EU),
    ("clear", "ReEncrypt", {"DestinationKeyId": KEY_ID, "CiphertextBlob": BLOB}, "key", "rewrap", HOST_EU),
    ("clear", "ReEncrypt", {"SourceKeyId": KEY_ID, "DestinationKeyId": KEY_ID, "CiphertextBlob": BLOB,
                            "SourceEncryptionContext": {"app": "payments"}}, "encryption-context", "rewrap", HOST_EU),
    ("clear", "ReEncrypt", {"SourceKeyId": KEY_ID, "DestinationKeyId": KEY_ID, "CiphertextBlob": BLOB,
                            "DestinationEncryptionContext": {"app": "payments"}}, "encryption-context", "rewrap", HOST_EU),
    ("clear", "RetireGrant", {"GrantToken": BLOB}, "key", "retire", HOST_EU),      # of whatever key's grant
    ("clear", "RetireGrant", {"KeyId": KEY_ID, "GrantToken": BLOB}, "key", "retire", HOST_EU),
    ("clear", "RetireGrant", {"KeyId": KEY_ID, "GrantId": "a" * 64, "GrantToken": BLOB}, "key", "retire", HOST_EU),
    ("sealed", "Decrypt", {"KeyId": KEY, "CiphertextBlob": BLOB}, "encryption-context", "unwrap", HOST_EU),
    ("sealed", "Decrypt", {"KeyId": KEY, "CiphertextBlob": BLOB, "EncryptionContext": {"app": "payments"}},
     "encryption-context", "unwrap", HOST_EU),
    ("sealed", "Decrypt", {"KeyId": KEY, "CiphertextBlob": BLOB,
                           "EncryptionContext": {"app": "payments", "stage": "Test"}}, "encryption-context", "unwrap", HOST_EU),
    ("sealed", "Decrypt", {"KeyId": KEY, "CiphertextBlob": BLOB,
                           "EncryptionContext": {"App": "payments", "stage": "test"}}, "encryption-context", "unwrap", HOST_EU),
    ("sealed", "Decrypt", {"KeyId": KEY, "CiphertextBlob": BLOB, "EncryptionContext": CONTEXT},
     "recipient", "unwrap", HOST_EU),
    ("sealed", "GenerateDataKey", {"KeyId": KEY, "KeySpec": "AES_256", "EncryptionContext": CONTEXT},
     "recipient", "unwrap", HOST_EU),
    ("sealed", "GenerateRandom", {"NumberOfBytes": 7}, "recipient", "random", HOST_EU),
    ("sealed", "DeriveSharedSecret", {"KeyId": ECDH, "KeyAgreementAlgorithm": "ECDH", "PublicKey": "eA=="},
     "recipient", "agree", HOST_EU),
    ("two", "DescribeKey", {"KeyId": ARN}, "action", None, HOST_US),     # a rule of the other endpoint
    ("two", "GenerateRandom", {"NumberOfBytes": 7}, "action", None, HOST_EU),
    ("nothing", "DescribeKey", {"KeyId": ARN}, "no-rules", None, HOST_EU),
]


@pytest.mark.parametrize("name, action, params, reason, rule, host", REFUSED)
def test_what_no_rule_allows_is_refused_with_the_reason(proxy, kms, name, action, params, reason, rule, host):
    answer, record = ask(proxy, name, action, params, host=host)
    assert (answer.status, answer.error) == (400, "AccessDeniedException")
    assert (record["VERDICT"], record["REASON"]) == ("refuse", reason)
    if rule:
        assert record["RULE"] == rule
        assert f'"{rule}"' in answer.json["message"]
    assert not kms.requests


@pytest.mark.parametrize("rows, status", [(ALLOWED, 0), (REFUSED, 1)], ids=["allowed", "refused"])
def test_explain_says_what_the_daemon_does(proxy, rows, status):
    for name, action, params, *_, host in rows:
        body = request(action, params).partition(b"\r\n\r\n")[2]
        found = subprocess.run([program(), "--config", proxy.config_path, "--explain", f"{name}-0", action,
                                "--host", host, "-"], input=body, capture_output=True, check=False)
        assert found.returncode == status, (name, action, params, found)


# host, and what comes of it: an endpoint, "host" for a name that is none, "framing" for no name.
HOSTS = [
    ("localhost", "eu"), ("localhost:8000", "eu"), ("LOCALHOST:1", "eu"), ("localhost:65535", "eu"),
    ("127.0.0.1:8000", "eu"), ("[::1]", "eu"), ("[::1]:8000", "eu"), ("[FD00:EC2::254]:443", "eu"),
    ("[::ffff:127.0.0.1]:1", "eu"), (HOST_EU + ":443", "eu"), (HOST_EU + ":8443", "eu"), (HOST_US, "us"),
    (HOST_US.upper() + ":1", "us"),
    ("localhost.localdomain:8000", "host"), ("kms.eu-west-1.amazonaws.com:443", "host"), ("eu", "host"),
    ("localhost:0", "framing"), ("localhost:65536", "framing"), ("localhost:", "framing"),
    ("localhost:+1", "framing"), ("localhost:8000x", "framing"), ("localhost:80:80", "framing"),
    ("localhost.", "framing"), ("localhost.:8000", "framing"), (HOST_EU + ".", "framing"),
    ("", "framing"), (":8000", "framing"), ("a@localhost", "framing"), ("a:b@localhost:8000", "framing"),
    ("::1", "framing"), ("[::1", "framing"), ("::1]", "framing"), ("[::1]8000", "framing"),
    ("[::1]:", "framing"), ("[127.0.0.1]", "framing"), ("[localhost]", "framing"), ("[::1%lo]", "framing"),
    ("127.0.0.1.", "framing"), ("127.1", "framing"), ("127.0.0.01", "framing"),
    ("http://localhost", "framing"), ("localhost/", "framing"), ("local host", "framing"),
    ("localhost,localhost", "framing"), ("local%68ost", "framing"), ("loc\u00e4lhost", "framing"),
]


@pytest.mark.parametrize("host, comes", HOSTS)
def test_explain_reads_a_host_as_the_daemon_does(proxy, kms, host, comes):
    params = {"KeyId": ARN_US if comes == "us" else ARN, "Plaintext": b"x"}
    sent = request("Encrypt", params, host=host)
    found = subprocess.run([program(), "--config", proxy.config_path, "--explain", "two-0", "Encrypt",
                            "--host", host.encode("latin-1"), "-"], input=sent.partition(b"\r\n\r\n")[2],
                           capture_output=True, check=False)
    proxy.turn += 1
    with proxy.client(f"two-{proxy.turn % 6}") as client:
        answer = client.ask(sent)
    record = record_of(proxy, answer)
    if comes in ("host", "framing"):
        assert (answer.status, record["REASON"]) == (400, comes)
        assert (found.returncode, b"\nhost:       " in found.stdout) == (1, True), found
    else:
        assert (answer.status, record["ENDPOINT"]) == (200, comes)
        assert (found.returncode, b"\nendpoint:   " + comes.encode() in found.stdout) == (0, True), found


def test_an_action_that_kms_does_not_have(proxy, kms):
    for target in ("Decryptx", "decrypt", "DECRYPT", "ListTables"):
        answer, record = ask(proxy, "clear", target, {"KeyId": ARN})
        assert (answer.status, answer.error) == (400, "UnknownOperationException")
        assert (record["REASON"], record["KMS_ACTION"]) == ("unknown-action", target)
    assert not kms.requests


RECIPIENTS = [
    {}, {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256"}, {"AttestationDocument": BLOB},
    {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_1", "AttestationDocument": BLOB},
    {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": ""},
    {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": "no base64!"},
    {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": "eA"},
    {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": None},
    {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": BLOB, "More": 1},
    None, "x", [], 1,
]


@pytest.mark.parametrize("recipient", RECIPIENTS)
def test_a_recipient_that_is_none_is_refused(proxy, kms, recipient):
    answer, record = ask(proxy, "sealed", "GenerateRandom", {"NumberOfBytes": 7, "Recipient": recipient})
    assert answer.status == 400
    assert (answer.error, record["REASON"]) in (
        ("AccessDeniedException", "recipient"), ("SerializationException", "json"))
    assert not kms.requests


# Replies.

def secret_call(kms, action):
    """Parameters that make KMS answer with a secret."""
    context = {"EncryptionContext": CONTEXT}
    return {
        "Decrypt": lambda: {"KeyId": KEY, "CiphertextBlob": kms.make_ciphertext(KEY, SECRET, CONTEXT), **context},
        "GenerateDataKey": lambda: {"KeyId": KEY_ID, "KeySpec": "AES_256", **context},
        "GenerateDataKeyPair": lambda: {"KeyId": ARN, "KeyPairSpec": "ECC_NIST_P256", **context},
        "GenerateRandom": lambda: {"NumberOfBytes": 32},
        "DeriveSharedSecret": lambda: {"KeyId": ECDH, "KeyAgreementAlgorithm": "ECDH",
                                       "PublicKey": spki(ec.generate_private_key(ec.SECP256R1()))},
    }[action]()


@pytest.mark.parametrize("action, member", kms_faults.SECRETS.items())
def test_a_secret_comes_sealed_and_the_enclave_opens_it(proxy, kms, enclave, action, member):
    params = {**secret_call(kms, action), "Recipient": enclave.recipient()}
    answer, record = ask(proxy, "sealed", action, params)
    assert answer.status == 200, answer
    assert member not in answer.json
    opened = enclave.open(answer.json)
    assert opened == SECRET if action == "Decrypt" else len(opened) >= 32
    assert record["RECIPIENT"] == "present"
    asked, = kms.requests
    assert asked.json["Recipient"] == params["Recipient"]
    assert asked.json.get("EncryptionContext") == params.get("EncryptionContext")
    assert asked.json.get("KeyId") == params.get("KeyId")
    assert set(asked.json) == set(params)


LEAKS = [(variant, keep) for variant in kms_faults.LEAKS for keep in (True, False)]
# What is no secret in clear: nothing, and members of other names, which no client reads.
NO_LEAK = ("null", "empty", "nested", "other-case")


@pytest.mark.parametrize("variant, keep", LEAKS)
def test_a_reply_that_leaks_is_not_relayed(proxy, kms, enclave, variant, keep):
    kms.fault("leak", variant=variant, keep_ciphertext=keep)
    params = {**secret_call(kms, "Decrypt"), "Recipient": enclave.recipient()}
    answer, record = ask(proxy, "sealed", "Decrypt", params)
    if variant in NO_LEAK and keep:
        assert answer.status == 200 and enclave.open(answer.json) == SECRET
        return
    assert (answer.status, answer.error) == (502, "KMSInternalException")
    assert record["LEVEL"] == "critical"
    assert record["VERDICT"] == "allow" and record["HTTP_STATUS"] == "502"
    assert record["REASON"] in ("reply-leaks", "reply-unreadable", "reply-no-ciphertext")
    for text in (answer.body.decode(), proxy.log()):
        assert base64.b64encode(SECRET).decode() not in text and SECRET.decode() not in text


@pytest.mark.parametrize("action, member", kms_faults.SECRETS.items())
def test_a_leak_of_each_action_is_not_relayed(proxy, kms, enclave, action, member):
    kms.fault("leak")
    params = {**secret_call(kms, action), "Recipient": enclave.recipient()}
    answer, record = ask(proxy, "sealed", action, params)
    assert (answer.status, record["REASON"], record["LEVEL"]) == (502, "reply-leaks", "critical")
    assert member not in answer.json


@pytest.mark.parametrize("member", ["PrivateKeyPlaintext", "SharedSecret"])
def test_nor_is_the_secret_of_another_action(proxy, kms, enclave, member):
    kms.fault("leak", member=member)
    params = {**secret_call(kms, "Decrypt"), "Recipient": enclave.recipient()}
    answer, record = ask(proxy, "sealed", "Decrypt", params)
    assert (answer.status, record["REASON"]) == (502, "reply-leaks")


@pytest.mark.parametrize("kind, how, reason", [
    ("no_ciphertext_for_recipient", {}, "reply-no-ciphertext"),
    ("no_ciphertext_for_recipient", {"variant": "null"}, "reply-no-ciphertext"),
    ("no_ciphertext_for_recipient", {"variant": "empty"}, "reply-no-ciphertext"),
    ("not_json", {}, "reply-unreadable"),
    ("not_json", {"text": ""}, "reply-unreadable"),
    ("not_json", {"text": '"Plaintext"'}, "reply-unreadable"),
    ("not_json", {"text": '{"CiphertextForRecipient":"eA=="}{"Plaintext":"eA=="}'}, "reply-unreadable"),
    ("not_json", {"text": '{"CiphertextForRecipient":"eA==","A":{"Plaintext":"\xff"}}'}, "reply-unreadable"),
    ("duplicate_member", {}, "reply-unreadable"),
])
def test_a_reply_that_is_not_clearly_sealed_is_not_relayed(proxy, kms, enclave, kind, how, reason):
    kms.fault(kind, **how)
    params = {**secret_call(kms, "Decrypt"), "Recipient": enclave.recipient()}
    answer, record = ask(proxy, "sealed", "Decrypt", params)
    assert (answer.status, answer.error) == (502, "KMSInternalException")
    assert (record["REASON"], record["LEVEL"]) == (reason, "critical")


def test_a_new_member_of_a_reply_passes(proxy, kms, enclave):
    kms.fault("extra_member")
    params = {**secret_call(kms, "Decrypt"), "Recipient": enclave.recipient()}
    answer, _ = ask(proxy, "sealed", "Decrypt", params)
    assert answer.status == 200 and answer.json["Extra"] == "e"


def test_an_error_that_leaks_is_not_relayed(proxy, kms, enclave):
    kms.fault("access_denied")
    kms.fault("body", text='{"__type":"AccessDeniedException","Plaintext":"c2VjcmV0"}')
    params = {**secret_call(kms, "Decrypt"), "Recipient": enclave.recipient()}
    answer, record = ask(proxy, "sealed", "Decrypt", params)
    assert (answer.status, record["REASON"], record["LEVEL"]) == (502, "reply-leaks", "critical")
    assert b"c2VjcmV0" not in answer.body


def test_an_error_that_is_no_object_is_not_relayed(proxy, kms, enclave):
    kms.fault("access_denied")
    kms.fault("body", text='[{"__type":"AccessDeniedException","Plaintext":"c2VjcmV0"}]')
    params = {**secret_call(kms, "Decrypt"), "Recipient": enclave.recipient()}
    answer, record = ask(proxy, "sealed", "Decrypt", params)
    assert (answer.status, record["REASON"]) == (502, "upstream-malformed")
    assert b"c2VjcmV0" not in answer.body


@pytest.mark.parametrize("action, member", kms_faults.SECRETS.items())
def test_plaintext_allow_lifts_both(proxy, kms, action, member):
    answer, record = ask(proxy, "clear", action, secret_call(kms, action))
    assert answer.status == 200, answer
    assert base64.b64decode(answer.json[member])
    assert record["RECIPIENT"] == "none"


def test_plaintext_allow_also_relays_what_is_no_json(proxy, kms):
    kms.fault("not_json", text="<html>")
    answer, _ = ask(proxy, "clear", "GenerateRandom", {"NumberOfBytes": 7})
    assert (answer.status, answer.body) == (200, b"<html>")


# Errors of KMS.

@pytest.mark.parametrize("kind, how, status, error", [
    ("access_denied", {}, 400, "AccessDeniedException"),
    ("throttle", {}, 400, "ThrottlingException"),
    ("internal", {}, 500, "KMSInternalException"),
    ("error", {"error_type": "NotFoundException", "message": "Alias is not found."}, 400, "NotFoundException"),
    ("error", {"error_type": "IncorrectKeyException"}, 400, "IncorrectKeyException"),
])
@pytest.mark.parametrize("name", ["clear", "sealed"])
def test_errors_of_kms_are_relayed(proxy, kms, enclave, name, kind, how, status, error):
    kms.fault(kind, **how)
    params = {**secret_call(kms, "Decrypt")}
    if name == "sealed":
        params["Recipient"] = enclave.recipient()
    answer, record = ask(proxy, name, "Decrypt", params)
    assert (answer.status, answer.error) == (status, error)
    assert (record["VERDICT"], record["HTTP_STATUS"]) == ("allow", str(status))
    assert error in record["MESSAGE"]
    assert len(kms.requests) == 1
    if how.get("message"):
        assert answer.json["message"] == how["message"]


def test_what_kms_says_of_our_signature_is_not_relayed(proxy, kms):
    token = kms.credentials.current.token
    kms.fault("invalid_signature", count=None)
    answer, record = ask(proxy, "clear", "DescribeKey", {"KeyId": KEY})
    assert (answer.status, answer.error) == (503, "ServiceUnavailableException")
    assert record["REASON"] == "bad-credentials"
    for text in (str(answer.json), str(answer.headers), proxy.log()):
        assert token not in text and "Canonical String" not in text
