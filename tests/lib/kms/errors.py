# SPDX-License-Identifier: Apache-2.0
"""KMS's errors: their type, status and shape on the wire."""

import json

# Everything else is 400, also what other services call 403, 404 or 429.
SERVER_FAULTS = ("DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException",
                 "InternalFailure")


class KmsError(Exception):
    """An error answer. message None: KMS sends none with this type. member: what the type stands in;
    None: in no member."""

    def __init__(self, error_type, message=None, status=None, member="__type"):
        super().__init__(f"{error_type}: {message}")
        self.error_type = error_type
        self.message = message
        self.member = member
        self.status = status or (500 if error_type in SERVER_FAULTS else 400)

    def body(self):
        shape = {self.member: self.error_type} if self.member else {}
        if self.message is not None:
            # Two that aren't KMS's own but its front end's spell the member with a capital.
            capital = self.error_type in ("AccessDeniedException", "SerializationException")
            shape["Message" if capital else "message"] = self.message
        return json.dumps(shape, separators=(",", ":")).encode()


def validation(problem):
    return KmsError("ValidationException", problem)
