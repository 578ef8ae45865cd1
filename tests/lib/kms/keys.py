# SPDX-License-Identifier: Apache-2.0
"""The keys of the local KMS: what they are called, and the cryptography done under them."""

import dataclasses
import hashlib
import hmac
import os
import re
import struct
import threading
import time
import uuid

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms.errors import KmsError

RSA_SIZES = {"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}
CURVES = {"ECC_NIST_P256": ec.SECP256R1, "ECC_NIST_P384": ec.SECP384R1,
          "ECC_NIST_P521": ec.SECP521R1, "ECC_SECG_P256K1": ec.SECP256K1}
HMAC_SIZES = {"HMAC_224": 28, "HMAC_256": 32, "HMAC_384": 48, "HMAC_512": 64}
SPECS = ("SYMMETRIC_DEFAULT", *RSA_SIZES, *CURVES, *HMAC_SIZES)
HASHES = {"SHA_1": hashes.SHA1, "SHA_256": hashes.SHA256, "SHA_384": hashes.SHA384,
          "SHA_512": hashes.SHA512}

RSA_SIGNING = [f"RSASSA_{p}_SHA_{n}" for p in ("PKCS1_V1_5", "PSS") for n in (256, 384, 512)]
CURVE_SIGNING = {"ECC_NIST_P256": "ECDSA_SHA_256", "ECC_NIST_P384": "ECDSA_SHA_384",
                 "ECC_NIST_P521": "ECDSA_SHA_512", "ECC_SECG_P256K1": "ECDSA_SHA_256"}
RSA_ENCRYPTION = ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]

CIPHERTEXT_MAX = 6144
KEY_ID = re.compile(r"[0-9a-f-]{36}|mrk-[0-9a-f]{32}")
MAGIC = b"\x01\x02\x02\x00"     # begins a ciphertext blob of ours, as of KMS's


def default_usage(spec):
    if spec in HMAC_SIZES:
        return "GENERATE_VERIFY_MAC"
    return "ENCRYPT_DECRYPT" if spec == "SYMMETRIC_DEFAULT" else None


def generate_pair(spec):
    """A private key of an asymmetric key spec."""
    if spec in RSA_SIZES:
        return rsa.generate_private_key(65537, RSA_SIZES[spec])
    return ec.generate_private_key(CURVES[spec]())


def private_der(key):
    return key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


def public_der(key):
    return key.public_key().public_bytes(serialization.Encoding.DER,
                                         serialization.PublicFormat.SubjectPublicKeyInfo)


def context_bytes(context):
    """The associated data of an encryption context: its pairs whatever their order."""
    pairs = sorted((k.encode(), v.encode()) for k, v in (context or {}).items())
    return b"".join(struct.pack(">II", len(k), len(v)) + k + v for k, v in pairs)


