#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A local KMS: TLS, signatures checked, real cryptography, faults on request.

The way of a request: server/http_server reads and records it, LocalKms.answer checks its shape, its
signature (kms/sigv4_check), its body (kms/model), and does it (kms/crypto_actions, kms/key_actions).
"""

import copy
import uuid

from kms import crypto_actions, key_actions     # noqa: F401  they fill the table of actions
from kms import faults as kms_faults
from kms import model as kms_model
from kms import sigv4_check
from kms.call import ACTIONS, Call, wire
from kms.errors import KmsError
from kms.keys import KeyStore
from server.credential_store import CredentialStore
from server.http_message import Reply
from server.http_server import HttpServer
from server.standin import Standin
from server.tls_certs import ServerIdentity

CONTENT_TYPE = "application/x-amz-json-1.1"
DEFAULT_ACCOUNT = "111122223333"
DEFAULT_REGION = "eu-central-1"

# Fixed ids, so that a configuration file can name them.
DEFAULT_KEYS = (
    {"id": "1234abcd-12ab-34cd-56ef-1234567890ab", "aliases": ["alias/payments"]},
    {"id": "aaaabbbb-cccc-4ddd-8eee-ffff00001111", "aliases": ["alias/other"]},
    {"id": "mrk-1234abcd12ab34cd56ef1234567890ab", "aliases": ["alias/multi"]},
    {"id": "00000001-0000-4000-8000-000000000001", "spec": "RSA_2048", "usage": "SIGN_VERIFY",
     "aliases": ["alias/rsa-sign"]},
    {"id": "00000002-0000-4000-8000-000000000002", "spec": "RSA_2048", "usage": "ENCRYPT_DECRYPT",
     "aliases": ["alias/rsa-encrypt"]},
    {"id": "00000003-0000-4000-8000-000000000003", "spec": "ECC_NIST_P256", "usage": "SIGN_VERIFY",
     "aliases": ["alias/ecc-sign"]},
    {"id": "00000004-0000-4000-8000-000000000004", "spec": "ECC_NIST_P256",
     "usage": "KEY_AGREEMENT", "aliases": ["alias/ecdh"]},
    {"id": "00000005-0000-4000-8000-000000000005", "spec": "HMAC_256", "aliases": ["alias/hmac"]},
)


def endpoint_host(region):
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"kms.{region}.{suffix}"


class Answer:
    """The members of an answer before they are text; faults of stage `answer` change it."""

    def __init__(self, call, request, members):
        self.request = request
        self.members = members
        self.text = None
        self._call = call

    def body(self):
        return self.text if self.text is not None else wire(self.members)

    def add_text(self, member):
        """Puts the text of a member first, which the members as a dict couldn't hold."""
        rest = self.body()[1:]
        self.text = b"{" + member.encode() + (b"" if rest == b"}" else b",") + rest

    def without_recipient(self):
        """The members that the same request has without its Recipient, secret in clear."""
        call = copy.copy(self._call)
        call.p = {n: v for n, v in call.p.items() if n != "Recipient"}
        return ACTIONS[call.action](call)


