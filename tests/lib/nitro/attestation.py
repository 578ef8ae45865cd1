# SPDX-License-Identifier: Apache-2.0
"""Nitro attestation documents: COSE_Sign1 over a CBOR map, signed by a P-384 certificate chain.

Reads and verifies them (the genuine ones, with AWS's root, too), and makes them with a chain of
our own, for clients that play an enclave. As a program, `python3 -m nitro.attestation` in tests/lib:

  authority --dir DIR                        a root and its chain, kept in DIR
  make --dir DIR --public-key PEM --out F    a document, valid for three hours
  open --key PEM [--in F] [--out F]          opens a CiphertextForRecipient (CMS)
  show F                                     what a document says
"""

import argparse
import base64
import dataclasses
import datetime
import hashlib
import os
import pathlib
import sys
import time

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (decode_dss_signature,
                                                             encode_dss_signature)
from cryptography.x509.oid import NameOID

from nitro import cbor, cms

ES384 = bytes.fromhex("a1013822")       # {1: -35}, the only protected header there is
DOCUMENT_MAX = 262144                   # of KMS's RecipientInfo
INSTANCE_ID = "i-0123456789abcdef0"

ENCODING_DER, ENCODING_PEM = serialization.Encoding.DER, serialization.Encoding.PEM


class AttestationError(ValueError):
    """The document is not one, or doesn't verify."""


@dataclasses.dataclass
class Document:
    module_id: str
    digest: str
    timestamp: int                      # milliseconds since the epoch
    pcrs: dict
    certificate: bytes
    cabundle: list
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    signed: bytes                       # what the signature is over
    signature: bytes

    def rsa_public_key(self):
        if not self.public_key:
            raise AttestationError("the document holds no public key")
        try:
            key = serialization.load_der_public_key(self.public_key)
        except ValueError as error:
            raise AttestationError("the public key isn't a SubjectPublicKeyInfo") from error
        if not isinstance(key, rsa.RSAPublicKey):
            raise AttestationError("the public key isn't an RSA key")
        return key


def _sig_structure(payload):
    return cbor.encode(["Signature1", ES384, b"", payload])


def parse(data):
    """Reads a document without verifying it; raises AttestationError."""
    try:
        outer = cbor.decode(data)
        if isinstance(outer, cbor.Tag) and outer.number == 18:
            outer = outer.value
        protected, unprotected, payload, signature = outer
        fields = cbor.decode(payload)
        if protected != ES384 or unprotected != {} or len(signature) != 96:
            raise ValueError("not signed with ES384")
        _check_fields(fields)
    except (ValueError, TypeError) as error:
        raise AttestationError(f"not a COSE_Sign1 of a CBOR map: {error}") from None
    pcrs = fields.pop(_pcrs_name(fields))
    return Document(pcrs=pcrs, signed=_sig_structure(payload), signature=signature, **fields)


def _pcrs_name(fields):
    return "nitrotpm_pcrs" if "nitrotpm_pcrs" in fields else "pcrs"


def _check_fields(fields):
    """The constraints of the specification, but for the length of user_data and nonce: documents
    as large as KMS takes (DOCUMENT_MAX) can only be made with a large user_data."""
    if not isinstance(fields, dict):
        raise AttestationError("the payload isn't a map")
    names = set(fields) - {_pcrs_name(fields)}
    if names != {f.name for f in dataclasses.fields(Document)} - {"pcrs", "signed", "signature"}:
        raise AttestationError(f"unexpected fields {sorted(names)}")
    pcrs = fields.get(_pcrs_name(fields))
    optional = (bytes, type(None))
    rules = (
        isinstance(fields["module_id"], str) and fields["module_id"],
        fields["digest"] == "SHA384",
        isinstance(fields["timestamp"], int) and fields["timestamp"] > 0,
        isinstance(pcrs, dict) and 1 <= len(pcrs) <= 32,
        isinstance(pcrs, dict) and all(i in range(32) and isinstance(v, bytes) and len(v) in (32, 48, 64)
                                       for i, v in pcrs.items()),
        isinstance(fields["certificate"], bytes) and 1 <= len(fields["certificate"]) <= 1024,
        isinstance(fields["cabundle"], list) and fields["cabundle"]
        and all(isinstance(c, bytes) and 1 <= len(c) <= 1024 for c in fields["cabundle"]),
        all(isinstance(fields[n], optional) for n in ("public_key", "user_data", "nonce")),
        len(fields["public_key"] or b"") <= 1024,
    )
    for number, rule in enumerate(rules):
        if not rule:
            raise AttestationError(f"a field breaks rule {number} of the specification")