@dataclasses.dataclass
class Key:
    """One KMS key. Its material is made when it is first needed: RSA takes a while."""

    id: str
    arn: str
    region: str
    account: str
    spec: str = "SYMMETRIC_DEFAULT"
    usage: str = "ENCRYPT_DECRYPT"
    description: str = ""
    state: str = "Enabled"
    created: float = dataclasses.field(default_factory=time.time)
    deletion: float | None = None
    rotation: bool = False
    tags: dict = dataclasses.field(default_factory=dict)
    policy: str | None = None
    grants: dict = dataclasses.field(default_factory=dict)
    _material: object = None
    _lock: object = dataclasses.field(default_factory=threading.Lock)

    @property
    def material(self):
        """bytes of a symmetric or HMAC key, else a private key."""
        with self._lock:
            if self._material is None:
                if self.spec == "SYMMETRIC_DEFAULT":
                    self._material = os.urandom(32)
                elif self.spec in HMAC_SIZES:
                    self._material = os.urandom(HMAC_SIZES[self.spec])
                else:
                    self._material = generate_pair(self.spec)
            return self._material

    def algorithms(self):
        """The name of the metadata member and the algorithms the key is for."""
        if self.usage == "ENCRYPT_DECRYPT":
            asymmetric = self.spec in RSA_SIZES
            return "EncryptionAlgorithms", RSA_ENCRYPTION if asymmetric else ["SYMMETRIC_DEFAULT"]
        if self.usage == "SIGN_VERIFY":
            return "SigningAlgorithms", (RSA_SIGNING if self.spec in RSA_SIZES
                                         else [CURVE_SIGNING[self.spec]])
        if self.usage == "GENERATE_VERIFY_MAC":
            return "MacAlgorithms", ["HMAC_SHA_" + self.spec.rpartition("_")[2]]
        return "KeyAgreementAlgorithms", ["ECDH"]

    def require_algorithm(self, algorithm):
        if algorithm not in self.algorithms()[1]:
            raise KmsError("InvalidKeyUsageException",
                           f"Algorithm {algorithm} is incompatible with key spec {self.spec}.")

    # Symmetric: MAGIC, id length, id, padding length, nonce, padding, AES-GCM ciphertext and tag.

    def seal(self, plaintext, context, size=None):
        """A ciphertext blob; size: padded to exactly this many bytes, up to what KMS takes."""
        nonce = os.urandom(12)
        head = MAGIC + struct.pack(">B", len(self.id)) + self.id.encode()
        bare = len(head) + 2 + len(nonce) + len(plaintext) + 16
        pad = 0 if size is None else size - bare
        if pad < 0:
            raise ValueError(f"a ciphertext of {len(plaintext)} bytes has at least {bare}")
        head += struct.pack(">H", pad) + nonce + os.urandom(pad)
        return head + AESGCM(self.material).encrypt(nonce, plaintext, head + context_bytes(context))

    def unseal(self, blob, context):
        """Raises InvalidCiphertextException when the blob or the context isn't what was sealed."""
        at = len(MAGIC) + 1 + len(self.id)
        try:
            pad, = struct.unpack_from(">H", blob, at)
            body = at + 2 + 12 + pad
            return AESGCM(self.material).decrypt(blob[at + 2:at + 14], blob[body:],
                                                 blob[:body] + context_bytes(context))
        except (InvalidTag, ValueError, struct.error):
            raise KmsError("InvalidCiphertextException") from None

    # Asymmetric and HMAC.

    def _oaep(self, algorithm):
        self.require_algorithm(algorithm)
        digest = HASHES[algorithm.partition("OAEP_")[2]]()
        return padding.OAEP(mgf=padding.MGF1(digest), algorithm=digest, label=None)

    def rsa_encrypt(self, plaintext, algorithm):
        try:
            return self.material.public_key().encrypt(plaintext, self._oaep(algorithm))
        except ValueError:
            raise KmsError("ValidationException", "Plaintext is too long for the key") from None

    def rsa_decrypt(self, blob, algorithm):
        try:
            return self.material.decrypt(blob, self._oaep(algorithm))
        except ValueError:
            raise KmsError("InvalidCiphertextException") from None

    def _signature_scheme(self, algorithm, message, message_type):
        """The arguments that `cryptography` wants after the signature: data, padding, hash."""
        self.require_algorithm(algorithm)
        digest = HASHES["SHA_" + algorithm.rpartition("_")[2]]()
        if message_type == "DIGEST":
            if len(message) != digest.digest_size:
                raise KmsError("ValidationException",
                               f"Digest is invalid length for algorithm {algorithm}.")
            how = utils.Prehashed(digest)
        else:
            how = digest
        if algorithm.startswith("ECDSA"):
            return message, ec.ECDSA(how)
        if "PSS" in algorithm:
            return message, padding.PSS(padding.MGF1(digest), digest.digest_size), how
        return message, padding.PKCS1v15(), how

    def sign(self, message, algorithm, message_type="RAW"):
        return self.material.sign(*self._signature_scheme(algorithm, message, message_type))

    def verify(self, message, signature, algorithm, message_type="RAW"):
        scheme = self._signature_scheme(algorithm, message, message_type)
        try:
            self.material.public_key().verify(signature, *scheme)
        except InvalidSignature:
            raise KmsError("KMSInvalidSignatureException") from None

    def mac(self, message, algorithm):
        self.require_algorithm(algorithm)
        return hmac.new(self.material, message, getattr(hashlib, "sha" + algorithm[-3:])).digest()

    def agree(self, public):
        try:
            peer = serialization.load_der_public_key(public)
            return self.material.exchange(ec.ECDH(), peer)
        except (ValueError, TypeError, AttributeError):
            raise KmsError("ValidationException",
                           "The public key isn't one of the key's curve") from None