class LocalKms(Standin):
    """regions: the first is that of `localhost` and of keys that name none.
    hosts: further host names, each with its region. keys: dicts as in DEFAULT_KEYS.
    attestation_root: DER; None: documents are read but not verified.
    attestation_time: None for the present, "document" for the document's own time."""

    def __init__(self, credentials=None, *, account=DEFAULT_ACCOUNT, regions=(DEFAULT_REGION,),
                 hosts=None, keys=DEFAULT_KEYS, listen="127.0.0.1", port=0, tls=None,
                 authority=None, attestation_root=None, attestation_time=None):
        self.credentials = credentials or CredentialStore()
        self.attestation_root = attestation_root
        self.attestation_time = attestation_time
        self.keys = KeyStore(account, regions, "aws-cn" if regions[0].startswith("cn-") else "aws")
        for key in keys:
            self.keys.add(**key)
        self.hosts = {endpoint_host(r): r for r in regions}
        self.hosts.update(hosts or {})
        self.hosts.update({n: regions[0] for n in ("localhost", "127.0.0.1", listen)})
        identity = ServerIdentity(self.hosts, authority)
        super().__init__(HttpServer(self, listen, port, identity, tls, (kms_faults.TABLE,)))

    def ca_pem(self):
        """The certificate of the CA that signed the server's, PEM."""
        return self.server.identity.authority.pem()

    def state(self):
        """For the state file of the program."""
        keys = [{"id": k.id, "arn": k.arn, "spec": k.spec, "usage": k.usage, "region": r,
                 "aliases": [a for a, i in self.keys.aliases(r).items() if i == k.id]}
                for r in self.keys.regions for k in self.keys.keys(r)]
        return {**super().state(), "hosts": self.hosts, "account": self.keys.account,
                "region": self.keys.regions[0], "keys": keys}

    def region_of(self, host):
        """The region that a Host header belongs to, None for a host that isn't ours."""
        return self.hosts.get((host or "").rpartition(":")[0] or host) or self.hosts.get(host)

    # For the server.

    def action(self, request):
        target = request.header("X-Amz-Target") or ""
        if not target.startswith(kms_model.TARGET_PREFIX):
            return None
        return target[len(kms_model.TARGET_PREFIX):]

    def answer(self, request):
        try:
            reply = Reply(200, self._do(request))
        except KmsError as error:
            reply = Reply(error.status, error.body())
            reply.verdict = error.error_type
        except sigv4_check.AuthError as error:
            reply = Reply(400, KmsError(error.error_type, error.message).body())
            reply.verdict = error.error_type
        except _NoService as error:
            reply = Reply(error.status, b"<UnknownOperationException/>\n", "application/xml")
            reply.verdict = "no service"
        reply.headers[:0] = [
            ("x-amzn-RequestId", str(uuid.uuid4())),
            ("Cache-Control", "no-cache, no-store, must-revalidate, private"),
            ("Expires", "0"), ("Pragma", "no-cache")]
        if reply.verdict != "no service":
            reply.set_header("Content-Type", CONTENT_TYPE)
        return reply

    def _do(self, request):
        region = self.region_of(request.header("Host"))
        if region is None:
            raise _NoService(421)
        if request.method != "POST" or request.target != "/":
            raise _NoService(404)
        if (request.header("Content-Type") or "").partition(";")[0].strip() != CONTENT_TYPE:
            raise _NoService(404)
        if request.action not in kms_model.ACTIONS:
            raise KmsError("UnknownOperationException")
        self._authenticate(request, region)
        request.json = kms_model.parse(request.body)
        call = Call(self, region, request.action, kms_model.check(request.action, request.json))
        return self._perform(call, request)

    def _authenticate(self, request, region):
        request.access_key_id = _claimed_key(request)
        request.access_key_id, request.signed_headers = sigv4_check.check(
            request, self.credentials, region, self.clock())

    def _perform(self, call, request):
        self._apply("error", request, request)
        if call.action not in ACTIONS:
            raise KmsError("UnsupportedOperationException", f"{call.action} is not supported here.")
        answer = Answer(call, request, ACTIONS[call.action](call))
        self._apply("answer", request, answer)
        return answer.body()

    def make_ciphertext(self, key_id, plaintext, context=None, size=None, region=None):
        """A ciphertext blob as Encrypt gives it; size: of exactly so many bytes (up to 6144)."""
        region = region or self.keys.regions[0]
        return self.keys.find(region, key_id, "Encrypt").seal(plaintext, context, size)


class _NoService(Exception):
    """What the front end answers when there is no such service: no KMS error, no JSON."""

    def __init__(self, status):
        super().__init__()
        self.status = status


def _claimed_key(request):
    """The access key id that the Authorization names, for the record also when it is refused."""
    _, _, rest = (request.header("Authorization") or "").partition("Credential=")
    return rest.partition("/")[0] or None


if __name__ == "__main__":
    from server import program
    program.main(["kms"])
