#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A local container credentials endpoint, as EKS Pod Identity and ECS have: GET with the token of
a file in Authorization.
"""

import hmac
import json
import secrets

from local_imds import FAULTS, credential_members
from server.credential_store import CredentialStore
from server.http_message import Reply
from server.http_server import HttpServer
from server.standin import Standin

PATH = "/v1/credentials"


class LocalContainer(Standin):
    """token: what Authorization must hold; it may be changed while running (the file that holds it
    in a pod is renewed). None: no token is asked for, as on ECS."""

    def __init__(self, credentials=None, *, token="", account="111122223333", path=PATH,
                 listen="127.0.0.1", port=0):
        self.credentials = credentials or CredentialStore()
        self.token = token if token != "" else secrets.token_urlsafe(600)
        self.account = account
        self.path = path
        super().__init__(HttpServer(self, listen, port, tables=(FAULTS,)))

    @property
    def credentials_url(self):
        """For AWS_CONTAINER_CREDENTIALS_FULL_URI."""
        return self.url + self.path

    def rotate(self, **how):
        return self.credentials.rotate(**how)

    def action(self, request):
        return "GetCredentials" if request.target == self.path else None

    def answer(self, request):
        refusal = self._refusal(request)
        if refusal:
            status, text = refusal
            body = json.dumps({"code": text, "message": text}).encode()
            reply = Reply(status, body, "application/json")
            reply.verdict = text
            return reply
        members = credential_members(self.credentials.current, self.clock())
        self._apply("answer", request, members)
        for name in ("_now", "Type", "LastUpdated"):
            members.pop(name, None)
        if members.get("Code") == "Success":
            del members["Code"]
            members["AccountId"] = self.account
        return Reply(200, json.dumps(members).encode(), "application/json")

    def _refusal(self, request):
        if request.method != "GET":
            return 405, "MethodNotAllowed"
        if request.action is None:
            return 404, "NotFound"
        given = request.header("Authorization") or ""
        if self.token is not None and not hmac.compare_digest(given.encode(), self.token.encode()):
            return 401, "AccessDeniedException"
        return None

    def state(self):
        return {**super().state(), "credentials_url": self.credentials_url}


if __name__ == "__main__":
    from server import program
    program.main(["container"])