def verify(document, root, now=None):
    """Verifies the chain to `root` (DER) and the signature, at `now` (seconds; default: now)."""
    when = datetime.datetime.utcfromtimestamp(time.time() if now is None else now)
    if document.cabundle[0] != root:
        raise AttestationError("the chain doesn't begin with the expected root")
    try:
        chain = [x509.load_der_x509_certificate(c)
                 for c in (*document.cabundle, document.certificate)]
    except ValueError as error:
        raise AttestationError("a certificate can't be read") from error
    for depth, certificate in enumerate(chain):
        _verify_certificate(certificate, chain[max(depth - 1, 0)], when,
                            authorities_below=len(chain) - depth - 2)
    r, s = (int.from_bytes(document.signature[i:i + 48], "big") for i in (0, 48))
    _verify_ecdsa(chain[-1].public_key(), encode_dss_signature(r, s), document.signed, "document")


def _verify_certificate(certificate, issuer, when, authorities_below):
    name = certificate.subject.rfc4514_string()
    if not certificate.not_valid_before <= when <= certificate.not_valid_after:
        raise AttestationError(f"certificate {name} isn't valid at {when}")
    if certificate.issuer != issuer.subject:
        raise AttestationError(f"certificate {name} wasn't issued by the one before it")
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    if authorities_below < 0:
        if constraints.ca or not usage.digital_signature:
            raise AttestationError("the signing certificate isn't one for signatures")
    else:
        length = constraints.path_length
        too_long = length is not None and length < authorities_below
        if not constraints.ca or not usage.key_cert_sign or too_long:
            raise AttestationError(f"certificate {name} may not issue this chain")
    _verify_ecdsa(issuer.public_key(), certificate.signature,
                  certificate.tbs_certificate_bytes, name)


def _verify_ecdsa(key, signature, data, name):
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise AttestationError(f"the key over {name} isn't P-384")
    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise AttestationError(f"bad signature of {name}") from None


def open_ciphertext_for_recipient(private_key, blob):
    """The plaintext of a CiphertextForRecipient; blob: bytes, or the base64 text of the answer."""
    return cms.open_sealed(private_key, base64.b64decode(blob) if isinstance(blob, str) else blob)


def spki(key):
    """The DER SubjectPublicKeyInfo of a private or public key, as a document's public_key."""
    public = key.public_key() if hasattr(key, "public_key") else key
    return public.public_bytes(ENCODING_DER, serialization.PublicFormat.SubjectPublicKeyInfo)


class AttestationAuthority:
    """A root and a chain below it, as a Nitro hypervisor has: region, zone, instance, leaf."""

    # Longer lived than AWS's: a saved chain stays usable.
    LEVELS = (("aws.nitro-enclaves.local", 10950), ("region", 365), ("zone", 365),
              ("instance", 365))

    def __init__(self, instance_id=INSTANCE_ID):
        self.instance_id = instance_id
        self._chain = []                # (key, certificate), root first
        for depth, (name, days) in enumerate(self.LEVELS):
            self._chain.append(self._issue(name, datetime.timedelta(days=days),
                                           path_length=len(self.LEVELS) - 1 - depth))

    @property
    def root(self):
        """DER."""
        return self._chain[0][1].public_bytes(ENCODING_DER)

    def _issue(self, name, life, path_length=None, start=None):
        key = ec.generate_private_key(ec.SECP384R1())
        signer, issuer = self._chain[-1] if self._chain else (key, None)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        start = start or datetime.datetime.utcnow() - datetime.timedelta(minutes=1)
        authority = path_length is not None
        usage = x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority,
                              crl_sign=authority, content_commitment=False,
                              key_encipherment=False, data_encipherment=False,
                              key_agreement=False, encipher_only=False, decipher_only=False)
        certificate = (
            x509.CertificateBuilder().subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start).not_valid_after(start + life)
            .add_extension(x509.BasicConstraints(authority, path_length), critical=True)
            .add_extension(usage, critical=True).sign(signer, hashes.SHA384()))
        return key, certificate

    def pcrs(self, image=b"enclave image"):
        """As an enclave's: 0 to 2 from the image, 4 from the instance, the rest zero."""
        values = {i: bytes(48) for i in range(16)}
        for i in (0, 1, 2):
            values[i] = hashlib.sha384(image + bytes([i])).digest()
        values[4] = hashlib.sha384(bytes(48) + self.instance_id.encode()).digest()
        return values

    def document(self, public_key=None, *, user_data=None, nonce=None, pcrs=None, size=None,
                 timestamp=None, leaf_start=None, tagged=False):
        """A signed document. public_key: DER, or a key. size: exactly this many bytes, reached
        with user_data. leaf_start: begin of the leaf certificate's three hours."""
        if public_key is not None and not isinstance(public_key, bytes):
            public_key = spki(public_key)
        leaf_key, leaf = self._issue(f"{self.instance_id}-enc0123456789abcdef",
                                     datetime.timedelta(hours=3), start=leaf_start)
        payload = {
            "module_id": f"{self.instance_id}-enc0123456789abcdef",
            "digest": "SHA384",
            "timestamp": int((time.time() if timestamp is None else timestamp) * 1000),
            "pcrs": pcrs or self.pcrs(),
            "certificate": leaf.public_bytes(ENCODING_DER),
            "cabundle": [c.public_bytes(ENCODING_DER) for _, c in self._chain],
            "public_key": public_key, "user_data": user_data, "nonce": nonce,
        }
        if size is not None:
            payload["user_data"] = _filler(payload, size, tagged)
        return _sign(payload, leaf_key, tagged)

    def save(self, folder):
        """Writes root.der and the chain's keys; load() reads them."""
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "root.der").write_bytes(self.root)
        chain = folder / "chain.pem"
        chain.touch(mode=0o600)
        chain.write_bytes(b"".join(
            key.private_bytes(ENCODING_PEM, serialization.PrivateFormat.PKCS8,
                              serialization.NoEncryption()) + certificate.public_bytes(ENCODING_PEM)
            for key, certificate in self._chain))

    @classmethod
    def load(cls, folder):
        pem = pathlib.Path(folder, "chain.pem").read_bytes()
        end = b"-----END CERTIFICATE-----\n"
        self = cls.__new__(cls)
        self.instance_id = INSTANCE_ID
        self._chain = []
        for part in filter(None, pem.split(end)):
            key, certificate = part.split(b"-----BEGIN CERTIFICATE-----")
            self._chain.append((
                serialization.load_pem_private_key(key, None),
                x509.load_pem_x509_certificate(b"-----BEGIN CERTIFICATE-----" + certificate + end)))
        return self


