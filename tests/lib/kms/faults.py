# SPDX-License-Identifier: Apache-2.0
"""The faults that only KMS has: its errors, and answers that leak. They come after the signature
check: a wrong signature is refused under any of them.

A function of stage `error` gets the request and raises; one of stage `answer` gets an Answer
(local_kms.py) with the members that would be sent.
"""

import base64
import json

from kms.errors import KmsError
from server.faults import Table

TABLE = Table()
SECRETS = {"Decrypt": "Plaintext", "GenerateDataKey": "Plaintext", "GenerateRandom": "Plaintext",
           "GenerateDataKeyPair": "PrivateKeyPlaintext", "DeriveSharedSecret": "SharedSecret"}


@TABLE.kind("error")
def error(request, error_type, message=None, status=None):
    """Any error of KMS's shape."""
    raise KmsError(error_type, message, status)


@TABLE.kind("error")
def throttle(request):
    """ThrottlingException, HTTP 400."""
    raise KmsError("ThrottlingException", "You have exceeded the rate at which you may call KMS. "
                   "Reduce the frequency of your calls.")


@TABLE.kind("error")
def expired_token(request):
    """ExpiredTokenException, although the token is valid."""
    raise KmsError("ExpiredTokenException",
                   "The security token included in the request is expired")


@TABLE.kind("error")
def unrecognized_client(request):
    """UnrecognizedClientException, although the key is known."""
    raise KmsError("UnrecognizedClientException",
                   "The security token included in the request is invalid.")


def _echo(request):
    """What AWS says to a wrong signature, with all that was signed: the session token too."""
    token = request.header("X-Amz-Security-Token")
    return ("The request signature we calculated does not match the signature you provided. Check "
            "your AWS Secret Access Key and signing method. Consult the service documentation for "
            "details.\n\nThe Canonical String for this request should have been\n'POST\n/\n\n"
            f"x-amz-security-token:{token}\n'\n")


@TABLE.kind("error")
def invalid_signature(request):
    """InvalidSignatureException that echoes the session token, as AWS does."""
    raise KmsError("InvalidSignatureException", _echo(request))


@TABLE.kind("error")
def echo(request, error_type, member="__type", status=None, start=0, end=None):
    """The same echo under another type, or with the type in another member (None: in none); of the
    token only [start:end]. The fault `header` can add an x-amzn-ErrorType."""
    token = request.header("X-Amz-Security-Token")
    raise KmsError(error_type, _echo(request).replace(token, token[start:end]), status, member)


@TABLE.kind("error")
def access_denied(request):
    """AccessDeniedException as IAM gives it, with the role's and the key's ARN."""
    raise KmsError("AccessDeniedException", "User: arn:aws:sts::111122223333:assumed-role/"
                   f"enclave-parent/i-0123456789abcdef0 is not authorized to perform: "
                   f"kms:{request.action} on resource: "
                   f"{(request.json or {}).get('KeyId', '*')} because no identity-based "
                   f"policy allows the kms:{request.action} action")


@TABLE.kind("error")
def internal(request):
    """KMSInternalException, HTTP 500."""
    raise KmsError("KMSInternalException", "The request failed and can be retried.")


LEAKS = {
    # Each gives the text of the members to add to (or put in place of) those of the answer.
    "real": lambda name, value: f'"{name}":{json.dumps(value)}',
    "null": lambda name, value: f'"{name}":null',
    "empty": lambda name, value: f'"{name}":""',
    "number": lambda name, value: f'"{name}":1',
    "object": lambda name, value: f'"{name}":{{"a":{json.dumps(value)}}}',
    "null-then-real": lambda name, value: f'"{name}":null,"{name}":{json.dumps(value)}',
    "real-then-null": lambda name, value: f'"{name}":{json.dumps(value)},"{name}":null',
    "escaped-name": lambda name, value: f'"\\u{ord(name[0]):04x}{name[1:]}":{json.dumps(value)}',
    "nested": lambda name, value: f'"Extra":{{"{name}":{json.dumps(value)}}}',
    "other-case": lambda name, value: f'"{name.lower()}":{json.dumps(value)}',
}


@TABLE.kind("answer")
def leak(answer, variant="real", member=None, keep_ciphertext=True):
    """Sends the secret in clear despite the Recipient: a variant of LEAKS. member: another member
    than the action's own. keep_ciphertext: CiphertextForRecipient stays beside it."""
    name = member or SECRETS[answer.request.action]
    clear = answer.without_recipient()
    value = base64.b64encode(clear.get(name, b"leaked") or b"leaked").decode()
    if not keep_ciphertext:
        answer.members.pop("CiphertextForRecipient", None)
    answer.add_text(LEAKS[variant](name, value))


@TABLE.kind("answer")
def no_ciphertext_for_recipient(answer, variant="missing"):
    """CiphertextForRecipient is `missing`, `null` or `empty`."""
    answer.members.pop("CiphertextForRecipient", None)
    if variant != "missing":
        answer.members["CiphertextForRecipient"] = None if variant == "null" else b""


@TABLE.kind("answer")
def duplicate_member(answer, member="KeyId", value="other"):
    """A member twice, with different values."""
    answer.add_text(f'"{member}":{json.dumps(value)}')


@TABLE.kind("answer")
def not_json(answer, text="<html>It works</html>"):
    """HTTP 200 with a body that isn't JSON."""
    answer.text = text.encode("latin-1")


@TABLE.kind("answer")
def extra_member(answer, member="Extra", value="e"):
    """A member that the action doesn't have, as KMS may add one any day."""
    answer.members[member] = value
