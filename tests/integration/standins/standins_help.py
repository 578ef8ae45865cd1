# SPDX-License-Identifier: Apache-2.0
"""What the tests of the stand-ins share: one KMS for all of a file, and calls to it."""

import base64
import pathlib

import boto3
import botocore.config
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kms.client import sign
from nitro import attestation
from standins import Client, Enclave, LocalKms

KEY = "1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = f"arn:aws:kms:eu-central-1:111122223333:key/{KEY}"
OTHER_KEY = "aaaabbbb-cccc-4ddd-8eee-ffff00001111"
RSA_SIGN, RSA_ENCRYPT, ECC_SIGN, ECDH, HMAC = (
    f"0000000{n}-0000-4000-8000-00000000000{n}" for n in range(1, 6))
TESTS = pathlib.Path(__file__).resolve().parents[2]
LIB, DATA = TESTS / "lib", TESTS / "data"
REGION = "eu-central-1"
HOST = "kms.eu-central-1.amazonaws.com"
B64 = base64.b64encode(b"x").decode()


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


def blob(answer, member):
    return base64.b64decode(answer.json[member])


def without_token(kms):
    return {"credentials": type(kms.credentials.current)(**{**vars(kms.credentials.current),
                                                            "token": None})}


RECIPIENT_CALLS = [
    ("Decrypt", "Plaintext"), ("GenerateDataKey", "Plaintext"),
    ("GenerateDataKeyPair", "PrivateKeyPlaintext"),
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
