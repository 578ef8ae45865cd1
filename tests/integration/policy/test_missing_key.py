# SPDX-License-Identifier: Apache-2.0
"""A rule that adds its key to a request which leaves it to KMS, through the real daemon."""

import base64
import json

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from daemon.help import ARN, KEY, KEY_ID, record_of, wait_taken
from kms.client import request
from net.bridge import Bridge

SECRET = b"a secret of this enclave"
CONTEXT = {"app": "payments"}


def rule(name, actions, keys, **how):
    return {"name": name, "actions": actions, "keys": keys, "plaintext": "allow", **how}


@pytest.fixture
def daemon(daemon):
    daemon.config["enclaves"]["payments"]["allow"] = [
        rule("wrap", ["Encrypt", "DescribeKey"], "any"),
        rule("unwrap", ["Decrypt", "ReEncrypt"], [ARN], encryption_context=CONTEXT, missing_key="add")]
    return daemon


def sealed(client, key=KEY, context=None):
    answer = client.ask(request("Encrypt", {"KeyId": key, "Plaintext": base64.b64encode(SECRET).decode(),
                                            "EncryptionContext": context or CONTEXT}))
    assert answer.status == 200
    return answer.json["CiphertextBlob"]


def decrypt(blob, **more):
    return request("Decrypt", {"CiphertextBlob": blob, "EncryptionContext": CONTEXT, **more})


def test_kms_is_told_the_key_and_the_record_says_so(daemon, kms):
    with daemon, daemon.client() as client:
        blob = sealed(client)
        answer = client.ask(decrypt(blob))
        assert base64.b64decode(answer.json["Plaintext"]) == SECRET
        asked, = kms.asked("Decrypt")
        assert json.loads(asked.body) == {"CiphertextBlob": blob, "EncryptionContext": CONTEXT, "KeyId": ARN}
        record = record_of(daemon, answer)
        assert (record["KMS_KEY_ADDED"], record["KMS_KEY"], record["RULE"]) == ("1", ARN, "unwrap")


def test_a_key_that_is_named_is_not_added(daemon, kms):
    with daemon, daemon.client() as client:
        answer = client.ask(decrypt(sealed(client), KeyId=KEY_ID))
        assert answer.status == 200
        record = record_of(daemon, answer)
        assert record["KMS_KEY"] == KEY_ID
        assert "KMS_KEY_ADDED" not in record
    assert json.loads(kms.asked("Decrypt")[0].body)["KeyId"] == KEY_ID


def test_kms_refuses_what_is_under_another_key(daemon, kms):
    other = kms.keys.add(id="aaaabbbb-cccc-4ddd-8eee-ffff00001111")
    with daemon, daemon.client() as client:
        answer = client.ask(decrypt(sealed(client, other.id)))
        assert (answer.status, answer.error) == (400, "IncorrectKeyException")
        assert record_of(daemon, answer)["KMS_KEY_ADDED"] == "1"


def test_reencrypt(daemon, kms):
    with daemon, daemon.client() as client:
        params = {"CiphertextBlob": sealed(client), "DestinationKeyId": KEY_ID,
                  "SourceEncryptionContext": CONTEXT, "DestinationEncryptionContext": CONTEXT}
        answer = client.ask(request("ReEncrypt", params))
        assert answer.status == 200
        asked, = kms.asked("ReEncrypt")
        assert json.loads(asked.body) == {**params, "SourceKeyId": ARN}
        record = record_of(daemon, answer)
        assert (record["KMS_KEY"], record["KMS_KEY_ADDED"]) == (f"{ARN},{KEY_ID}", "1")


@pytest.mark.parametrize("body, error, reason", [
    ({"KeyId": None}, "SerializationException", "json"), ({"KeyId": ""}, "SerializationException", "json"),
    ({"EncryptionContext": {}}, "AccessDeniedException", "encryption-context")])
def test_no_key_is_added_to_what_is_refused(daemon, kms, body, error, reason):
    with daemon, daemon.client() as client:
        answer = client.ask(decrypt("AAAA", **body))
        assert (answer.status, answer.error) == (400, error)
        record = record_of(daemon, answer)
        assert record["REASON"] == reason
        assert not record.keys() & {"KMS_KEY_ADDED", "KMS_KEY"}
    assert not kms.requests


@pytest.mark.parametrize("kind, how", [("reset_before_read", {}), ("close", {"after": 0})])
def test_what_is_sent_once_more_has_its_key(daemon, kms, kind, how):
    with daemon, daemon.client() as client:
        blob = sealed(client)
        kms.fault(kind, **how)
        answer = client.ask(decrypt(blob))
        assert answer.status == 200
        assert record_of(daemon, answer)["KMS_KEY_ADDED"] == "1"
        assert {json.loads(one.body)["KeyId"] for one in kms.asked("Decrypt")} == {ARN}


def test_a_rule_that_came_with_a_reload_while_the_body_is_read(daemon, kms):
    """The room for the key was not there when the head was read."""
    unwrap = daemon.config["enclaves"]["payments"]["allow"][1]
    unwrap["missing_key"] = "refuse"
    with daemon, daemon.client() as client:
        data = decrypt(sealed(client))
        client.send(data[:-1])
        wait_taken(client)
        unwrap["missing_key"] = "add"
        daemon.reload()
        client.send(data[-1:])
        answer = client.read()
        assert answer.status == 200
        assert record_of(daemon, answer)["KMS_KEY_ADDED"] == "1"
    assert json.loads(kms.asked("Decrypt")[0].body)["KeyId"] == ARN


def test_a_client_that_never_names_the_key_of_a_ciphertext(daemon, kms):
    with daemon, Bridge(daemon.socket_path()) as bridge:
        client = boto3.client("kms", region_name=kms.keys.regions[0], endpoint_url=bridge.url,
                              config=Config(signature_version=UNSIGNED))
        blob = client.encrypt(KeyId=KEY, Plaintext=SECRET, EncryptionContext=CONTEXT)["CiphertextBlob"]
        answer = client.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)
        assert (answer["Plaintext"], answer["KeyId"]) == (SECRET, ARN)