class KeyStore:
    """The keys and aliases of one account, in one or more regions."""

    def __init__(self, account, regions, partition="aws"):
        self.account = account
        self.regions = list(regions)
        self.partition = partition
        self._keys = {}             # (region, id)
        self._aliases = {}          # (region, alias/...): key id
        self._lock = threading.RLock()

    def arn(self, region, resource):
        return f"arn:{self.partition}:kms:{region}:{self.account}:{resource}"

    def add(self, id=None, spec="SYMMETRIC_DEFAULT", usage=None, region=None, aliases=(), **more):
        """Makes a key; more: fields of Key, such as description."""
        usage = usage or default_usage(spec) or "SIGN_VERIFY"
        _check_usage(spec, usage)
        region, id = region or self.regions[0], id or str(uuid.uuid4())
        key = Key(id=id, arn=self.arn(region, "key/" + id), region=region, account=self.account,
                  spec=spec, usage=usage, **more)
        with self._lock:
            self._keys[region, id] = key
            for alias in aliases:
                self._aliases[region, alias] = id
        return key

    def keys(self, region):
        with self._lock:
            return [k for (r, _), k in self._keys.items() if r == region]

    def aliases(self, region):
        with self._lock:
            return {a: i for (r, a), i in self._aliases.items() if r == region}

    def set_alias(self, region, name, key):
        with self._lock:
            self._aliases[region, name] = key.id

    def delete_alias(self, region, name):
        with self._lock:
            if self._aliases.pop((region, name), None) is None:
                raise self._no_alias(region, name)

    def _no_alias(self, region, name):
        return KmsError("NotFoundException", f"Alias {self.arn(region, name)} is not found.")

    def find(self, region, name, action, aliases=True):
        """The key of an id, ARN, alias or alias ARN, as seen from one region; raises KmsError."""
        resource = self._local(region, name, action) if name.startswith("arn:") else name
        if resource.startswith("alias/"):
            if not aliases:
                raise KmsError("InvalidArnException", f"{action} doesn't take an alias")
            with self._lock:
                found = self._aliases.get((region, resource))
            if found is None:
                raise self._no_alias(region, resource)
            resource = "key/" + found
        elif not name.startswith("arn:"):
            resource = "key/" + resource
        with self._lock:
            key = self._keys.get((region, resource.removeprefix("key/")))
        if key is None:
            if not name.startswith("arn:") and not KEY_ID.fullmatch(name):
                raise KmsError("NotFoundException", f"Invalid keyId '{name}'")
            raise KmsError("NotFoundException",
                           f"Key '{self.arn(region, resource)}' does not exist")
        return key

    def _local(self, region, arn, action):
        parts = arn.split(":", 5)
        if len(parts) != 6 or parts[:3] != ["arn", self.partition, "kms"] or \
                not parts[5].startswith(("key/", "alias/")):
            raise KmsError("InvalidArnException", f"Invalid arn {arn}")
        if parts[3] != region:
            raise KmsError("NotFoundException", f"Invalid arn {parts[3]}")
        if parts[4] != self.account:
            user = f"arn:{self.partition}:sts::{self.account}:assumed-role/enclave-parent/i-0"
            raise KmsError("AccessDeniedException", f"User: {user} is not authorized to perform: "
                           f"kms:{action} on resource: {arn} because the resource does not exist "
                           "in this Region, no resource-based policies allow access, or a "
                           "resource-based policy explicitly denies access")
        return parts[5]

    def of_ciphertext(self, region, blob):
        """The key that a ciphertext blob says it is under; None when it isn't a blob of ours."""
        if not blob.startswith(MAGIC) or len(blob) < len(MAGIC) + 1:
            return None
        at = len(MAGIC) + 1
        id = blob[at:at + blob[len(MAGIC)]].decode("latin-1")
        with self._lock:
            return self._keys.get((region, id))


def _check_usage(spec, usage):
    allowed = {"SYMMETRIC_DEFAULT": ("ENCRYPT_DECRYPT",)}
    allowed.update({s: ("ENCRYPT_DECRYPT", "SIGN_VERIFY") for s in RSA_SIZES})
    allowed.update({s: ("SIGN_VERIFY", "KEY_AGREEMENT") for s in CURVES})
    allowed["ECC_SECG_P256K1"] = ("SIGN_VERIFY",)
    allowed.update({s: ("GENERATE_VERIFY_MAC",) for s in HMAC_SIZES})
    if spec not in allowed:
        raise KmsError("UnsupportedOperationException", f"KeySpec {spec} is not supported here.")
    if usage not in allowed[spec]:
        raise KmsError("ValidationException",
                       f"KeyUsage {usage} is not compatible with KeySpec {spec}")
