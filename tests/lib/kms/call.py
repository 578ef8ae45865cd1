# SPDX-License-Identifier: Apache-2.0
"""One call of a KMS action after its signature and body were checked, and the table of actions.

A row of ACTIONS is a function of a Call that returns the members of the answer (bytes become
base64), or None for an answer with an empty body.
"""

import base64
import dataclasses
import json

from kms.errors import KmsError, validation
from kms.keys import CIPHERTEXT_MAX
from nitro import attestation, cms

ACTIONS = {}


@dataclasses.dataclass
class Call:
    """One request after its signature and its body were checked."""

    kms: object         # the LocalKms: keys, clock, attestation settings
    region: str
    action: str
    p: dict             # its parameters

    @property
    def keys(self):
        return self.kms.keys

    def key(self, member="KeyId", usage=None, usable=True, aliases=True):
        """The key that a member names; usable: refused when it is disabled or about to go."""
        key = self.keys.find(self.region, self.p[member], self.action, aliases)
        return self.require(key, usage, usable)

    def require(self, key, usage=None, usable=True):
        if usable and key.state == "Disabled":
            raise KmsError("DisabledException", f"{key.arn} is disabled.")
        if usable and key.state != "Enabled":
            raise KmsError("KMSInvalidStateException", f"{key.arn} is pending deletion.")
        if usage and key.usage != usage:
            raise KmsError("InvalidKeyUsageException", f"{key.arn} key usage is {key.usage} which "
                           f"is not valid for {self.action}.")
        return key

    def symmetric(self, member="KeyId"):
        key = self.key(member, "ENCRYPT_DECRYPT")
        if key.spec != "SYMMETRIC_DEFAULT":
            raise KmsError("InvalidKeyUsageException",
                           f"{key.arn} key spec is {key.spec} which is not valid for "
                           f"{self.action}.")
        return key

    def dry_run(self):
        """To be called when nothing can go wrong any more."""
        if self.p.get("DryRun"):
            raise KmsError("DryRunOperationException",
                           "The request would have succeeded, but the DryRun option is set.")

    def secret(self, member, plaintext):
        """A secret of the answer: in clear, or to the recipient's public key alone."""
        recipient = self.p.get("Recipient")
        if recipient is None:
            return {member: plaintext}
        return {"CiphertextForRecipient": cms.seal(self._recipient_key(recipient), plaintext)}

    def _recipient_key(self, recipient):
        if "AttestationDocument" not in recipient or "KeyEncryptionAlgorithm" not in recipient:
            raise validation("Recipient needs AttestationDocument and KeyEncryptionAlgorithm")
        try:
            document = attestation.parse(recipient["AttestationDocument"])
            if self.kms.attestation_root is not None:
                now = self.kms.clock()
                if self.kms.attestation_time == "document":
                    now = document.timestamp / 1000
                attestation.verify(document, self.kms.attestation_root, now)
            return document.rsa_public_key()
        except attestation.AttestationError as error:
            raise validation(f"The attestation document is invalid: {error}") from None


def action(function):
    ACTIONS[function.__name__] = function
    return function


def wire(answer):
    """The body of an answer: compact JSON, bytes as base64, times as seconds."""
    if answer is None:
        return b""
    if len(answer.get("CiphertextForRecipient") or b"") > CIPHERTEXT_MAX:
        raise KmsError("KMSInternalException", "CiphertextForRecipient too long")
    blobs = {n: base64.b64encode(v).decode() if isinstance(v, bytes) else v
             for n, v in answer.items()}
    return json.dumps(blobs, separators=(",", ":")).encode()
