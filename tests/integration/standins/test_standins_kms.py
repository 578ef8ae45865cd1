# SPDX-License-Identifier: Apache-2.0
"""The local KMS takes and refuses what AWS does: signatures, requests, parameters."""

import base64
import json
import subprocess
import time
from email.utils import parsedate_to_datetime

import pytest

from kms import model as kms_model
from kms.client import request
from standins import LocalKms, make_user_key
from standins_help import (
    ARN, B64, blob, boto, ca_file, call, connect, DATA, ECC_SIGN, ECDH, enclave, HMAC, HOST,
    KEY, kms, OTHER_KEY, REGION, RSA_ENCRYPT, RSA_SIGN, shared_kms, signed,
    without_token)

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


def _other_token(kms):
    return {"credentials": type(kms.credentials.current)(
        **{**vars(kms.credentials.current), "token": kms.credentials.current.token[:-3] + "A=="})}


# What is wrong, how it is asked, the answer's type, a part of its message.
WRONGLY_SIGNED = [
    ("secret", _other_secret, "InvalidSignatureException",
     "signature we calculated does not match"),
    ("token left out", without_token, "UnrecognizedClientException", "is invalid"),
    ("another token", _other_token, "UnrecognizedClientException", "is invalid"),
    ("unknown key", lambda kms: {"credentials": make_user_key()}, "UnrecognizedClientException",
     "is invalid"),
    ("region", lambda kms: {"region": "us-east-1"}, "InvalidSignatureException",
     "valid region, not 'us-east-1'"),
    ("service", lambda kms: {"service": "sts"}, "InvalidSignatureException",
     "correct service: 'kms'"),
    ("too old", lambda kms: {"when": time.time() - 302}, "InvalidSignatureException",
     "Signature expired: "),
    ("too new", lambda kms: {"when": time.time() + 303}, "InvalidSignatureException",
     "Signature not yet current: "),
    ("unsigned x-amz", lambda kms: {"unsigned": [("X-Amz-Extra", "1")]},
     "InvalidSignatureException",
     "not signed: x-amz-extra"),
    ("host unsigned", lambda kms: {"leave_out": ["host"]}, "InvalidSignatureException",
     "must be a 'SignedHeader'"),
    ("target unsigned", lambda kms: {"leave_out": ["x-amz-target"]}, "InvalidSignatureException",
     "not signed: x-amz-target"),
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


def _upper_case_signature(data):
    head, _, rest = data.partition(b"Signature=")
    return head + b"Signature=" + rest[:64].upper() + rest[64:]


# A signed request changed on the way: the text replaced, its replacement, the answer's type.
TAMPERED = [
    ("body", _replace(b'"KeyId"', b'"KeyIx"'), "InvalidSignatureException"),
    ("target", _replace(b"TrentService.DescribeKey", b"TrentService.GetPublicKey"),
     "InvalidSignatureException"),
    ("host", _replace(HOST.encode() + b"\r", b"localhost\r"), "InvalidSignatureException"),
    ("content type", _replace(b"-json-1.1", b"-json-1.1; charset=utf-8"),
     "InvalidSignatureException"),
    ("host not signed", _replace(b"content-type;host;", b"content-type;"),
     "InvalidSignatureException"),
    ("date not signed", _replace(b"x-amz-date;", b""), "InvalidSignatureException"),
    ("signed but absent", _replace(b"host;x-amz-date", b"host;x-absent;x-amz-date"),
     "InvalidSignatureException"),
    ("unsorted names", _replace(b"content-type;host", b"host;content-type"),
     "IncompleteSignatureException"),
    ("terminator", _replace(b"/aws4_request", b"/aws5_request"), "InvalidSignatureException"),
    ("four-part scope", _replace(b"/kms/aws4_request", b"/kms"), "IncompleteSignatureException"),
    ("algorithm", _replace(b"AWS4-HMAC-SHA256", b"AWS4-HMAC-SHA512"),
     "IncompleteSignatureException"),
    ("no signature", _replace(b", Signature=", b", Signed="), "IncompleteSignatureException"),
    ("no date", _replace(b"X-Amz-Date:", b"X-Nope-Date:"), "IncompleteSignatureException"),
    ("upper-case signature", _upper_case_signature, "InvalidSignatureException"),
    ("no Authorization", _replace(b"Authorization:", b"Proxy-Authorization:"),
     "MissingAuthenticationTokenException"),
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


def test_user_keywithout_token(kms):
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
    date = parsedate_to_datetime(answer.header("Date")).timestamp()
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


# Action, body, the error's type, a part of its message (None: there is none).
INVALID = [
    ("Encrypt", b"{", "SerializationException", None),
    ("Encrypt", b'{"KeyId":NaN}', "SerializationException", None),
    ("Encrypt", b'"x"', "SerializationException", "STRING_VALUE"),
    ("Encrypt", b"\xff", "SerializationException", None),
    ("Encrypt", b'{"KeyId":"\\ud800"}', "SerializationException", None),
    ("Encrypt", b"", "ValidationException", "2 validation errors"),
    ("Encrypt", b"{}", "ValidationException",
     "Value null at 'keyId' failed to satisfy constraint: Member must not be null"),
    ("Encrypt", {"KeyId": KEY}, "ValidationException", "'plaintext'"),
    ("Encrypt", {"KeyId": 5, "Plaintext": B64}, "SerializationException",
     "NUMBER_VALUE can not be converted to String"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": "no base64!"}, "SerializationException", None),
    ("Encrypt", {"KeyId": KEY, "Plaintext": ""}, "ValidationException",
     "greater than or equal to 1"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": b"x" * 4097}, "ValidationException",
     "less than or equal to 4096"),
    ("Encrypt", {"KeyId": "k" * 2049, "Plaintext": B64}, "ValidationException",
     "less than or equal to 2048"),
    ("Encrypt", {"KeyId": "", "Plaintext": B64}, "ValidationException", "'keyId'"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": B64, "EncryptionContext": {"a": 1}},
     "SerializationException", "String"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": B64, "EncryptionContext": []},
     "SerializationException", "START_ARRAY"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": B64, "EncryptionAlgorithm": "ROT13"},
     "ValidationException", "enum value set"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": B64, "GrantTokens": ["t"] * 11}, "ValidationException",
     "'grantTokens'"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": B64, "DryRun": "yes"}, "SerializationException",
     "Boolean"),
    ("Encrypt", {"KeyId": KEY, "Plaintext": B64, "DryRun": True}, "DryRunOperationException",
     "would have succeeded"),
    ("Encrypt", {"KeyId": RSA_SIGN, "Plaintext": B64}, "InvalidKeyUsageException", "SIGN_VERIFY"),
    ("Encrypt", {"KeyId": RSA_ENCRYPT, "Plaintext": B64}, "InvalidKeyUsageException",
     "incompatible"),
    ("Decrypt", {"KeyId": KEY}, "ValidationException", "'ciphertextBlob'"),
    ("Decrypt", {"CiphertextBlob": B64}, "InvalidCiphertextException", None),
    ("Decrypt", {"CiphertextBlob": b"x" * 6145}, "ValidationException", "6144"),
    ("GenerateDataKey", {"KeyId": KEY}, "ValidationException",
     "either number of bytes or key spec"),
    ("GenerateDataKey", {"KeyId": KEY, "KeySpec": "AES_256", "NumberOfBytes": 32},
     "ValidationException", "either"),
    ("GenerateDataKey", {"KeyId": KEY, "NumberOfBytes": 1025}, "ValidationException", "1024"),
    ("GenerateDataKey", {"KeyId": KEY, "NumberOfBytes": 1.5}, "SerializationException", "Integer"),
    ("GenerateDataKey", {"KeyId": RSA_ENCRYPT, "KeySpec": "AES_256"}, "InvalidKeyUsageException",
     "RSA_2048"),
    ("GenerateRandom", {}, "ValidationException", "NumberOfBytes"),
    ("GenerateRandom", {"NumberOfBytes": 8, "Recipient": {}}, "ValidationException", "Recipient"),
    ("GenerateRandom", {"NumberOfBytes": 8, "Recipient": "r"}, "SerializationException",
     "structure"),
    ("GenerateRandom", {"NumberOfBytes": 8,
                        "Recipient": {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_1"}},
     "ValidationException", "recipient.keyEncryptionAlgorithm"),
    ("GenerateRandom", {"NumberOfBytes": 8, "Recipient": {
        "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": B64}},
     "ValidationException", "attestation document is invalid"),
    ("DescribeKey", {"KeyId": "alias/none"}, "NotFoundException", ":alias/none is not found."),
    ("DescribeKey", {"KeyId": "11111111-1111-1111-1111-111111111111"}, "NotFoundException",
     "does not exist"),
    ("DescribeKey", {"KeyId": "nonsense"}, "NotFoundException", "Invalid keyId 'nonsense'"),
    ("DescribeKey", {"KeyId": ARN.replace(REGION, "us-east-1")}, "NotFoundException",
     "Invalid arn us-east-1"),
    ("DescribeKey", {"KeyId": "arn:aws:s3:::bucket"}, "InvalidArnException", "Invalid arn"),
    ("EnableKey", {"KeyId": "alias/payments"}, "InvalidArnException", "alias"),
    ("CreateAlias", {"AliasName": "noprefix", "TargetKeyId": KEY}, "ValidationException", "alias/"),
    ("CreateAlias", {"AliasName": "alias/payments", "TargetKeyId": KEY}, "AlreadyExistsException",
     "alias/payments"),
    ("CreateAlias", {"AliasName": "alias/b c", "TargetKeyId": KEY}, "ValidationException",
     "regular expression"),
    ("DeleteAlias", {"AliasName": "alias/none"}, "NotFoundException", "is not found"),
    ("CreateKey", {"KeySpec": "RSA_2048"}, "ValidationException", "KeyUsage"),
    ("ListKeys", {"Limit": 0}, "ValidationException", "'limit'"),
    ("ListKeys", {"Marker": "!"}, "InvalidMarkerException", "marker"),
    ("GetPublicKey", {"KeyId": KEY}, "UnsupportedOperationException", "SYMMETRIC_DEFAULT"),
    ("Sign", {"KeyId": ECC_SIGN, "Message": B64, "SigningAlgorithm": "ECDSA_SHA_384"},
     "InvalidKeyUsageException", "ECC_NIST_P256"),
    ("Sign", {"KeyId": ECC_SIGN, "Message": B64, "MessageType": "DIGEST",
              "SigningAlgorithm": "ECDSA_SHA_256"},
     "ValidationException", "Digest is invalid length"),
    ("VerifyMac", {"KeyId": HMAC, "Message": B64, "Mac": B64, "MacAlgorithm": "HMAC_SHA_256"},
     "KMSInvalidMacException", None),
    ("DeriveSharedSecret", {"KeyId": ECDH, "KeyAgreementAlgorithm": "ECDH", "PublicKey": B64},
     "ValidationException", "curve"),
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
