# SPDX-License-Identifier: Apache-2.0
"""The stand-ins are no stubs: what AWS refuses they refuse, what it computes they compute, and each
fault does what it says. Every other test leans on these.
"""

import base64
import gzip
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import time

import boto3
import botocore.config
import botocore.exceptions
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

TESTS = pathlib.Path(__file__).resolve().parent.parent
LIB, DATA = TESTS / "lib", TESTS / "data"
sys.path.insert(0, str(LIB))

import attestation  # noqa: E402
import kms_model  # noqa: E402
from control import Control  # noqa: E402
from kms_client import request, sign, tls_context  # noqa: E402
from reply_faults import CHUNKED  # noqa: E402
from standins import (VARIANTS, Bridge, Client, CredentialStore, Enclave, LocalContainer,  # noqa: E402
                      LocalImds, LocalKms, make_user_key, open_ciphertext_for_recipient)

KEY = "1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = f"arn:aws:kms:eu-central-1:111122223333:key/{KEY}"
OTHER_KEY = "aaaabbbb-cccc-4ddd-8eee-ffff00001111"
RSA_SIGN, RSA_ENCRYPT, ECC_SIGN, ECDH, HMAC = (
    f"0000000{n}-0000-4000-8000-00000000000{n}" for n in range(1, 6))
REGION = "eu-central-1"
HOST = "kms.eu-central-1.amazonaws.com"


@pytest.fixture(scope="module")
def enclave():
    return Enclave()


@pytest.fixture(scope="module")
def shared_kms(enclave):
    with LocalKms(attestation_root=enclave.authority.root) as kms:
        yield kms


@pytest.fixture
def kms(shared_kms):
    yield shared_kms
    shared_kms.clear()
    shared_kms.clock_offset = 0
    shared_kms.attestation_time = None


@pytest.fixture
def ca_file(kms, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(kms.ca_pem())
    return str(path)


@pytest.fixture
def boto(kms, ca_file):
    return boto_client(kms, ca_file)


def boto_client(kms, ca_file, credentials=None, region=REGION):
    found = credentials or kms.credentials.current
    return boto3.client(
        "kms", region_name=region, endpoint_url=f"https://localhost:{kms.port}", verify=ca_file,
        aws_access_key_id=found.access_key_id, aws_secret_access_key=found.secret_access_key,
        aws_session_token=found.token,
        config=botocore.config.Config(retries={"total_max_attempts": 1}))


def connect(kms, **how):
    return Client(("127.0.0.1", kms.port), ca=kms.ca_pem(), server_name=HOST, **how)


def signed(kms, action, params=None, credentials=None, region=REGION, **how):
    how.setdefault("host", HOST)
    how.setdefault("when", kms.clock())
    return sign(credentials or kms.credentials.current, region, action, params, **how)


def call(kms, action, params=None, **how):
    """One signed call on a connection of its own."""
    with connect(kms) as client:
        return client.ask(signed(kms, action, params, **how))


def refusal(error):
    return error.value.response["Error"]["Code"]


def blob(answer, member):
    return base64.b64decode(answer.json[member])


# Clients that know nothing of us.

def test_boto3_directly(kms, boto):
    context = {"app": "payments", "ä": "ö"}
    sealed = boto.encrypt(KeyId="alias/payments", Plaintext=b"secret", EncryptionContext=context)
    assert sealed["KeyId"] == ARN
    assert b"secret" not in sealed["CiphertextBlob"]
    opened = boto.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=context)
    assert (opened["Plaintext"], opened["KeyId"]) == (b"secret", ARN)
    last = kms.requests[-1]
    assert (last.action, last.verdict, last.status) == ("Decrypt", "ok", 200)
    assert last.access_key_id == kms.credentials.current.access_key_id
    assert last.signed_headers == ["content-type", "host", "x-amz-date", "x-amz-security-token",
                                   "x-amz-target"]
    assert last.json["EncryptionContext"] == context


def test_awscli_directly(kms, ca_file, tmp_path):
    found = kms.credentials.current
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": found.access_key_id,
        "AWS_SECRET_ACCESS_KEY": found.secret_access_key, "AWS_SESSION_TOKEN": found.token,
        "AWS_DEFAULT_REGION": REGION, "AWS_CA_BUNDLE": ca_file}
    def aws(*arguments):
        done = subprocess.run(["/usr/bin/aws", "--endpoint-url", f"https://localhost:{kms.port}",
                               "--output", "json", "kms", *arguments], env=environment, check=True,
                              capture_output=True, timeout=60)
        return json.loads(done.stdout)
    described = aws("describe-key", "--key-id", "alias/payments")
    assert described["KeyMetadata"]["Arn"] == ARN
    plaintext = tmp_path / "plaintext"
    plaintext.write_bytes(b"from the shell")
    sealed = aws("encrypt", "--key-id", KEY, "--plaintext", f"fileb://{plaintext}")
    (tmp_path / "sealed").write_bytes(base64.b64decode(sealed["CiphertextBlob"]))
    opened = aws("decrypt", "--key-id", KEY, "--ciphertext-blob", f"fileb://{tmp_path}/sealed")
    assert base64.b64decode(opened["Plaintext"]) == b"from the shell"


# Signatures.

def test_signature_of_the_raw_client(kms):
    answer = call(kms, "DescribeKey", {"KeyId": KEY})
    assert answer.status == 200
    assert answer.json["KeyMetadata"]["Arn"] == ARN
    assert answer.header("Content-Type") == "application/x-amz-json-1.1"
    assert len(answer.header("x-amzn-RequestId")) == 36 and answer.header("Date")


def _other_secret(kms):
    return {"credentials": type(kms.credentials.current)(
        **{**vars(kms.credentials.current), "secret_access_key": "x" * 40})}


def _without_token(kms):
    return {"credentials": type(kms.credentials.current)(**{**vars(kms.credentials.current), "token": None})}


def _other_token(kms):
    return {"credentials": type(kms.credentials.current)(
        **{**vars(kms.credentials.current), "token": kms.credentials.current.token[:-3] + "A=="})}


# What is wrong, how it is asked, the answer's type, a part of its message.
WRONGLY_SIGNED = [
    ("secret", _other_secret, "InvalidSignatureException", "signature we calculated does not match"),
    ("token left out", _without_token, "UnrecognizedClientException", "is invalid"),
    ("another token", _other_token, "UnrecognizedClientException", "is invalid"),
    ("unknown key", lambda kms: {"credentials": make_user_key()}, "UnrecognizedClientException", "is invalid"),
    ("region", lambda kms: {"region": "us-east-1"}, "InvalidSignatureException", "valid region, not 'us-east-1'"),
    ("service", lambda kms: {"service": "sts"}, "InvalidSignatureException", "correct service: 'kms'"),
    ("too old", lambda kms: {"when": time.time() - 302}, "InvalidSignatureException", "Signature expired: "),
    ("too new", lambda kms: {"when": time.time() + 303}, "InvalidSignatureException", "Signature not yet current: "),
    ("unsigned x-amz", lambda kms: {"unsigned": [("X-Amz-Extra", "1")]}, "InvalidSignatureException",
     "not signed: x-amz-extra"),
    ("payload hash", lambda kms: {"headers": [("X-Amz-Content-Sha256", "0" * 64)]},
     "InvalidSignatureException", "x-amz-content-sha256"),
]


@pytest.mark.parametrize("name,how,error,text", WRONGLY_SIGNED, ids=[w[0] for w in WRONGLY_SIGNED])
def test_wrong_signature_is_refused(kms, name, how, error, text):
    answer = call(kms, "DescribeKey", {"KeyId": KEY}, **how(kms))
    assert (answer.status, answer.error) == (400, error)
    assert text in answer.json["message"]
    assert kms.requests[-1].verdict == error


@pytest.mark.parametrize("seconds", [-298, 0, 298])
def test_signature_within_the_window_is_taken(kms, seconds):
    assert call(kms, "DescribeKey", {"KeyId": KEY}, when=time.time() + seconds).status == 200


def _replace(old, new):
    return lambda data: data.replace(old, new, 1)


