# SPDX-License-Identifier: Apache-2.0
"""The local KMS does real cryptography: other implementations open and verify what it makes."""

import base64
import json
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

from nitro import attestation, cms
from standins import Enclave, LocalKms, open_ciphertext_for_recipient
from standins_help import (
    ARN, B64, blob, call, connect, DATA, ECC_SIGN, ECDH, enclave, HMAC, KEY, kms, OTHER_KEY,
    RECIPIENT_CALLS, recipient_params, RSA_ENCRYPT, RSA_SIGN, shared_kms, signed)

# Cryptography.

def sealed(kms, plaintext=b"secret", key=KEY, **more):
    return blob(call(kms, "Encrypt", {"KeyId": key, "Plaintext": plaintext, **more}),
                "CiphertextBlob")


@pytest.mark.parametrize("name", [KEY, ARN, "alias/payments",
                                  ARN.replace(f"key/{KEY}", "alias/payments")])
def test_every_name_of_a_key(kms, name):
    answer = call(kms, "Decrypt", {"KeyId": name, "CiphertextBlob": sealed(kms, key=name)})
    assert (answer.json["KeyId"], blob(answer, "Plaintext")) == (ARN, b"secret")


def test_decrypt_wants_the_same_context_whatever_its_order(kms):
    found = sealed(kms, EncryptionContext={"a": "1", "b": "2"})
    same = {"CiphertextBlob": found, "EncryptionContext": {"b": "2", "a": "1"}}
    assert blob(call(kms, "Decrypt", same), "Plaintext") == b"secret"
    for context in ({"a": "1"}, {"a": "2", "b": "1"}, {"A": "1", "b": "2"},
                    {"a": "1", "b": "2", "c": ""}, {}):
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
        "CiphertextBlob": sealed(kms, EncryptionContext={"a": "1"}),
        "SourceEncryptionContext": {"a": "1"},
        "DestinationKeyId": OTHER_KEY, "DestinationEncryptionContext": {"b": "2"}})
    assert answer.json["SourceKeyId"] == ARN and answer.json["KeyId"].endswith(OTHER_KEY)
    again = call(kms, "Decrypt", {"CiphertextBlob": blob(answer, "CiphertextBlob"),
                                  "EncryptionContext": {"b": "2"}, "KeyId": OTHER_KEY})
    assert blob(again, "Plaintext") == b"secret"