def _sign(payload, key, tagged):
    payload = cbor.encode(payload)
    r, s = decode_dss_signature(key.sign(_sig_structure(payload), ec.ECDSA(hashes.SHA384())))
    document = [ES384, {}, payload, r.to_bytes(48, "big") + s.to_bytes(48, "big")]
    return cbor.encode(cbor.Tag(18, document) if tagged else document)


def _filler(payload, size, tagged):
    """User data that makes the document `size` bytes long."""
    def total(count):
        body = cbor.encode({**payload, "user_data": bytes(count)})
        document = [ES384, {}, body, bytes(96)]
        return len(cbor.encode(cbor.Tag(18, document) if tagged else document))

    count = max(size - total(0), 0)
    while count and total(count) > size:
        count -= 1
    if total(count) != size:
        raise ValueError(f"no document of exactly {size} bytes: the next are {total(count)} and "
                         f"{total(count + 1)}")
    return os.urandom(count)


# The program.

def _command_authority(options):
    AttestationAuthority().save(options.dir)


def _command_make(options):
    key = serialization.load_pem_public_key(pathlib.Path(options.public_key).read_bytes())
    document = AttestationAuthority.load(options.dir).document(key, size=options.size)
    pathlib.Path(options.out).write_bytes(document)


def _command_open(options):
    key = serialization.load_pem_private_key(pathlib.Path(options.key).read_bytes(), None)
    sealed = pathlib.Path(options.input).read_bytes() if options.input else sys.stdin.buffer.read()
    plaintext = open_ciphertext_for_recipient(key, sealed)
    if options.out:
        pathlib.Path(options.out).write_bytes(plaintext)
    else:
        sys.stdout.buffer.write(plaintext)


def _command_show(options):
    document = parse(pathlib.Path(options.file).read_bytes())
    print(f"module_id   {document.module_id}")
    print(f"timestamp   {datetime.datetime.utcfromtimestamp(document.timestamp / 1000)} UTC")
    for index, value in sorted(document.pcrs.items()):
        if any(value):
            print(f"PCR{index:<8} {value.hex()}")
    print(f"public_key  {len(document.public_key or b'')} bytes")
    print(f"user_data   {len(document.user_data or b'')} bytes")
    print(f"root        {hashlib.sha256(document.cabundle[0]).hexdigest()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("authority", help="make a root and its chain")
    command.set_defaults(run=_command_authority)
    command.add_argument("--dir", required=True)
    command = commands.add_parser("make", help="make a document")
    command.set_defaults(run=_command_make)
    command.add_argument("--dir", required=True, help="where the authority was made")
    command.add_argument("--public-key", required=True, help="PEM file")
    command.add_argument("--size", type=int, help="length of the document")
    command.add_argument("--out", required=True)
    command = commands.add_parser("open", help="open a CiphertextForRecipient")
    command.set_defaults(run=_command_open)
    command.add_argument("--key", required=True, help="the enclave's private key, PEM file")
    command.add_argument("--in", dest="input", help="CMS bytes (default: standard input)")
    command.add_argument("--out", help="default: standard output")
    command = commands.add_parser("show", help="print what a document says")
    command.set_defaults(run=_command_show)
    command.add_argument("file")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
