# SPDX-License-Identifier: Apache-2.0
"""A certificate authority made at start, and the server certificates it signs, good and bad."""

import datetime
import ipaddress
import pathlib
import ssl
import tempfile
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)

# What each variant shows. "good" is the only one a client may accept.
VARIANTS = {
    "good": "signed by the CA, for our names, valid now",
    "wrong-name": "signed by the CA, for another name",
    "expired": "signed by the CA, expired yesterday",
    "not-yet-valid": "signed by the CA, valid from tomorrow",
    "self-signed": "signed by itself",
    "other-ca": "signed by a CA of the same name that nobody trusts",
    "name-in-subject": "signed by the CA, our name only as the subject's common name",
    "name-in-subject-address": "the same, with an address as its only alternative name",
    "not-a-server": "signed by the CA, for client authentication only",
}

TLS_VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1, "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3,
}


def _name(common_name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _san(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """A CA with a P-256 key."""

    def __init__(self, common_name="local stand-in CA"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(common_name)
        now = datetime.datetime.utcnow()
        usage = x509.KeyUsage(key_cert_sign=True, crl_sign=True, digital_signature=False,
                              content_commitment=False, key_encipherment=False,
                              data_encipherment=False, key_agreement=False,
                              encipher_only=False, decipher_only=False)
        public = self.key.public_key()
        self.certificate = (
            x509.CertificateBuilder().subject_name(self.name).issuer_name(self.name)
            .public_key(public).serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY).not_valid_after(now + 3650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self.key, hashes.SHA256()))

    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, common_name, names, start, end, usage=ExtendedKeyUsageOID.SERVER_AUTH,
              self_signed=False):
        """A key and a certificate for it, PEM, as one file holds them for a TLS server."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(common_name)
        signer = key if self_signed else self.key
        builder = (
            x509.CertificateBuilder().subject_name(subject)
            .issuer_name(subject if self_signed else self.name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(start).not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
                           critical=False))
        if names:
            alternative = x509.SubjectAlternativeName([_san(n) for n in names])
            builder = builder.add_extension(alternative, critical=False)
        certificate = builder.sign(signer, hashes.SHA256())
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()) + certificate.public_bytes(serialization.Encoding.PEM)


class ServerIdentity:
    """The TLS contexts of one server: one for each certificate variant and TLS version."""

    def __init__(self, names, authority=None):
        self.names = list(names)
        self.authority = authority or Authority()
        self._contexts = {}
        self._lock = threading.Lock()

    def context(self, variant="good", version=None):
        """version: the only TLS version spoken; None: 1.2 and 1.3."""
        with self._lock:
            if (variant, version) not in self._contexts:
                self._contexts[variant, version] = self._make(variant, version)
            return self._contexts[variant, version]

    def _make(self, variant, version):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = TLS_VERSIONS[version or "1.2"]
        context.maximum_version = TLS_VERSIONS[version or "1.3"]
        if version in ("1.0", "1.1"):
            context.set_ciphers("ALL:@SECLEVEL=0")
        context.set_alpn_protocols(["http/1.1"])
        context.sni_callback = _note_sni
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "server.pem")
            file.touch(mode=0o600)
            file.write_bytes(self._certificate(variant))
            context.load_cert_chain(file)
        return context

    def _certificate(self, variant):
        now, first = datetime.datetime.utcnow(), self.names[0]
        issue, start, end = self.authority.issue, now - DAY, now + 30 * DAY
        make = {
            "good": lambda: issue(first, self.names, start, end),
            "wrong-name": lambda: issue("wrong.example", ["wrong.example"], start, end),
            "expired": lambda: issue(first, self.names, now - 2 * DAY, now - DAY),
            "not-yet-valid": lambda: issue(first, self.names, now + DAY, end),
            "self-signed": lambda: issue(first, self.names, start, end, self_signed=True),
            "other-ca": lambda: Authority().issue(first, self.names, start, end),
            "name-in-subject": lambda: issue(first, [], start, end),
            "name-in-subject-address": lambda: issue(first, ["192.0.2.1"], start, end),
            "not-a-server": lambda: issue(first, self.names, start, end,
                                          usage=ExtendedKeyUsageOID.CLIENT_AUTH),
        }
        return make[variant]()


def _note_sni(sock, name, _context):
    sock.sni = name
