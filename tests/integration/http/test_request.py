# SPDX-License-Identifier: Apache-2.0
"""One request from an enclave to KMS and back."""

import base64

from kms.client import request

KEY = "alias/payments"


def test_an_allowed_request_is_signed_and_answered(daemon, kms):
    with daemon, daemon.client() as enclave:
        answer = enclave.ask(request("DescribeKey", {"KeyId": KEY}))
        assert answer.status == 200
        assert answer.json["KeyMetadata"]["KeyId"] == "1234abcd-12ab-34cd-56ef-1234567890ab"
        asked = kms.requests[-1]
        assert asked.verdict == "ok"
        assert asked.access_key_id.startswith("ASIA")
        record = daemon.record(REASON="allowed")
        assert record["ENCLAVE"] == "payments"
        assert record["KMS_KEY"] == KEY
        assert record["AWS_REQUEST_ID"] == answer.header("x-amzn-RequestId")


def test_what_was_encrypted_is_decrypted(daemon):
    secret = base64.b64encode(b"the secret").decode()
    context = {"app": "payments"}
    with daemon, daemon.client() as enclave:
        sealed = enclave.ask(request("Encrypt", {"KeyId": KEY, "Plaintext": secret, "EncryptionContext": context}))
        opened = enclave.ask(request("Decrypt", {"KeyId": KEY, "CiphertextBlob": sealed.json["CiphertextBlob"],
                                                 "EncryptionContext": context}))
    assert opened.json["Plaintext"] == secret


def test_answers_of_every_length_are_whole(daemon):
    """Up to 4 KiB an answer is sent as one piece, above as two; the next one follows on the connection."""
    with daemon, daemon.client() as enclave:
        for length in (1, *range(2600, 3000, 3), 4096):
            secret = base64.b64encode(bytes(i % 251 for i in range(length))).decode()
            sealed = enclave.ask(request("Encrypt", {"KeyId": KEY, "Plaintext": secret}))
            opened = enclave.ask(request("Decrypt", {"KeyId": KEY, "CiphertextBlob": sealed.json["CiphertextBlob"]}))
            assert opened.json["Plaintext"] == secret, length


def test_what_no_rule_allows_never_leaves(daemon, kms):
    with daemon, daemon.client() as enclave:
        answer = enclave.ask(request("ScheduleKeyDeletion", {"KeyId": KEY}))
        assert answer.status == 400
        assert answer.error == "AccessDeniedException"
        assert daemon.record(REASON="action")["VERDICT"] == "refuse"
    assert not kms.requests
