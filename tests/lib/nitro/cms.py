# SPDX-License-Identifier: Apache-2.0
"""CMS EnvelopedData (RFC 5652) as KMS answers it in CiphertextForRecipient: BER with indefinite
lengths, version 2, one KeyTransRecipientInfo with a subject key identifier and RSAES-OAEP
(SHA-256, MGF1 with SHA-256), content in AES-256-CBC.
"""

import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding as block_padding
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

INTEGER, OCTETS, NULL, OID, SEQUENCE, SET = 0x02, 0x04, 0x05, 0x06, 0x30, 0x31
CONTEXT_0, CONTEXT_0_CONSTRUCTED, CONTEXT_1_CONSTRUCTED = 0x80, 0xA0, 0xA1

ENVELOPED_DATA = bytes.fromhex("2a864886f70d010703")        # 1.2.840.113549.1.7.3
DATA = bytes.fromhex("2a864886f70d010701")                  # 1.2.840.113549.1.7.1
RSAES_OAEP = bytes.fromhex("2a864886f70d010107")            # 1.2.840.113549.1.1.7
MGF1 = bytes.fromhex("2a864886f70d010108")                  # 1.2.840.113549.1.1.8
SHA256 = bytes.fromhex("608648016503040201")                # 2.16.840.1.101.3.4.2.1
AES256_CBC = bytes.fromhex("60864801650304012a")            # 2.16.840.1.101.3.4.1.42

OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


def _tlv(tag, *parts):
    body = b"".join(parts)
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    size = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(body).to_bytes(size, "big") + body


def _indefinite(tag, *parts):
    return bytes([tag, 0x80]) + b"".join(parts) + b"\0\0"


def _oaep_id(*parameters):
    """RSAES-OAEP with SHA-256 twice; RFC 4055 2.1: NULL parameters and none mean the same."""
    sha256 = _tlv(SEQUENCE, _tlv(OID, SHA256), *parameters)
    return _tlv(SEQUENCE, _tlv(OID, RSAES_OAEP), _tlv(
        SEQUENCE,
        _tlv(CONTEXT_0_CONSTRUCTED, sha256),
        _tlv(CONTEXT_1_CONSTRUCTED, _tlv(SEQUENCE, _tlv(OID, MGF1), sha256))))


OAEP_ID = _oaep_id(_tlv(NULL))


def seal(public_key, plaintext):
    """public_key: an RSA public key of `cryptography`."""
    key, vector = os.urandom(32), os.urandom(16)
    padder = block_padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    padded = padder.update(plaintext) + padder.finalize()
    content = encryptor.update(padded) + encryptor.finalize()
    key_id = x509.SubjectKeyIdentifier.from_public_key(public_key).digest
    recipient = _tlv(
        SEQUENCE, _tlv(INTEGER, b"\2"), _tlv(CONTEXT_0, key_id), OAEP_ID,
        _tlv(OCTETS, public_key.encrypt(key, OAEP)))
    return _indefinite(
        SEQUENCE, _tlv(OID, ENVELOPED_DATA), _indefinite(
            CONTEXT_0_CONSTRUCTED, _indefinite(
                SEQUENCE, _tlv(INTEGER, b"\2"), _tlv(SET, recipient), _indefinite(
                    SEQUENCE, _tlv(OID, DATA),
                    _tlv(SEQUENCE, _tlv(OID, AES256_CBC), _tlv(OCTETS, vector)),
                    _indefinite(CONTEXT_0_CONSTRUCTED, _tlv(OCTETS, content))))))


def _read(data, at, depth=0):
    """One BER item at data[at:]: (tag, content, next); content is bytes or a list of items."""
    if depth > 12 or at + 2 > len(data):
        raise ValueError("BER too deep or too short")
    tag, length = data[at], data[at + 1]
    at += 2
    indefinite = length == 0x80
    if length > 0x80:
        size = length & 0x7F
        length = int.from_bytes(data[at:at + size], "big")
        at += size
    end = len(data) if indefinite else at + length
    if end > len(data):
        raise ValueError("BER length beyond the end")
    if not tag & 0x20:
        if indefinite:
            raise ValueError("indefinite length of a primitive item")
        return tag, data[at:end], end
    items = []
    while at < end:
        if indefinite and data[at:at + 2] == b"\0\0":
            return tag, items, at + 2
        inner_tag, content, at = _read(data, at, depth + 1)
        items.append((inner_tag, content))
    if indefinite:
        raise ValueError("indefinite length without its end")
    return tag, items, end


def _expect(items, *tags):
    if [tag for tag, _ in items] != list(tags):
        raise ValueError(f"BER items {[hex(t) for t, _ in items]}, "
                         f"expected {[hex(t) for t in tags]}")
    return [content for _, content in items]


def _content(items):
    """The encrypted content: one octet string (DER) or several within (BER)."""
    if [tag for tag, _ in items] == [CONTEXT_0]:
        return items[0][1]
    pieces = _expect(items, CONTEXT_0_CONSTRUCTED)[0]
    return b"".join(_expect(pieces, *[OCTETS] * len(pieces)))


def open_sealed(private_key, sealed):
    """The plaintext; raises ValueError when it isn't exactly what KMS is documented to send."""
    tag, items, end = _read(sealed, 0)
    if tag != SEQUENCE or end != len(sealed):
        raise ValueError("not one BER sequence")
    kind, explicit = _expect(items, OID, CONTEXT_0_CONSTRUCTED)
    version, recipients, encrypted = _expect(_expect(explicit, SEQUENCE)[0], INTEGER, SET, SEQUENCE)
    recipient = _expect(_expect(recipients, SEQUENCE)[0], INTEGER, CONTEXT_0, SEQUENCE, OCTETS)
    if (kind, version, recipient[0]) != (ENVELOPED_DATA, b"\2", b"\2"):
        raise ValueError("not EnvelopedData of version 2 with one recipient of version 2")
    if recipient[2] not in (_read(OAEP_ID, 0)[1], _read(_oaep_id(), 0)[1]):
        raise ValueError("the key isn't in RSAES-OAEP with SHA-256")
    data, algorithm = _expect(encrypted[:2], OID, SEQUENCE)
    content = _content(encrypted[2:])
    cipher, vector = _expect(algorithm, OID, OCTETS)
    if (data, cipher) != (DATA, AES256_CBC):
        raise ValueError("the content isn't data in AES-256-CBC")
    key = private_key.decrypt(recipient[3], OAEP)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
    padded = decryptor.update(content) + decryptor.finalize()
    unpadder = block_padding.PKCS7(128).unpadder()
    return unpadder.update(padded) + unpadder.finalize()