def test_data_keys(kms):
    for how, size in (({"KeySpec": "AES_256"}, 32), ({"KeySpec": "AES_128"}, 16),
                      ({"NumberOfBytes": 64}, 64)):
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
    public = serialization.load_der_public_key(blob(call(kms, "GetPublicKey",
                                                         {"KeyId": RSA_ENCRYPT}), "PublicKey"))
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    how = {"CiphertextBlob": public.encrypt(b"outside", oaep),
           "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
    assert blob(call(kms, "Decrypt", {"KeyId": RSA_ENCRYPT, **how}), "Plaintext") == b"outside"
    assert call(kms, "Decrypt", how).error == "ValidationException"
    how["EncryptionAlgorithm"] = "RSAES_OAEP_SHA_1"
    assert call(kms, "Decrypt", {"KeyId": RSA_ENCRYPT, **how}).error == "InvalidCiphertextException"


@pytest.mark.parametrize("key,algorithm", [
    (RSA_SIGN, "RSASSA_PSS_SHA_256"), (RSA_SIGN, "RSASSA_PKCS1_V1_5_SHA_512"),
    (ECC_SIGN, "ECDSA_SHA_256")])
def test_sign_and_verify(kms, key, algorithm):
    answer = call(kms, "Sign", {"KeyId": key, "Message": b"message", "SigningAlgorithm": algorithm})
    how = {"KeyId": key, "Message": b"message", "SigningAlgorithm": algorithm}
    verified = call(kms, "Verify", {**how, "Signature": blob(answer, "Signature")})
    assert verified.json["SignatureValid"] is True
    how["Message"] = b"another"
    refused = call(kms, "Verify", {**how, "Signature": blob(answer, "Signature")})
    assert refused.error == "KMSInvalidSignatureException"


def test_signature_verifies_outside(kms):
    answer = call(kms, "Sign", {"KeyId": ECC_SIGN, "Message": b"message",
                                "SigningAlgorithm": "ECDSA_SHA_256"})
    public = serialization.load_der_public_key(blob(call(kms, "GetPublicKey", {"KeyId": ECC_SIGN}),
                                                    "PublicKey"))
    public.verify(blob(answer, "Signature"), b"message", ec.ECDSA(hashes.SHA256()))


def test_macs(kms):
    how = {"KeyId": HMAC, "Message": b"message", "MacAlgorithm": "HMAC_SHA_256"}
    mac = blob(call(kms, "GenerateMac", how), "Mac")
    assert len(mac) == 32
    assert call(kms, "VerifyMac", {**how, "Mac": mac}).json["MacValid"] is True
    assert call(kms, "VerifyMac", {**how, "Message": b"m",
                                   "Mac": mac}).error == "KMSInvalidMacException"


def test_key_agreement(kms):
    mine = ec.generate_private_key(ec.SECP256R1())
    answer = call(kms, "DeriveSharedSecret", {
        "KeyId": ECDH, "KeyAgreementAlgorithm": "ECDH", "PublicKey": attestation.spki(mine)})
    theirs = serialization.load_der_public_key(blob(call(kms, "GetPublicKey", {"KeyId": ECDH}),
                                                    "PublicKey"))
    assert blob(answer, "SharedSecret") == mine.exchange(ec.ECDH(), theirs)


def test_random(kms):
    drawn = {call(kms, "GenerateRandom", {"NumberOfBytes": 32}).json["Plaintext"] for _ in range(3)}
    assert len(drawn) == 3 and all(len(base64.b64decode(d)) == 32 for d in drawn)


# Keys, aliases, grants, tags.

def test_life_of_a_key(kms):
    def key_state():
        return call(kms, "DescribeKey", {"KeyId": new}).json["KeyMetadata"]["KeyState"]
    answer = call(kms, "CreateKey", {"Description": "d",
                                     "Tags": [{"TagKey": "k", "TagValue": "v"}]})
    new = answer.json["KeyMetadata"]["KeyId"]
    encrypt = ("Encrypt", {"KeyId": new, "Plaintext": B64})
    assert call(kms, *encrypt).status == 200
    disabled = call(kms, "DisableKey", {"KeyId": new})
    assert (disabled.status, disabled.body, disabled.header("Content-Length")) == (200, b"", "0")
    assert call(kms, *encrypt).error == "DisabledException" and key_state() == "Disabled"
    assert call(kms, "EnableKey", {"KeyId": new}).status == 200
    assert call(kms, *encrypt).status == 200
    assert call(kms, "ScheduleKeyDeletion", {"KeyId": new, "PendingWindowInDays": 7}).status == 200
    assert call(kms, *encrypt).error == "KMSInvalidStateException"
    assert key_state() == "PendingDeletion"
    assert call(kms, "CancelKeyDeletion",
                {"KeyId": new}).status == 200 and key_state() == "Disabled"
    assert call(kms, "ListResourceTags", {"KeyId": new}).json["Tags"] == [{"TagKey": "k",
                                                                           "TagValue": "v"}]
    assert json.loads(call(kms, "GetKeyPolicy",
                           {"KeyId": new}).json["Policy"])["Version"] == "2012-10-17"


def test_aliases(kms):
    assert call(kms, "CreateAlias", {"AliasName": "alias/new", "TargetKeyId": KEY}).body == b""
    found = sealed(kms, key="alias/new")
    assert call(kms, "UpdateAlias", {"AliasName": "alias/new",
                                     "TargetKeyId": OTHER_KEY}).status == 200
    assert call(kms, "Decrypt", {"CiphertextBlob": found,
                                 "KeyId": "alias/new"}).error == "IncorrectKeyException"
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
    how = {"KeyId": KEY, "GranteePrincipal": "arn:aws:iam::111122223333:role/r",
           "Operations": ["Decrypt"], "Name": "n"}
    grant = call(kms, "CreateGrant", how).json
    assert call(kms, "CreateGrant", how).json["GrantId"] == grant["GrantId"]
    assert [g["GrantId"] for g in call(kms, "ListGrants",
                                       {"KeyId": KEY}).json["Grants"]] == [grant["GrantId"]]
    assert call(kms, "RetireGrant", {"GrantToken": grant["GrantToken"]}).status == 200
    assert call(kms, "ListGrants", {"KeyId": KEY}).json["Grants"] == []


# Recipients and attestation documents.

@pytest.mark.parametrize("action,member", RECIPIENT_CALLS)
def test_recipient_round_trip(kms, enclave, action, member):
    params = recipient_params(kms, action)
    answer = call(kms, action, {**params, "Recipient": enclave.recipient()})
    assert answer.status == 200 and member not in answer.json
    opened = enclave.open(answer.json)
    sealed_member = {"GenerateDataKey": "CiphertextBlob",
                     "GenerateDataKeyPair": "PrivateKeyCiphertextBlob"}
    if action in sealed_member:
        same = call(kms, "Decrypt", {"CiphertextBlob": blob(answer, sealed_member[action])})
        assert blob(same, "Plaintext") == opened
    elif action == "GenerateRandom":
        assert len(opened) == 64
    else:
        assert opened == blob(call(kms, action, params), member)


def test_openssl_opens_the_ciphertext_for_recipient(kms, enclave, tmp_path):
    answer = call(kms, "Decrypt", {**recipient_params(kms, "Decrypt"),
                                   "Recipient": enclave.recipient()})
    key = tmp_path / "key.pem"
    key.write_bytes(enclave.key.private_bytes(serialization.Encoding.PEM,
                                              serialization.PrivateFormat.PKCS8,
                                              serialization.NoEncryption()))
    done = subprocess.run(["openssl", "cms", "-decrypt", "-inform", "DER", "-inkey", str(key)],
                          check=True,
                          input=blob(answer, "CiphertextForRecipient"), capture_output=True,
                          timeout=30)
    assert done.stdout == b"secret"
    shown = subprocess.run(["openssl", "cms", "-cmsout", "-print", "-noout", "-inform", "DER"],
                           check=True,
                           input=blob(answer, "CiphertextForRecipient"), capture_output=True,
                           timeout=30)
    for word in (b"rsaesOaep", b"aes-256-cbc", b"mgf1", b"sha256", b"subjectKeyIdentifier"):
        assert word in shown.stdout


def test_openssl_seals_and_we_open(enclave, tmp_path):
    # DER, where ours is BER: the reader isn't made for our own writer only.
    certificate = tmp_path / "certificate.pem"
    key = tmp_path / "key.pem"
    key.write_bytes(enclave.key.private_bytes(serialization.Encoding.PEM,
                                              serialization.PrivateFormat.PKCS8,
                                              serialization.NoEncryption()))
    subprocess.run(["openssl", "req", "-x509", "-new", "-key", str(key), "-subj", "/CN=x", "-out",
                    str(certificate)],
                   check=True, capture_output=True, timeout=30)
    done = subprocess.run(
        ["openssl", "cms", "-encrypt", "-aes-256-cbc", "-outform", "DER", "-binary", "-keyid",
         "-recip",
         str(certificate), "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256",
         "-keyopt", "rsa_mgf1_md:sha256"], input=b"sealed elsewhere", check=True,
         capture_output=True, timeout=30)
    assert open_ciphertext_for_recipient(enclave.key, done.stdout) == b"sealed elsewhere"


@pytest.mark.parametrize("what", ["ENVELOPED_DATA", "RSAES_OAEP", "MGF1", "SHA256", "AES256_CBC"])
def test_another_algorithm_is_not_opened(enclave, what):
    oid = getattr(cms, what)
    found = cms.seal(enclave.key.public_key(), b"secret")
    assert open_ciphertext_for_recipient(enclave.key, found) == b"secret" and oid in found
    with pytest.raises(ValueError):
        open_ciphertext_for_recipient(enclave.key, found.replace(oid, oid[:-1] + b"\x7f", 1))


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
    answer = call(kms, "GenerateRandom", {"NumberOfBytes": 16,
                                          "Recipient": enclave.recipient(size=262145)})
    assert answer.error == "ValidationException" and "262144" in answer.json["message"]


def test_documents_that_do_not_verify(kms, enclave):
    good = base64.b64decode(enclave.recipient()["AttestationDocument"])
    bad_signature = good[:-1] + bytes([good[-1] ^ 1])
    at = good.index(b"SHA384")
    stale = attestation.datetime.datetime.utcnow() - attestation.datetime.timedelta(hours=4)
    forger = attestation.AttestationAuthority()
    forger._chain[0] = (forger._chain[0][0], enclave.authority._chain[0][1])
    documents = {
        "signature": bad_signature,
        "payload": good[:at - 60] + bytes([good[at - 60] ^ 1]) + good[at - 59:],
        "another root": base64.b64decode(Enclave().recipient()["AttestationDocument"]),
        "our root, but a forged chain": forger.document(enclave.key),
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
        attestation.verify(document, attestation.AttestationAuthority().root,
                           document.timestamp / 1000)


def test_genuine_document_as_recipient():
    root = (DATA / "attestation" / "root-g1.der").read_bytes()
    document = (DATA / "attestation" / "prod-with-public-key.cbor").read_bytes()
    params = {"NumberOfBytes": 8, "Recipient": {
        "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": document}}
    with LocalKms(attestation_root=root) as kms:
        assert "isn't valid at" in call(kms, "GenerateRandom", params).json["message"]
        kms.attestation_time = "document"
        assert set(call(kms, "GenerateRandom", params).json) == {"CiphertextForRecipient"}
