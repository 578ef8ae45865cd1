#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Plays an enclave: has an RSA key and attestation documents for it, asks KMS with a Recipient, and
opens the answer with its private key. As a program, one call over HTTP without any credentials:

  enclave.py --connect 127.0.0.1:8000 --attestation DIR Decrypt '{"KeyId": "...", ...}'

prints the answer, and the plaintext that was opened, as JSON. DIR: of `python3 -m nitro.attestation authority`.
"""

import argparse
import base64
import json
import sys

from cryptography.hazmat.primitives.asymmetric import rsa

from kms.client import Client, request
from nitro.attestation import AttestationAuthority, open_ciphertext_for_recipient


class Enclave:
    def __init__(self, authority=None):
        self.authority = authority or AttestationAuthority()
        self.key = rsa.generate_private_key(65537, 2048)

    def recipient(self, **how):
        """The Recipient member; how: as AttestationAuthority.document takes it."""
        document = self.authority.document(self.key, **how)
        return {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
                "AttestationDocument": base64.b64encode(document).decode()}

    def open(self, answer):
        """The plaintext of an answer (its parsed JSON) that holds CiphertextForRecipient."""
        return open_ciphertext_for_recipient(self.key, answer["CiphertextForRecipient"])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--connect", default="127.0.0.1:8000",
                        help="HOST:PORT, unix:PATH or vsock:CID:PORT")
    parser.add_argument("--host", default="localhost", help="the Host header")
    parser.add_argument("--attestation", required=True, metavar="DIR")
    parser.add_argument("--no-recipient", action="store_true", help="leave the Recipient out")
    parser.add_argument("action")
    parser.add_argument("params", nargs="?", default="{}", help="JSON")
    options = parser.parse_args()
    enclave = Enclave(AttestationAuthority.load(options.attestation))
    params = json.loads(options.params)
    if not options.no_recipient:
        params["Recipient"] = enclave.recipient()
    with Client(options.connect) as client:
        answer = client.ask(request(options.action, params, host=options.host))
    shown = {"status": answer.status, "answer": answer.json if answer.body else None}
    if answer.status == 200 and "CiphertextForRecipient" in answer.json:
        shown["opened"] = base64.b64encode(enclave.open(answer.json)).decode()
    print(json.dumps(shown, indent=1))
    sys.exit(answer.status != 200)


if __name__ == "__main__":
    main()
