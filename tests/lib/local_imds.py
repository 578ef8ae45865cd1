#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A local instance metadata service, strictly version 2: PUT for a token, GET with it."""

import json
import secrets

from server.credential_store import CredentialStore
from server.faults import Table
from server.http_message import Reply, iso_time
from server.http_server import HttpServer
from server.standin import Standin

TOKEN_PATH = "/latest/api/token"
ROLES_PATH = "/latest/meta-data/iam/security-credentials/"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TTL_MAX = 21600

# What a status looks like: the real service answers in HTML.
PAGE = """<?xml version="1.0" encoding="iso-8859-1"?>
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head><title>{status} - {text}</title></head>
 <body><h1>{status} - {text}</h1></body>
</html>
"""
TEXTS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
         405: "Method Not Allowed"}

FAULTS = Table()


@FAULTS.kind("answer")
def code(members, code="AssumeRoleUnauthorizedAccess",
         message="EC2 cannot assume the role enclave-parent."):
    """An error that comes as HTTP 200: Code isn't Success, and there are no keys."""
    stamp = members["LastUpdated"]
    members.clear()
    members.update(Code=code, Message=message, LastUpdated=stamp)


@FAULTS.kind("answer")
def fields(members, change=None, drop=()):
    """Other values of the credentials' members, or some left out."""
    for name in drop:
        members.pop(name, None)
    members.update(change or {})


@FAULTS.kind("answer")
def expired(members, seconds=60):
    """Credentials whose Expiration was `seconds` ago."""
    members["Expiration"] = iso_time(members["_now"] - seconds)


def credential_members(credentials, now):
    """The JSON that IMDS answers, before faults; _now is for faults and doesn't go out."""
    return {"Code": "Success", "LastUpdated": iso_time(credentials.issued), "Type": "AWS-HMAC",
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key, "Token": credentials.token,
            "Expiration": iso_time(credentials.expiration), "_now": now}


class _Refusal(Exception):
    def __init__(self, status):
        super().__init__()
        self.status = status


class LocalImds(Standin):
    """role: the name listed; None: no role is attached (404). A role name may be anything, such as
    `../x`. rotate_ahead: seconds before expiry at which new credentials appear (None: never)."""

    def __init__(self, credentials=None, *, role="enclave-parent", region="eu-central-1",
                 account="111122223333", instance_id="i-0123456789abcdef0", domain="amazonaws.com",
                 partition="aws", rotate_ahead=None, listen="127.0.0.1", port=0):
        self.credentials = credentials or CredentialStore()
        self.role = role
        self.region = region
        self.account = account
        self.instance_id = instance_id
        self.domain = domain
        self.partition = partition
        self.rotate_ahead = rotate_ahead
        self._tokens = {}           # token: when it expires
        super().__init__(HttpServer(self, listen, port, tables=(FAULTS,)))

    def rotate(self, **how):
        """New credentials (CredentialStore.rotate); KMS takes the old ones until revoked."""
        return self.credentials.rotate(**how)

    def invalidate_tokens(self):
        """Every session token handed out is answered with 401 from now on."""
        self._tokens.clear()

    # For the server.

    PATHS = {
        "/latest/meta-data/instance-id": ("InstanceId", lambda i: i.instance_id),
        "/latest/meta-data/placement/region": ("Region", lambda i: i.region),
        "/latest/meta-data/placement/availability-zone": ("Zone", lambda i: i.region + "a"),
        "/latest/meta-data/services/domain": ("ServicesDomain", lambda i: i.domain),
        "/latest/meta-data/services/partition": ("ServicesPartition", lambda i: i.partition),
        "/latest/dynamic/instance-identity/document": ("Identity", lambda i: i._identity()),
        ROLES_PATH: ("ListRoles", lambda i: i._roles()),
        ROLES_PATH.rstrip("/"): ("ListRoles", lambda i: i._roles()),
    }

    def action(self, request):
        if request.target == TOKEN_PATH:
            return "PutToken"
        if request.target in self.PATHS:
            return self.PATHS[request.target][0]
        return "GetCredentials" if request.target.startswith(ROLES_PATH) else None

    def answer(self, request):
        try:
            if request.method not in ("GET", "HEAD", "PUT"):
                raise _Refusal(405)
            if request.header_values("X-Forwarded-For"):
                raise _Refusal(403)
            reply = self._put(request) if request.method == "PUT" else self._get(request)
        except _Refusal as refusal:
            text = TEXTS[refusal.status]
            reply = Reply(refusal.status, PAGE.format(status=refusal.status, text=text).encode(),
                          "text/html")
            reply.verdict = text
        reply.headers.append(("Server", "EC2ws"))
        return reply

    def _put(self, request):
        if request.target != TOKEN_PATH:
            raise _Refusal(405)
        ttl = request.header(TTL_HEADER) or ""
        if not ttl.isascii() or not ttl.isdigit() or not 1 <= int(ttl) <= TTL_MAX:
            raise _Refusal(400)
        token = secrets.token_urlsafe(40) + "=="
        self._tokens[token] = self.clock() + int(ttl)
        return Reply(200, token.encode(), "text/plain",
                     [("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", str(int(ttl)))])

    def _get(self, request):
        if request.target == TOKEN_PATH:
            raise _Refusal(405)
        token = request.header(TOKEN_HEADER)
        if token is None or self.clock() >= self._tokens.get(token, 0):
            raise _Refusal(401)
        if request.action is None:
            raise _Refusal(404)
        if request.action == "GetCredentials":
            return self._credentials(request)
        return Reply(200, self.PATHS[request.target][1](self).encode(), "text/plain")

    def _roles(self):
        if self.role is None:
            raise _Refusal(404)
        return self.role

    def _credentials(self, request):
        if self.role is None or request.target[len(ROLES_PATH):] != self.role:
            raise _Refusal(404)
        current = self.credentials.current
        if self.rotate_ahead is not None and self.clock() >= current.expiration - self.rotate_ahead:
            current = self.credentials.rotate()
        members = credential_members(current, self.clock())
        self._apply("answer", request, members)
        members.pop("_now", None)
        text = json.dumps(members, indent=2, separators=(",", " : "))
        return Reply(200, text.encode(), "text/plain")

    def _identity(self):
        return json.dumps({"accountId": self.account, "instanceId": self.instance_id,
                           "region": self.region, "availabilityZone": self.region + "a",
                           "version": "2017-09-30"}, indent=2)

    def state(self):
        return {**super().state(), "role": self.role, "instance_id": self.instance_id}


if __name__ == "__main__":
    from server import program
    program.main(["imds"])
