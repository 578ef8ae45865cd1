# SPDX-License-Identifier: Apache-2.0
"""Checks the signature of a request as AWS does: recomputed with botocore's own signer over
exactly the headers that the request says it signed, and refused with AWS's error types.
"""

import datetime
import hashlib
import hmac
import re

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

WINDOW = datetime.timedelta(minutes=5)      # KMS's; other services have 15
ALGORITHM = "AWS4-HMAC-SHA256"


class AuthError(Exception):
    """error_type is the __type of the answer; all of them are HTTP 400."""

    def __init__(self, error_type, message):
        super().__init__(message)
        self.error_type = error_type
        self.message = message


class _Signer(SigV4Auth):
    """Signs the headers it is told, not those that botocore would choose."""

    def __init__(self, credentials, region, service, signed_headers):
        super().__init__(Credentials(credentials.access_key_id, credentials.secret_access_key,
                                     credentials.token), service, region)
        self._signed_headers = signed_headers

    def headers_to_sign(self, request):
        chosen = HTTPHeaders()
        for name in self._signed_headers:
            for value in request.context["received"](name):
                chosen[name] = value
        return chosen


def check(request, store, region, now, service="kms"):
    """Raises AuthError, or returns the access key id and the list of signed headers."""
    fields = _authorization(request)
    access_key_id, scope = _credential(fields["Credential"])
    signed = fields["SignedHeaders"].split(";")
    stamp = request.header("X-Amz-Date")
    if not stamp or not re.fullmatch(r"\d{8}T\d{6}Z", stamp):
        raise AuthError("IncompleteSignatureException",
                        "Authorization header requires existence of either a 'X-Amz-Date' or a "
                        "'Date' header. (Hashed with SHA-256 and encoded with Base64) ")
    credentials = _known(request, store, access_key_id, now)
    _check_scope(scope, stamp, region, service)
    _check_headers(request, signed)
    _check_window(stamp, now)
    _check_signature(request, credentials, region, service, signed, stamp, fields["Signature"])
    return access_key_id, signed


def _authorization(request):
    text = request.header("Authorization")
    if not text:
        raise AuthError("MissingAuthenticationTokenException", "Missing Authentication Token")
    algorithm, _, rest = text.partition(" ")
    if algorithm != ALGORITHM:
        raise AuthError("IncompleteSignatureException",
                        f"Unsupported AWS 'algorithm': '{algorithm}'.")
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    missing = [n for n in ("Credential", "Signature", "SignedHeaders") if not fields.get(n)]
    if missing:
        raise AuthError("IncompleteSignatureException", " ".join(
            f"Authorization header requires '{n}' parameter." for n in missing))
    return fields


def _credential(text):
    parts = text.split("/")
    if len(parts) != 5:
        raise AuthError("IncompleteSignatureException",
                        f"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/"
                        f"region/service/term, got '{text}'")
    return parts[0], parts[1:]


def _known(request, store, access_key_id, now):
    credentials = store.lookup(access_key_id)
    token = request.header("X-Amz-Security-Token")
    if credentials is None or (credentials.token or "") != (token or ""):
        raise AuthError("UnrecognizedClientException",
                        "The security token included in the request is invalid.")
    if store.is_expired(credentials, now):
        raise AuthError("ExpiredTokenException",
                        "The security token included in the request is expired")
    return credentials


def _check_scope(scope, stamp, region, service):
    date, scope_region, scope_service, terminator = scope
    problems = []
    if scope_region != region:
        problems.append(f"Credential should be scoped to a valid region, not '{scope_region}'. ")
    if scope_service != service:
        problems.append(f"Credential should be scoped to correct service: '{service}'. ")
    if terminator != "aws4_request":
        problems.append(f"Credential should be scoped with a valid terminator: 'aws4_request', "
                        f"not '{terminator}'. ")
    if date != stamp[:8]:
        problems.append(f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version "
                        f"of date from HTTP: '{date}' != '{stamp[:8]}', from '{stamp}'. ")
    if problems:
        raise AuthError("InvalidSignatureException", "".join(problems))


def _check_headers(request, signed):
    present = {n.lower() for n, _ in request.headers}
    if signed != sorted({name.lower() for name in signed}):
        raise AuthError("IncompleteSignatureException",
                        "SignedHeaders must be sorted, in lower case, each once")
    if "host" not in signed:
        raise AuthError("InvalidSignatureException", "'Host' or ':authority' must be a "
                        "'SignedHeader' in the AWS Authorization.")
    unsigned = sorted(n for n in present if n.startswith("x-amz-") and n not in signed)
    if unsigned:
        raise AuthError("InvalidSignatureException", "There were headers present in the request "
                        f"which were not signed: {', '.join(unsigned)}")
    absent = [n for n in signed if n not in present]
    if absent:
        # AWS signs an absent header as an empty one, which never matches.
        raise AuthError("InvalidSignatureException", "The request signature we calculated does "
                        f"not match the signature you provided. Signed but absent: {absent}")
    digest = request.header("X-Amz-Content-Sha256")
    if digest is not None and digest != hashlib.sha256(request.body).hexdigest():
        raise AuthError("InvalidSignatureException", "The provided 'x-amz-content-sha256' header "
                        "does not match what was computed.")


def _check_window(stamp, now):
    try:
        sent = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ")
    except ValueError:
        raise AuthError("IncompleteSignatureException",
                        "Date must be in ISO-8601 'basic format'. "
                        f"Got '{stamp}'. See http://en.wikipedia.org/wiki/ISO_8601") from None
    here = datetime.datetime.utcfromtimestamp(int(now))
    text = "%Y%m%dT%H%M%SZ"
    if sent < here - WINDOW:
        raise AuthError("InvalidSignatureException",
                        f"Signature expired: {stamp} is now earlier than "
                        f"{(here - WINDOW).strftime(text)} ({here.strftime(text)} - 5 min.)")
    if sent > here + WINDOW:
        raise AuthError("InvalidSignatureException",
                        f"Signature not yet current: {stamp} is still later than "
                        f"{(here + WINDOW).strftime(text)} ({here.strftime(text)} + 5 min.)")


def _check_signature(request, credentials, region, service, signed, stamp, signature):
    signer = _Signer(credentials, region, service, signed)
    again = AWSRequest(method=request.method, data=request.body,
                       url=f"https://{request.header('Host')}{request.target}",
                       headers=dict(request.headers))
    again.context.update(timestamp=stamp, received=request.header_values)
    canonical = signer.canonical_request(again)
    to_sign = signer.string_to_sign(again, canonical)
    if hmac.compare_digest(signer.signature(to_sign, again).encode(), signature.encode()):
        return
    raise AuthError(
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. Check "
        "your AWS Secret Access Key and signing method. Consult the service documentation for "
        f"details.\n\nThe Canonical String for this request should have been\n'{canonical}'\n\n"
        f"The String-to-Sign should have been\n'{to_sign}'\n")