# A signed request changed on the way: the text replaced, its replacement, the answer's type.
TAMPERED = [
    ("body", _replace(b'"KeyId"', b'"KeyIx"'), "InvalidSignatureException"),
    ("target", _replace(b"TrentService.DescribeKey", b"TrentService.GetPublicKey"), "InvalidSignatureException"),
    ("host", _replace(HOST.encode() + b"\r", b"localhost\r"), "InvalidSignatureException"),
    ("content type", _replace(b"-json-1.1", b"-json-1.1; charset=utf-8"), "InvalidSignatureException"),
    ("host not signed", _replace(b"content-type;host;", b"content-type;"), "InvalidSignatureException"),
    ("date not signed", _replace(b"x-amz-date;", b""), "InvalidSignatureException"),
    ("signed but absent", _replace(b"host;x-amz-date", b"host;x-absent;x-amz-date"), "InvalidSignatureException"),
    ("unsorted names", _replace(b"content-type;host", b"host;content-type"), "IncompleteSignatureException"),
    ("terminator", _replace(b"/aws4_request", b"/aws5_request"), "InvalidSignatureException"),
    ("four-part scope", _replace(b"/kms/aws4_request", b"/kms"), "IncompleteSignatureException"),
    ("algorithm", _replace(b"AWS4-HMAC-SHA256", b"AWS4-HMAC-SHA512"), "IncompleteSignatureException"),
    ("no signature", _replace(b", Signature=", b", Signed="), "IncompleteSignatureException"),
    ("no date", _replace(b"X-Amz-Date:", b"X-Nope-Date:"), "IncompleteSignatureException"),
    ("upper-case signature", lambda d: d[:d.index(b"Signature=") + 10] + d[d.index(b"Signature=") + 10:].split(
        b"\r\n", 1)[0].upper() + b"\r\n" + d[d.index(b"Signature="):].split(b"\r\n", 1)[1],
     "InvalidSignatureException"),
    ("no Authorization", _replace(b"Authorization:", b"Proxy-Authorization:"), "MissingAuthenticationTokenException"),
]


@pytest.mark.parametrize("name,change,error", TAMPERED, ids=[t[0] for t in TAMPERED])
def test_tampered_request_is_refused(kms, name, change, error):
    data = signed(kms, "DescribeKey", {"KeyId": KEY})
    changed = change(data)
    assert changed != data
    # What changes the body's length would be another error.
    head, body = changed.split(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(body) in head
    with connect(kms) as client:
        answer = client.ask(changed)
    assert (answer.status, answer.error) == (400, error)


def test_mismatch_echoes_the_canonical_string_with_the_token(kms):
    answer = call(kms, "DescribeKey", {"KeyId": KEY}, **_other_secret(kms))
    assert f"x-amz-security-token:{kms.credentials.current.token}\n" in answer.json["message"]
    assert "The String-to-Sign should have been\n'AWS4-HMAC-SHA256\n" in answer.json["message"]


def test_further_signed_headers_are_checked(kms):
    answer = call(kms, "DescribeKey", {"KeyId": KEY}, headers=[("X-Amz-Note", "  a   b ")])
    assert answer.status == 200
    assert "x-amz-note" in kms.requests[-1].signed_headers


def test_user_key_without_token(kms):
    mine = kms.credentials.add(make_user_key())
    assert call(kms, "DescribeKey", {"KeyId": KEY}, credentials=mine).status == 200


def test_rotation_keeps_the_old_credentials_until_revoked():
    with LocalKms() as kms:
        old = kms.credentials.current
        new = kms.credentials.rotate()
        assert 700 <= len(new.token) <= 1400 and new.token != old.token
        for found in (old, new):
            assert call(kms, "ListKeys", credentials=found).status == 200
        kms.credentials.revoke(old.access_key_id)
        assert call(kms, "ListKeys", credentials=old).error == "ExpiredTokenException"
        kms.credentials.forget(old.access_key_id)
        assert call(kms, "ListKeys", credentials=old).error == "UnrecognizedClientException"
        kms.credentials.expire_at(time.time() - 1)
        assert call(kms, "ListKeys").error == "ExpiredTokenException"
        kms.credentials.honour_expired = True
        assert call(kms, "ListKeys").status == 200


def test_clock_offset_moves_the_window_and_the_date(kms):
    kms.clock_offset = 3600
    assert call(kms, "ListKeys", when=time.time()).json["message"].startswith("Signature expired")
    answer = call(kms, "ListKeys", when=time.time() + 3600)
    assert answer.status == 200
    date = time.mktime(time.strptime(answer.header("Date"), "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone
    assert 3590 < date - time.time() < 3610


def test_regions_have_their_own_keys_and_names():
    keys = [{"id": KEY, "region": "eu-central-1"}, {"id": OTHER_KEY, "region": "us-east-1"}]
    with LocalKms(regions=("eu-central-1", "us-east-1"), keys=keys,
                  hosts={"vpce-1.kms.us-east-1.vpce.amazonaws.com": "us-east-1"}) as kms:
        assert call(kms, "DescribeKey", {"KeyId": KEY}).status == 200
        assert call(kms, "DescribeKey", {"KeyId": OTHER_KEY}).error == "NotFoundException"
        for host in ("kms.us-east-1.amazonaws.com", "vpce-1.kms.us-east-1.vpce.amazonaws.com"):
            answer = call(kms, "DescribeKey", {"KeyId": OTHER_KEY}, host=host, region="us-east-1")
            assert answer.json["KeyMetadata"]["Arn"].startswith("arn:aws:kms:us-east-1:")
            assert call(kms, "ListKeys", host=host).error == "InvalidSignatureException"
        assert call(kms, "ListKeys", host="kms.example.com").status == 421


# The front end.

@pytest.mark.parametrize("how,status", [
    ({"method": "GET"}, 404), ({"target": "/x"}, 404), ({"target": "/?a=b"}, 404),
    ({"headers": [("Content-Type", "application/json")]}, 404),
    ({"headers": [("Content-Type", None)]}, 404),
    ({"headers": [("X-Amz-Target", None)]}, 400),
    ({"headers": [("X-Amz-Target", "DynamoDB.ListKeys")]}, 400),
    ({"headers": [("X-Amz-Target", "TrentService.listkeys")]}, 400),
    ({"headers": [("Transfer-Encoding", "chunked")]}, 501),
    ({"headers": [("Content-Length", "-1")]}, 400),
    ({"headers": [("Content-Length", "+2")]}, 400),
    ({"headers": [("Content-Length", "3000000")]}, 413),
    ({"headers": [("Host", None)]}, 400),
    ({"headers": [("Host", HOST), ("host", HOST)]}, 400),
    ({"headers": [("x-amz-date", "1"), ("X-Amz-Date", "1")]}, 400),
    ({"headers": [("X-A", "b\nX-C: d")]}, 400),
    ({"headers": [("X-A", "b\0")]}, 400),
    ({"headers": [("X A", "b")]}, 400),
    ({"headers": [("X-A", "a" * 70000)]}, 431),
])
def test_what_is_no_kms_request(kms, how, status):
    with connect(kms) as client:
        answer = client.ask(request("ListKeys", host=HOST, **how))
    assert answer.status == status


def test_unsigned_is_refused_before_its_body_is_read(kms):
    with connect(kms) as client:
        answer = client.ask(request("ListKeys", host=HOST, body=b"{{{"))
        assert answer.error == "MissingAuthenticationTokenException"
        # The connection stays: SDKs retry on it.
        assert client.ask(signed(kms, "ListKeys")).status == 200


def test_unknown_action(kms):
    answer = call(kms, "StealKeys")
    assert (answer.status, answer.json) == (400, {"__type": "UnknownOperationException"})


def test_model_is_that_of_the_current_api():
    rows = [line.split("|") for line in (DATA / "kms-actions.txt").read_text().splitlines()
            if line and not line.startswith("#")]
    assert {row[0].strip() for row in rows} == set(kms_model.ACTIONS) and len(rows) == 56
    for action, wanted, _ in rows:
        shape = kms_model.MODEL.operation_model(action.strip()).input_shape
        members = {m.strip() for m in wanted.split(",")} - {""}
        assert {m.rstrip("*") for m in members} == set(shape.members if shape else ()), action
        assert {m[:-1] for m in members if m.endswith("*")} == set(
            shape.required_members if shape else ()), action


def test_actions_that_are_not_implemented_say_so(kms):
    answer = call(kms, "DescribeCustomKeyStores")
    assert answer.error == "UnsupportedOperationException"
    answer = call(kms, "Encapsulate", {"KeyId": KEY, "EncapsulationAlgorithm": "ML_KEM_768"})
    assert answer.error == "UnsupportedOperationException"


B64 = base64.b64encode(b"x").decode()

# Action, body, the error's type, a part of its message (None: there is none).
INVALID = [
    ("Encrypt", b"{", "SerializationException", None),
    ("Encrypt", b'{"KeyId":NaN}', "SerializationException", None),
    ("Encrypt", b'"x"', "SerializationException", "STRING_VALUE"),
    ("Encrypt", b"\xff", "SerializationException", None),
    ("Encrypt", b"", "ValidationException", "2 validation errors"),
    ("Encrypt", b"{}", "ValidationException", "Value null at 'keyId' failed to satisfy constraint: Member must not be null"),
    ("Encrypt", {"KeyId": KEY}, "ValidationException", "'plaintext'"),
    ("Encrypt", {"KeyId": 5, "Plaintext": B64}, "SerializationException", "NUMBER_VALUE can not be converted to String"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": "no base64!"}, "SerializationException", None),
    ("Encrypt", {"KeyId": KEY, "Plaintext": ""}, "ValidationException", "greater than or equal to 1"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": b"x" * 4097}, "ValidationException", "less than or equal to 4096"),
    ("Encrypt", {"KeyId": "k" * 2049, "Plaintext": B64}, "ValidationException", "less than or equal to 2048"),
    ("Encrypt", {"KeyId": "", "Plaintext": B64}, "ValidationException", "'keyId'"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": B64, "EncryptionContext": {"a": 1}}, "SerializationException", "String"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": B64, "EncryptionContext": []}, "SerializationException", "START_ARRAY"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": B64, "EncryptionAlgorithm": "ROT13"}, "ValidationException", "enum value set"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": B64, "GrantTokens": ["t"] * 11}, "ValidationException", "'grantTokens'"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": B64, "DryRun": "yes"}, "SerializationException", "Boolean"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": B64, "DryRun": True}, "DryRunOperationException", "would have succeeded"),
    ("Encrypt", {"KeyId": RSA_SIGN, "Plaintext": B64}, "InvalidKeyUsageException", "SIGN_VERIFY"),
    ("Encrypt", {"KeyId": RSA_ENCRYPT, "Plaintext": B64}, "InvalidKeyUsageException", "incompatible"),
    ("Decrypt", {"KeyId": KEY}, "ValidationException", "'ciphertextBlob'"),
    ("Decrypt", {"CiphertextBlob": B64}, "InvalidCiphertextException", None),
    ("Decrypt", {"CiphertextBlob": b"x" * 6145}, "ValidationException", "6144"),
    ("GenerateDataKey", {"KeyId": KEY}, "ValidationException", "either number of bytes or key spec"),
    ("GenerateDataKey", {"KeyId": KEY, "KeySpec": "AES_256", "NumberOfBytes": 32}, "ValidationException", "either"),
    ("GenerateDataKey", {"KeyId": KEY, "NumberOfBytes": 1025}, "ValidationException", "1024"),
    ("GenerateDataKey", {"KeyId": KEY, "NumberOfBytes": 1.5}, "SerializationException", "Integer"),
    ("GenerateDataKey", {"KeyId": RSA_ENCRYPT, "KeySpec": "AES_256"}, "InvalidKeyUsageException", "RSA_2048"),
    ("GenerateRandom", {}, "ValidationException", "NumberOfBytes"),
    ("GenerateRandom", {"NumberOfBytes": 8, "Recipient": {}}, "ValidationException", "Recipient"),
    ("GenerateRandom", {"NumberOfBytes": 8, "Recipient": "r"}, "SerializationException", "structure"),
    ("GenerateRandom", {"NumberOfBytes": 8, "Recipient": {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_1"}},
     "ValidationException", "recipient.keyEncryptionAlgorithm"),
    ("GenerateRandom", {"NumberOfBytes": 8, "Recipient": {
        "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": B64}},
     "ValidationException", "attestation document is invalid"),
    ("DescribeKey", {"KeyId": "alias/none"}, "NotFoundException", ":alias/none is not found."),
    ("DescribeKey", {"KeyId": "11111111-1111-1111-1111-111111111111"}, "NotFoundException", "does not exist"),
    ("DescribeKey", {"KeyId": "nonsense"}, "NotFoundException", "Invalid keyId 'nonsense'"),
    ("DescribeKey", {"KeyId": ARN.replace(REGION, "us-east-1")}, "NotFoundException", "Invalid arn us-east-1"),
    ("DescribeKey", {"KeyId": "arn:aws:s3:::bucket"}, "InvalidArnException", "Invalid arn"),
    ("EnableKey", {"KeyId": "alias/payments"}, "InvalidArnException", "alias"),
    ("CreateAlias", {"AliasName": "noprefix", "TargetKeyId": KEY}, "ValidationException", "alias/"),
    ("CreateAlias", {"AliasName": "alias/payments", "TargetKeyId": KEY}, "AlreadyExistsException", "alias/payments"),
    ("CreateAlias", {"AliasName": "alias/b c", "TargetKeyId": KEY}, "ValidationException", "regular expression"),
    ("DeleteAlias", {"AliasName": "alias/none"}, "NotFoundException", "is not found"),
    ("CreateKey", {"KeySpec": "RSA_2048"}, "ValidationException", "KeyUsage"),
    ("ListKeys", {"Limit": 0}, "ValidationException", "'limit'"),
    ("ListKeys", {"Marker": "!"}, "InvalidMarkerException", "marker"),
    ("GetPublicKey", {"KeyId": KEY}, "UnsupportedOperationException", "SYMMETRIC_DEFAULT"),
    ("Sign", {"KeyId": ECC_SIGN, "Message": B64, "SigningAlgorithm": "ECDSA_SHA_384"}, "InvalidKeyUsageException", "ECC_NIST_P256"),
    ("Sign", {"KeyId": ECC_SIGN, "Message": B64, "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256"},
     "ValidationException", "Digest is invalid length"),
    ("VerifyMac", {"KeyId": HMAC, "Message": B64, "Mac": B64, "MacAlgorithm": "HMAC_SHA_256"}, "KMSInvalidMacException", None),
    ("DeriveSharedSecret", {"KeyId": ECDH, "KeyAgreementAlgorithm": "ECDH", "PublicKey": B64}, "ValidationException", "curve"),
]


@pytest.mark.parametrize("action,body,error,text", INVALID)
def test_invalid_parameters(kms, action, body, error, text):
    raw = {"body": body} if isinstance(body, bytes) else {"params": body}
    answer = call(kms, action, **raw)
    assert (answer.status, answer.error) == (400, error)
    message = answer.json.get("message", answer.json.get("Message"))
    assert message is None if text is None else text in message


def test_foreign_account_is_denied_with_a_capital_message(kms):
    answer = call(kms, "DescribeKey", {"KeyId": ARN.replace("111122223333", "444455556666")})
    assert set(answer.json) == {"__type", "Message"}
    assert "not authorized to perform: kms:DescribeKey" in answer.json["Message"]


def test_unknown_members_and_nulls_are_ignored(kms):
    answer = call(kms, "DescribeKey", {"KeyId": KEY, "Colour": 1, "GrantTokens": None})
    assert answer.status == 200


# Cryptography.

def sealed(kms, plaintext=b"secret", key=KEY, **more):
    return blob(call(kms, "Encrypt", {"KeyId": key, "Plaintext": plaintext, **more}), "CiphertextBlob")


@pytest.mark.parametrize("name", [KEY, ARN, "alias/payments", ARN.replace(f"key/{KEY}", "alias/payments")])
def test_every_name_of_a_key(kms, name):
    answer = call(kms, "Decrypt", {"KeyId": name, "CiphertextBlob": sealed(kms, key=name)})
    assert (answer.json["KeyId"], blob(answer, "Plaintext")) == (ARN, b"secret")


def test_decrypt_wants_the_same_context_whatever_its_order(kms):
    found = sealed(kms, EncryptionContext={"a": "1", "b": "2"})
    same = {"CiphertextBlob": found, "EncryptionContext": {"b": "2", "a": "1"}}
    assert blob(call(kms, "Decrypt", same), "Plaintext") == b"secret"
    for context in ({"a": "1"}, {"a": "2", "b": "1"}, {"A": "1", "b": "2"}, {"a": "1", "b": "2", "c": ""}, {}):
        answer = call(kms, "Decrypt", {"CiphertextBlob": found, "EncryptionContext": context})
        assert answer.json == {"__type": "InvalidCiphertextException"}


def test_decrypt_with_the_wrong_key(kms):
    answer = call(kms, "Decrypt", {"CiphertextBlob": sealed(kms), "KeyId": OTHER_KEY})
    assert answer.error == "IncorrectKeyException"


def test_every_byte_of_a_ciphertext_counts(kms):
    found = sealed(kms, b"s")
    with connect(kms) as client:
        for at in range(len(found)):
            bad = bytearray(found)
            bad[at] ^= 1
            answer = client.ask(signed(kms, "Decrypt", {"CiphertextBlob": bytes(bad)}))
            assert answer.error == "InvalidCiphertextException", at


def test_ciphertext_of_the_largest_size(kms):
    found = kms.make_ciphertext("alias/payments", b"p" * 4096, {"a": "b"}, size=6144)
    assert len(found) == 6144
    answer = call(kms, "Decrypt", {"CiphertextBlob": found, "EncryptionContext": {"a": "b"}})
    assert blob(answer, "Plaintext") == b"p" * 4096


def test_reencrypt(kms):
    answer = call(kms, "ReEncrypt", {
        "CiphertextBlob": sealed(kms, EncryptionContext={"a": "1"}), "SourceEncryptionContext": {"a": "1"},
        "DestinationKeyId": OTHER_KEY, "DestinationEncryptionContext": {"b": "2"}})
    assert answer.json["SourceKeyId"] == ARN and answer.json["KeyId"].endswith(OTHER_KEY)
    again = call(kms, "Decrypt", {"CiphertextBlob": blob(answer, "CiphertextBlob"),
                                  "EncryptionContext": {"b": "2"}, "KeyId": OTHER_KEY})
    assert blob(again, "Plaintext") == b"secret"


def test_data_keys(kms):
    for how, size in (({"KeySpec": "AES_256"}, 32), ({"KeySpec": "AES_128"}, 16), ({"NumberOfBytes": 64}, 64)):
        answer = call(kms, "GenerateDataKey", {"KeyId": KEY, **how})
        assert len(blob(answer, "Plaintext")) == size
        opened = call(kms, "Decrypt", {"CiphertextBlob": blob(answer, "CiphertextBlob")})
        assert opened.json["Plaintext"] == answer.json["Plaintext"]
        bare = call(kms, "GenerateDataKeyWithoutPlaintext", {"KeyId": KEY, **how})
        assert set(bare.json) == {"CiphertextBlob", "KeyId"}


@pytest.mark.parametrize("spec", ["RSA_2048", "ECC_NIST_P256", "ECC_NIST_P521", "ECC_SECG_P256K1"])
def test_data_key_pairs(kms, spec):
    answer = call(kms, "GenerateDataKeyPair", {"KeyId": KEY, "KeyPairSpec": spec})
    private = serialization.load_der_private_key(blob(answer, "PrivateKeyPlaintext"), None)
    public = private.public_key().public_bytes(serialization.Encoding.DER,
                                               serialization.PublicFormat.SubjectPublicKeyInfo)
    assert public == blob(answer, "PublicKey")
    opened = call(kms, "Decrypt", {"CiphertextBlob": blob(answer, "PrivateKeyCiphertextBlob")})
    assert opened.json["Plaintext"] == answer.json["PrivateKeyPlaintext"]


def test_asymmetric_encryption(kms):
    public = serialization.load_der_public_key(blob(call(kms, "GetPublicKey", {"KeyId": RSA_ENCRYPT}), "PublicKey"))
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    how = {"CiphertextBlob": public.encrypt(b"outside", oaep), "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
    assert blob(call(kms, "Decrypt", {"KeyId": RSA_ENCRYPT, **how}), "Plaintext") == b"outside"
    assert call(kms, "Decrypt", how).error == "ValidationException"
    how["EncryptionAlgorithm"] = "RSAES_OAEP_SHA_1"
    assert call(kms, "Decrypt", {"KeyId": RSA_ENCRYPT, **how}).error == "InvalidCiphertextException"


@pytest.mark.parametrize("key,algorithm", [
    (RSA_SIGN, "RSASSA_PSS_SHA_256"), (RSA_SIGN, "RSASSA_PKCS1_V1_5_SHA_512"), (ECC_SIGN, "ECDSA_SHA_256")])
def test_sign_and_verify(kms, key, algorithm):
    answer = call(kms, "Sign", {"KeyId": key, "Message": b"message", "SigningAlgorithm": algorithm})
    how = {"KeyId": key, "Message": b"message", "SigningAlgorithm": algorithm}
    verified = call(kms, "Verify", {**how, "Signature": blob(answer, "Signature")})
    assert verified.json["SignatureValid"] is True
    how["Message"] = b"another"
    assert call(kms, "Verify", {**how, "Signature": blob(answer, "Signature")}).error == "KMSInvalidSignatureException"


def test_signature_verifies_outside(kms):
    answer = call(kms, "Sign", {"KeyId": ECC_SIGN, "Message": b"message", "SigningAlgorithm": "ECDSA_SHA_256"})
    public = serialization.load_der_public_key(blob(call(kms, "GetPublicKey", {"KeyId": ECC_SIGN}), "PublicKey"))
    public.verify(blob(answer, "Signature"), b"message", ec.ECDSA(hashes.SHA256()))


def test_macs(kms):
    how = {"KeyId": HMAC, "Message": b"message", "MacAlgorithm": "HMAC_SHA_256"}
    mac = blob(call(kms, "GenerateMac", how), "Mac")
    assert len(mac) == 32
    assert call(kms, "VerifyMac", {**how, "Mac": mac}).json["MacValid"] is True
    assert call(kms, "VerifyMac", {**how, "Message": b"m", "Mac": mac}).error == "KMSInvalidMacException"


def test_key_agreement(kms):
    mine = ec.generate_private_key(ec.SECP256R1())
    answer = call(kms, "DeriveSharedSecret", {
        "KeyId": ECDH, "KeyAgreementAlgorithm": "ECDH", "PublicKey": attestation.spki(mine)})
    theirs = serialization.load_der_public_key(blob(call(kms, "GetPublicKey", {"KeyId": ECDH}), "PublicKey"))
    assert blob(answer, "SharedSecret") == mine.exchange(ec.ECDH(), theirs)


def test_random(kms):
    drawn = {call(kms, "GenerateRandom", {"NumberOfBytes": 32}).json["Plaintext"] for _ in range(3)}
    assert len(drawn) == 3 and all(len(base64.b64decode(d)) == 32 for d in drawn)


# Keys, aliases, grants, tags.

def test_life_of_a_key(kms):
    def key_state():
        return call(kms, "DescribeKey", {"KeyId": new}).json["KeyMetadata"]["KeyState"]
    answer = call(kms, "CreateKey", {"Description": "d", "Tags": [{"TagKey": "k", "TagValue": "v"}]})
    new = answer.json["KeyMetadata"]["KeyId"]
    encrypt = ("Encrypt", {"KeyId": new, "Plaintext": B64})
    assert call(kms, *encrypt).status == 200
    disabled = call(kms, "DisableKey", {"KeyId": new})
    assert (disabled.status, disabled.body, disabled.header("Content-Length")) == (200, b"", "0")
    assert call(kms, *encrypt).error == "DisabledException" and key_state() == "Disabled"
    assert call(kms, "EnableKey", {"KeyId": new}).status == 200
    assert call(kms, *encrypt).status == 200
    assert call(kms, "ScheduleKeyDeletion", {"KeyId": new, "PendingWindowInDays": 7}).status == 200
    assert call(kms, *encrypt).error == "KMSInvalidStateException" and key_state() == "PendingDeletion"
    assert call(kms, "CancelKeyDeletion", {"KeyId": new}).status == 200 and key_state() == "Disabled"
    assert call(kms, "ListResourceTags", {"KeyId": new}).json["Tags"] == [{"TagKey": "k", "TagValue": "v"}]
    assert json.loads(call(kms, "GetKeyPolicy", {"KeyId": new}).json["Policy"])["Version"] == "2012-10-17"


def test_aliases(kms):
    assert call(kms, "CreateAlias", {"AliasName": "alias/new", "TargetKeyId": KEY}).body == b""
    found = sealed(kms, key="alias/new")
    assert call(kms, "UpdateAlias", {"AliasName": "alias/new", "TargetKeyId": OTHER_KEY}).status == 200
    assert call(kms, "Decrypt", {"CiphertextBlob": found, "KeyId": "alias/new"}).error == "IncorrectKeyException"
    names = [a["AliasName"] for a in call(kms, "ListAliases", {"KeyId": OTHER_KEY}).json["Aliases"]]
    assert names == ["alias/new", "alias/other"]
    assert call(kms, "DeleteAlias", {"AliasName": "alias/new"}).status == 200
    assert call(kms, "DescribeKey", {"KeyId": "alias/new"}).error == "NotFoundException"


def test_lists_have_pages(kms):
    keys, marker = [], {}
    while True:
        answer = call(kms, "ListKeys", {"Limit": 3, **marker}).json
        keys += [k["KeyId"] for k in answer["Keys"]]
        if not answer["Truncated"]:
            break
        marker = {"Marker": answer["NextMarker"]}
    assert len(keys) == len(set(keys)) and {KEY, OTHER_KEY, HMAC} <= set(keys)


def test_grants(kms):
    how = {"KeyId": KEY, "GranteePrincipal": "arn:aws:iam::111122223333:role/r", "Operations": ["Decrypt"], "Name": "n"}
    grant = call(kms, "CreateGrant", how).json
    assert call(kms, "CreateGrant", how).json["GrantId"] == grant["GrantId"]
    assert [g["GrantId"] for g in call(kms, "ListGrants", {"KeyId": KEY}).json["Grants"]] == [grant["GrantId"]]
    assert call(kms, "RetireGrant", {"GrantToken": grant["GrantToken"]}).status == 200
    assert call(kms, "ListGrants", {"KeyId": KEY}).json["Grants"] == []


# Recipients and attestation documents.

RECIPIENT_CALLS = [
    ("Decrypt", "Plaintext"), ("GenerateDataKey", "Plaintext"), ("GenerateDataKeyPair", "PrivateKeyPlaintext"),
    ("GenerateRandom", "Plaintext"), ("DeriveSharedSecret", "SharedSecret")]


def recipient_params(kms, action):
    return {
        "Decrypt": lambda: {"CiphertextBlob": kms.make_ciphertext(KEY, b"secret")},
        "GenerateDataKey": lambda: {"KeyId": KEY, "KeySpec": "AES_256"},
        "GenerateDataKeyPair": lambda: {"KeyId": KEY, "KeyPairSpec": "ECC_NIST_P256"},
        "GenerateRandom": lambda: {"NumberOfBytes": 64},
        "DeriveSharedSecret": lambda: {
            "KeyId": ECDH, "KeyAgreementAlgorithm": "ECDH",
            "PublicKey": attestation.spki(ec.generate_private_key(ec.SECP256R1()))},
    }[action]()


@pytest.mark.parametrize("action,member", RECIPIENT_CALLS)
def test_recipient_round_trip(kms, enclave, action, member):
    params = recipient_params(kms, action)
    answer = call(kms, action, {**params, "Recipient": enclave.recipient()})
    assert answer.status == 200 and member not in answer.json
    opened = enclave.open(answer.json)
    sealed_member = {"GenerateDataKey": "CiphertextBlob", "GenerateDataKeyPair": "PrivateKeyCiphertextBlob"}
    if action in sealed_member:
        same = call(kms, "Decrypt", {"CiphertextBlob": blob(answer, sealed_member[action])})
        assert blob(same, "Plaintext") == opened
    elif action == "GenerateRandom":
        assert len(opened) == 64
    else:
        assert opened == blob(call(kms, action, params), member)


def test_openssl_opens_the_ciphertext_for_recipient(kms, enclave, tmp_path):
    answer = call(kms, "Decrypt", {**recipient_params(kms, "Decrypt"), "Recipient": enclave.recipient()})
    key = tmp_path / "key.pem"
    key.write_bytes(enclave.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                              serialization.NoEncryption()))
    done = subprocess.run(["openssl", "cms", "-decrypt", "-inform", "DER", "-inkey", str(key)], check=True,
                          input=blob(answer, "CiphertextForRecipient"), capture_output=True, timeout=30)
    assert done.stdout == b"secret"
    shown = subprocess.run(["openssl", "cms", "-cmsout", "-print", "-noout", "-inform", "DER"], check=True,
                           input=blob(answer, "CiphertextForRecipient"), capture_output=True, timeout=30)
    for word in (b"rsaesOaep", b"aes-256-cbc", b"mgf1", b"sha256", b"subjectKeyIdentifier"):
        assert word in shown.stdout


def test_openssl_seals_and_we_open(enclave, tmp_path):
    # DER, where ours is BER: the reader isn't made for our own writer only.
    certificate = tmp_path / "certificate.pem"
    key = tmp_path / "key.pem"
    key.write_bytes(enclave.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                              serialization.NoEncryption()))
    subprocess.run(["openssl", "req", "-x509", "-new", "-key", str(key), "-subj", "/CN=x", "-out", str(certificate)],
                   check=True, capture_output=True, timeout=30)
    done = subprocess.run(
        ["openssl", "cms", "-encrypt", "-aes-256-cbc", "-outform", "DER", "-binary", "-keyid", "-recip",
         str(certificate), "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256",
         "-keyopt", "rsa_mgf1_md:sha256"], input=b"sealed elsewhere", check=True, capture_output=True, timeout=30)
    assert open_ciphertext_for_recipient(enclave.key, done.stdout) == b"sealed elsewhere"


def test_another_key_cannot_open(kms, enclave):
    answer = call(kms, "GenerateRandom", {"NumberOfBytes": 8, "Recipient": enclave.recipient()})
    with pytest.raises(ValueError):
        Enclave(enclave.authority).open(answer.json)


@pytest.mark.parametrize("size", [3400, 16384, 65800, 262144])
def test_documents_of_any_size_up_to_the_largest(kms, enclave, size):
    recipient = enclave.recipient(size=size) if size > 3400 else enclave.recipient()
    if size == 262144:
        assert len(recipient["AttestationDocument"]) == 349528
    answer = call(kms, "GenerateRandom", {"NumberOfBytes": 16, "Recipient": recipient})
    assert len(enclave.open(answer.json)) == 16


def test_document_beyond_the_largest_size(kms, enclave):
    answer = call(kms, "GenerateRandom", {"NumberOfBytes": 16, "Recipient": enclave.recipient(size=262145)})
    assert answer.error == "ValidationException" and "262144" in answer.json["message"]


def test_documents_that_do_not_verify(kms, enclave):
    good = base64.b64decode(enclave.recipient()["AttestationDocument"])
    bad_signature = good[:-1] + bytes([good[-1] ^ 1])
    at = good.index(b"SHA384")
    stale = attestation.datetime.datetime.utcnow() - attestation.datetime.timedelta(hours=4)
    documents = {
        "signature": bad_signature,
        "payload": good[:at - 60] + bytes([good[at - 60] ^ 1]) + good[at - 59:],
        "another root": base64.b64decode(Enclave().recipient()["AttestationDocument"]),
        "expired": enclave.authority.document(enclave.key, leaf_start=stale),
        "no key": enclave.authority.document(),
        "not an RSA key": enclave.authority.document(ec.generate_private_key(ec.SECP256R1())),
        "truncated": good[:-5], "extended": good + b"\0",
    }
    for name, document in documents.items():
        answer = call(kms, "GenerateRandom", {"NumberOfBytes": 8, "Recipient": {
            "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": document}})
        assert answer.error == "ValidationException", name
        assert "attestation document is invalid" in answer.json["message"], name


GENUINE = sorted((DATA / "attestation").glob("*.cbor"))


@pytest.mark.parametrize("path", GENUINE, ids=[p.stem for p in GENUINE])
def test_genuine_documents(path):
    root = (DATA / "attestation" / "root-g1.der").read_bytes()
    document = attestation.parse(path.read_bytes())
    assert document.cabundle[0] == root
    if "bad-signature" in path.stem:
        with pytest.raises(attestation.AttestationError, match="bad signature of document"):
            attestation.verify(document, root, document.timestamp / 1000)
        return
    attestation.verify(document, root, document.timestamp / 1000)
    with pytest.raises(attestation.AttestationError, match="isn't valid at"):
        attestation.verify(document, root)
    with pytest.raises(attestation.AttestationError, match="expected root"):
        attestation.verify(document, attestation.AttestationAuthority().root, document.timestamp / 1000)


def test_genuine_document_as_recipient():
    root = (DATA / "attestation" / "root-g1.der").read_bytes()
    document = (DATA / "attestation" / "prod-with-public-key.cbor").read_bytes()
    params = {"NumberOfBytes": 8, "Recipient": {
        "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": document}}
    with LocalKms(attestation_root=root) as kms:
        assert "isn't valid at" in call(kms, "GenerateRandom", params).json["message"]
        kms.attestation_time = "document"
        assert set(call(kms, "GenerateRandom", params).json) == {"CiphertextForRecipient"}


# TLS.

@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tls_versions_and_resumption(version):
    with LocalKms(tls=version) as kms:
        context = tls_context(kms.ca_pem())
        with connect(kms, context=context) as client:
            assert client.ask(signed(kms, "ListKeys")).status == 200
            assert client.sock.version() == f"TLSv{version}"
            session = client.sock.session
        assert kms.resumptions == 0
        raw = socket.create_connection(("127.0.0.1", kms.port), timeout=10)
        with context.wrap_socket(raw, server_hostname=HOST, session=session) as again:
            again.sendall(signed(kms, "ListKeys"))
            assert again.recv(15) == b"HTTP/1.1 200 OK"
            assert again.session_reused
        assert kms.resumptions == 1 and len(kms.connections) == 2
        assert (kms.connections[-1].sni, kms.connections[-1].tls) == (HOST, f"TLSv{version}")


def test_tls_1_1_is_refused(kms):
    context = tls_context(kms.ca_pem())
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        connect(kms, context=context)
    kms.wait(lambda: kms.connections[-1].error)


@pytest.mark.parametrize("variant,reason", [
    ("wrong-name", "Hostname mismatch"), ("expired", "has expired"),
    ("not-yet-valid", "not yet valid"), ("self-signed", "self.signed certificate"),
    ("other-ca", "certificate verify failed"), ("not-a-server", "unsuitable certificate purpose")])
def test_wrong_certificates(kms, variant, reason):
    kms.fault("certificate", variant=variant)
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        connect(kms)
    assert call(kms, "ListKeys").status == 200


def test_every_certificate_variant_is_tested():
    tested = {m.args[1][i][0] for m in test_wrong_certificates.pytestmark for i in range(len(m.args[1]))}
    assert tested | {"good"} == set(VARIANTS)


def test_fault_tls_version(kms):
    kms.fault("tls_version", version="1.1")
    with pytest.raises(ssl.SSLError):
        connect(kms)


# Faults. What is seen on the wire is read with a raw client.

def raw_answer(kms, data=None):
    """All the bytes of an answer, until the peer closes or is silent for a while after a whole one."""
    with connect(kms, timeout=5) as client:
        client.send(data or signed(kms, "DescribeKey", {"KeyId": KEY}, headers=[("Connection", "close")]))
        received = b""
        while chunk := client.sock.recv(65536):
            received += chunk
        return received


def split(received):
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


def test_a_fault_is_for_so_many_requests_that_match(kms):
    kms.fault("throttle", count=2, action="DescribeKey")
    kms.fault("internal", count=None, body_contains=OTHER_KEY)
    with connect(kms) as client:
        def ask(action, key):
            return client.ask(signed(kms, action, {"KeyId": key})).status
        assert [ask("GetKeyPolicy", KEY), ask("DescribeKey", KEY), ask("DescribeKey", KEY),
                ask("DescribeKey", KEY)] == [200, 400, 400, 200]
        assert [ask("DescribeKey", OTHER_KEY) for _ in range(3)] == [500] * 3
        kms.clear()
        assert ask("DescribeKey", OTHER_KEY) == 200
    assert kms.requests[-2].faults == ["internal"]


def test_unknown_faults_are_errors(kms):
    for wrong in ({"kind": "throtle"}, {"kind": "throttle", "seconds": 1}, {"kind": "delay"},
                  {"kind": "reset_before_read", "action": "Decrypt"}):
        with pytest.raises(ValueError):
            kms.fault(**wrong)
    assert call(kms, "ListKeys").status == 200


@pytest.mark.parametrize("kind,error,status", [
    ("throttle", "ThrottlingException", 400), ("expired_token", "ExpiredTokenException", 400),
    ("unrecognized_client", "UnrecognizedClientException", 400), ("internal", "KMSInternalException", 500),
    ("invalid_signature", "InvalidSignatureException", 400), ("access_denied", "AccessDeniedException", 400)])
def test_error_faults_come_after_the_signature(kms, kind, error, status):
    kms.fault(kind, count=1)
    wrong = call(kms, "DescribeKey", {"KeyId": KEY}, **_without_token(kms))
    assert wrong.error == "UnrecognizedClientException" and wrong.json["message"].endswith("is invalid.")
    answer = call(kms, "DescribeKey", {"KeyId": KEY})
    assert (answer.error, answer.status) == (error, status)
    assert kms.requests[-1].verdict == error
    assert ("Message" in answer.json) == (kind == "access_denied")
    if kind == "invalid_signature":
        assert kms.credentials.current.token in answer.json["message"]


def test_error_fault_of_any_type(kms):
    kms.fault("error", error_type="KeyUnavailableException", message="m", status=503)
    answer = call(kms, "ListKeys")
    assert (answer.status, answer.json) == (503, {"__type": "KeyUnavailableException", "message": "m"})


@pytest.mark.parametrize("variant,text", [
    ("real", '"Plaintext":"c2VjcmV0"'), ("null", '"Plaintext":null'), ("empty", '"Plaintext":""'),
    ("number", '"Plaintext":1'), ("object", '"Plaintext":{"a":"c2VjcmV0"}'),
    ("null-then-real", '"Plaintext":null,"Plaintext":"c2VjcmV0"'),
    ("real-then-null", '"Plaintext":"c2VjcmV0","Plaintext":null'),
    ("escaped-name", '"\\u0050laintext":"c2VjcmV0"'), ("nested", '"Extra":{"Plaintext":"c2VjcmV0"}'),
    ("other-case", '"plaintext":"c2VjcmV0"')])
def test_leaks(kms, enclave, variant, text):
    params = {**recipient_params(kms, "Decrypt"), "Recipient": enclave.recipient()}
    kms.fault("leak", variant=variant)
    answer = call(kms, "Decrypt", params)
    assert answer.status == 200 and text in answer.body.decode()
    assert enclave.open(answer.json) == b"secret"
    assert "Plaintext" not in call(kms, "Decrypt", params).json


@pytest.mark.parametrize("action,member", RECIPIENT_CALLS)
def test_leak_of_each_action(kms, enclave, action, member):
    kms.fault("leak", keep_ciphertext=False)
    answer = call(kms, action, {**recipient_params(kms, action), "Recipient": enclave.recipient()})
    assert answer.json[member] and "CiphertextForRecipient" not in answer.json


@pytest.mark.parametrize("variant", ["missing", "null", "empty"])
def test_no_ciphertext_for_recipient(kms, enclave, variant):
    kms.fault("no_ciphertext_for_recipient", variant=variant)
    answer = call(kms, "GenerateRandom", {"NumberOfBytes": 8, "Recipient": enclave.recipient()}).json
    assert answer == {"missing": {}, "null": {"CiphertextForRecipient": None},
                      "empty": {"CiphertextForRecipient": ""}}[variant]


def test_bodies_that_are_no_plain_answer(kms):
    kms.fault("not_json")
    assert call(kms, "ListKeys").body == b"<html>It works</html>"
    kms.fault("duplicate_member", member="Truncated", value=True)
    assert call(kms, "ListKeys").body.count(b'"Truncated"') == 2
    kms.fault("extra_member")
    assert call(kms, "ListKeys").json["Extra"] == "e"
    kms.fault("body", text="caf\xe9")
    assert call(kms, "ListKeys").body == b"caf\xe9"
    kms.fault("huge_body", size=3 << 20)
    answer = call(kms, "ListKeys")
    assert len(answer.body) == 3 << 20 and answer.json
    kms.fault("gzip")
    answer = call(kms, "ListKeys")
    assert answer.header("Content-Encoding") == "gzip" and json.loads(gzip.decompress(answer.body))
    kms.fault("status", status=503, body="busy")
    assert (call(kms, "ListKeys").status, kms.requests[-1].status) == (503, 503)
    kms.fault("redirect", location="https://example.com/")
    answer = call(kms, "ListKeys")
    assert (answer.status, answer.header("Location")) == (307, "https://example.com/")


# Fault, its parameters, what the head then has, what it then hasn't.
HEADS = [
    ("set_cookie", {}, b"\r\nSet-Cookie: session=1", b"nothing"),
    ("huge_header", {"size": 20000}, b"\r\nX-Huge-0: " + b"h" * 20000, b"nothing"),
    ("bad_header", {}, b"\r\nX-Bad: a\0b", b"nothing"),
    ("bad_header", {"line": " folded"}, b"\r\n folded", b"nothing"),
    ("header", {"name": "X-A", "value": "b\rc"}, b"\r\nX-A: b\rc", b"nothing"),
    ("drop_header", {"name": "Date"}, b"HTTP/1.1 200 OK", b"\r\nDate:"),
    ("drop_header", {"name": "Content-Type"}, b"HTTP/1.1 200 OK", b"Content-Type"),
    ("drop_header", {"name": "Content-Length"}, b"HTTP/1.1 200 OK", b"Content-Length"),
    ("close_delimited", {}, b"HTTP/1.1 200 OK", b"Content-Length"),
    ("date", {"text": "yesterday"}, b"\r\nDate: yesterday", b"GMT"),
    ("http_1_0", {}, b"HTTP/1.0 200 OK", b"HTTP/1.1"),
    ("status_line", {"text": "HTTP/1.1 200"}, b"HTTP/1.1 200\r\n", b"OK"),
    ("connection_close", {}, b"\r\nConnection: close", b"nothing"),
    ("informational", {"times": 2}, b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102", b"nothing"),
    ("content_length", {"value": "abc"}, b"\r\nContent-Length: abc", b"nothing"),
    ("content_length", {"twice": True}, b"\r\nContent-Length: ", b"nothing"),
]


@pytest.mark.parametrize("kind,params,has,lacks", HEADS)
def test_heads(kms, kind, params, has, lacks):
    kms.fault(kind, **params)
    received = raw_answer(kms)
    head, _ = split(received)
    assert has in (received if kind == "informational" else head + b"\r\n")
    assert lacks not in head
    if params.get("twice"):
        assert head.count(b"Content-Length") == 2
    assert received.endswith(b"}")


def test_date_offset(kms):
    kms.fault("date", offset=-7200)
    answer = call(kms, "ListKeys")
    date = time.mktime(time.strptime(answer.header("Date"), "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone
    assert -7210 < date - time.time() < -7190


@pytest.mark.parametrize("add", [5, -5])
def test_wrong_content_length(kms, add):
    kms.fault("content_length", add=add)
    head, body = split(raw_answer(kms))
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    assert int(length.split()[1]) == len(body) + add


def test_trailing_bytes(kms):
    kms.fault("trailing")
    assert raw_answer(kms).endswith(b"}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def test_raw_bytes(kms):
    kms.fault("raw", text="\0\xff SSH-2.0")
    assert raw_answer(kms) == b"\0\xff SSH-2.0"


@pytest.mark.parametrize("variant", ["good", "one-byte", "upper-hex", "leading-zeros", "extension", "trailer"])
def test_chunked_well_formed(kms, boto, variant):
    # botocore is the judge of what is well formed.
    kms.fault("chunked", variant=variant)
    assert boto.describe_key(KeyId=KEY)["KeyMetadata"]["Arn"] == ARN
    kms.fault("chunked", variant=variant)
    head, body = split(raw_answer(kms))
    assert b"Transfer-Encoding: chunked" in head and b"Content-Length" not in head
    assert body.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("variant", sorted(set(CHUNKED) - {
    "good", "one-byte", "upper-hex", "leading-zeros", "extension", "trailer"}))
def test_chunked_garbage(kms, variant):
    kms.fault("chunked", variant=variant)
    head, body = split(raw_answer(kms))
    assert b"Transfer-Encoding: chunked" in head
    well_formed = b"%x\r\n" % (body.find(b"}}") + 2 - body.find(b"{"))
    assert not (body.startswith(well_formed) and body.endswith(b"}}\r\n0\r\n\r\n"))


def test_chunked_with_a_length_and_other_codings(kms):
    kms.fault("chunked", with_length=True)
    assert b"Content-Length" in split(raw_answer(kms))[0]
    kms.fault("chunked", coding="gzip, chunked")
    assert b"Transfer-Encoding: gzip, chunked" in split(raw_answer(kms))[0]


def test_delay_and_its_end_by_clearing(kms):
    kms.fault("delay", seconds=0.3)
    begin = time.monotonic()
    assert call(kms, "ListKeys").status == 200
    assert time.monotonic() - begin >= 0.3
    kms.forget_requests()
    kms.fault("hang")
    with connect(kms) as client:
        client.send(signed(kms, "ListKeys"))
        waiting = kms.wait_for_requests(1)[0]
        assert waiting.status is None
        kms.clear()
        assert client.read().status == waiting.status == 200


def test_a_client_that_leaves_is_noticed(kms):
    kms.forget_requests()
    kms.fault("hang", count=None)
    client = connect(kms)
    client.send(signed(kms, "ListKeys"))
    kms.wait_for_requests(1)
    client.close()
    kms.wait(lambda: kms.connections[-1].closed)
    assert kms.requests[-1].status is None


@pytest.mark.parametrize("after", [1, 20, "head", "body"])
def test_stall(kms, after):
    kms.fault("stall", after=after)
    with connect(kms, timeout=0.5) as client:
        client.send(signed(kms, "DescribeKey", {"KeyId": KEY}))
        received = b""
        with pytest.raises(TimeoutError):
            while chunk := client.sock.recv(65536):
                received += chunk
        if isinstance(after, int):
            assert len(received) == after
        assert (b"\r\n\r\n" in received) == (after == "body") and received and not received.endswith(b"}}")
        kms.clear()
        client.sock.settimeout(10)
        while not received.endswith(b"}}"):
            received += client.sock.recv(65536)
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")


def test_drip(kms):
    kms.fault("drip", piece=10, interval=0)
    with connect(kms) as client:
        client.send(signed(kms, "DescribeKey", {"KeyId": KEY}))
        pieces = [client.sock.recv(65536)]
        while not pieces[-1].endswith(b"}}"):
            pieces.append(client.sock.recv(65536))
    # TLS gives one record at a time: each piece is seen.
    assert len(pieces) > 40 and {len(p) for p in pieces[:-1]} == {10}


@pytest.mark.parametrize("kind,how", [
    ("reset", {}), ("reset", {"after": 7}), ("reset", {"after": "head"}), ("reset", {"after": "body"}),
    ("reset_before_read", {})])
def test_resets(kms, kind, how):
    kms.forget_requests()
    kms.fault(kind, **how)
    with connect(kms) as client:
        client.send(signed(kms, "DescribeKey", {"KeyId": KEY}))
        # Below TLS: Python's ssl takes a reset for an end of file.
        with pytest.raises(ConnectionResetError):
            while socket.socket.recv(client.sock, 65536):
                pass
    assert [r.status for r in kms.requests] == {"reset_before_read": []}.get(kind, [200 if how else None])


@pytest.mark.parametrize("kind,how,count", [
    ("close", {}, 0), ("close", {"after": 7}, 7), ("close", {"after": "body"}, None),
    ("close_before_read", {}, 0)])
def test_closes(kms, kind, how, count):
    kms.fault(kind, **how)
    with connect(kms) as client:
        client.send(signed(kms, "DescribeKey", {"KeyId": KEY}))
        received = b""
        while chunk := client.sock.recv(65536):
            received += chunk
    if count is not None:
        assert len(received) == count
    assert not received.endswith(b"}}")


@pytest.mark.parametrize("notify", [True, False])
def test_close_with_and_without_close_notify(kms, notify):
    kms.fault("close", after=30, notify=notify)
    raw = socket.create_connection(("127.0.0.1", kms.port), timeout=10)
    context = tls_context(kms.ca_pem())
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    with context.wrap_socket(raw, server_hostname=HOST, suppress_ragged_eofs=False) as client:
        client.sendall(signed(kms, "ListKeys"))
        assert len(client.recv(1000)) == 30
        if notify:
            assert client.recv(1000) == b""
        else:
            with pytest.raises(ssl.SSLError, match="UNEXPECTED_EOF"):
                client.recv(1000)


@pytest.mark.parametrize("kind", ["reset_at_accept", "close_at_accept"])
def test_ends_before_tls(kms, kind):
    kms.fault(kind)
    with pytest.raises((ConnectionError, ssl.SSLError)):
        connect(kms)
    assert call(kms, "ListKeys").status == 200


def test_hang_before_tls(kms):
    kms.fault("hang_at_accept")
    with pytest.raises(TimeoutError):
        connect(kms, timeout=0.3)
    assert call(kms, "ListKeys").status == 200


def test_close_silently_kills_the_next_request(kms):
    kms.fault("close_silently")
    with connect(kms) as client:
        answer = client.ask(signed(kms, "ListKeys"))
        assert answer.status == 200 and answer.header("Connection") is None
        assert client.at_end()


def test_stop_refuses_and_start_takes_the_same_port():
    with LocalKms() as kms:
        port, client = kms.port, connect(kms)
        kms.stop()
        assert client.at_end()
        with pytest.raises(ConnectionRefusedError):
            connect(kms)
        kms.start()
        assert kms.port == port and call(kms, "ListKeys").status == 200


def test_keep_alive_pipelining_and_split_requests(kms):
    kms.forget_requests()
    before = len(kms.connections)
    with connect(kms) as client:
        data = signed(kms, "DescribeKey", {"KeyId": KEY})
        client.send(data * 3)
        assert [client.read().status for _ in range(3)] == [200] * 3
        for i in range(0, len(data), 100):
            client.send(data[i:i + 100])
        assert client.read().status == 200
        client.send(data.replace(b"\r\n", b"\r\nExpect: 100-continue\r\n", 1))
        assert client.read().status == 200
    assert len(kms.requests) == 5 and len(kms.connections) == before + 1
    assert {r.connection.number for r in kms.requests} == {before + 1}


def test_what_a_record_holds(kms):
    call(kms, "DescribeKey", {"KeyId": KEY})
    record = kms.requests[-1].as_dict()
    assert base64.b64decode(record["body"]) == json.dumps({"KeyId": KEY}).encode()
    assert record["json"] == {"KeyId": KEY} and record["action"] == "DescribeKey"
    assert (record["verdict"], record["status"], record["sni"]) == ("ok", 200, HOST)
    assert ["Host", HOST] in record["headers"] and record["tls"] in ("TLSv1.2", "TLSv1.3")
    assert abs(record["time"] - time.time()) < 60
    json.dumps(record)


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
        return client.ask(f"{method} {path} HTTP/1.1\r\nHost: 169.254.169.254\r\n{lines}\r\n".encode())


def imds_token(imds, ttl=60):
    answer = http(imds, "PUT", "/latest/api/token", {TTL: ttl})
    assert (answer.status, answer.header("X-Aws-Ec2-Metadata-Token-Ttl-Seconds")) == (200, str(ttl))
    return {TOKEN: answer.body.decode()}


def test_botocore_takes_the_credentials(monkeypatch, kms, ca_file):
    with LocalImds(kms.credentials) as imds:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
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
                       ("/latest/meta-data/services/domain", "amazonaws.com"), (ROLES, "enclave-parent")):
        answer = http(imds, "GET", path, token)
        assert (answer.status, answer.body) == (200, text.encode())
    found = http(imds, "GET", ROLES + "enclave-parent", token).json
    assert set(found) == {"Code", "LastUpdated", "Type", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
    current = imds.credentials.current
    assert (found["Code"], found["AccessKeyId"], found["Token"]) == ("Success", current.access_key_id, current.token)
    assert http(imds, "GET", ROLES + "other", token).status == 404
    assert http(imds, "GET", "/latest/meta-data/nothing", token).status == 404


@pytest.mark.parametrize("method,path,headers,status", [
    ("GET", ROLES, {}, 401), ("GET", ROLES, {TOKEN: "made-up"}, 401), ("GET", "/latest/api/token", {}, 405),
    ("PUT", "/latest/api/token", {}, 400), ("PUT", "/latest/api/token", {TTL: "0"}, 400),
    ("PUT", "/latest/api/token", {TTL: "21601"}, 400), ("PUT", "/latest/api/token", {TTL: "-1"}, 400),
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
    assert http(imds, "GET", ROLES, token).status == 404 and http(imds, "GET", path, token).status == 404
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
        assert http(container, "POST", "/v1/credentials", {"Authorization": container.token}).status == 405
        assert http(container, "GET", "/v1/other", {"Authorization": container.token}).status == 404
        found = http(container, "GET", "/v1/credentials", {"Authorization": container.token}).json
        assert set(found) == {"AccessKeyId", "SecretAccessKey", "Token", "Expiration", "AccountId"}
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.credentials_url)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", container.token)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        assert boto3.session.Session().get_credentials().access_key == container.credentials.current.access_key_id
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
        assert bridge.passages[0].sent == b"hello world" and len(bridge.passages[0].received) == 100000
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
                           "--bridge", "127.0.0.1:0=unix:/none"], stdout=subprocess.PIPE, text=True) as process:
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
        assert [r["verdict"] for r in last["requests"]] == ["ThrottlingException", "ok"] and last["last"] == 4
        old = store.current
        fresh = control.ask({"rotate": {"revoke_old": True}})["access_key_id"]
        assert store.current.access_key_id == fresh != old.access_key_id
        assert ask("ListKeys").status == 200
        control.ask({"to": "imds", "set": {"role": None}})
        assert control.ask({"to": "imds", "state": True})["role"] is None
        made = control.ask({"ciphertext": {"key": KEY, "plaintext": B64, "size": 6144}})["ciphertext"]
        assert base64.b64decode(ask("Decrypt", {"CiphertextBlob": made}).json["Plaintext"]) == b"x"
        control.ask({"stop": True})
        with pytest.raises(ConnectionRefusedError):
            ask("ListKeys")
        control.ask({"start": True})
        assert control.ask({"clear": True}) == {"cleared": 0}
        for wrong in ({"fault": {"kind": "nothing"}}, {"jump": True}, {"set": {"keys": 1}}, {"to": "x", "clear": True}):
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
    with subprocess.Popen([str(LIB / "local_imds.py"), "--dir", str(tmp_path / "imds"), "--credentials",
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
        [str(LIB / "enclave.py"), "--connect", f"127.0.0.1:{listener.getsockname()[1]}", "--attestation",
         str(folder / "attestation"), "GenerateRandom", '{"NumberOfBytes": 5}'], stdout=subprocess.PIPE)
    client, _ = listener.accept()
    with client, listener:
        asked = b""
        while b"\r\n\r\n" not in asked or not asked.endswith(b"}}"):
            asked += client.recv(65536)
        assert b"Authorization" not in asked
        with Client(("127.0.0.1", state["kms"]["port"]), ca=ca, server_name=HOST) as upstream:
            upstream.send(sign(store.current, REGION, "GenerateRandom", host=HOST, body=asked.split(b"\r\n\r\n")[1]))
            answer = upstream.read()
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer.body) + answer.body)
        shown = json.loads(process.communicate(timeout=30)[0])
    assert shown["status"] == 200 and len(base64.b64decode(shown["opened"])) == 5
