# SPDX-License-Identifier: Apache-2.0
"""The access keys that are valid: IMDS and the container endpoint hand them out, KMS checks them.

With a file, several processes share one store: each change is written to it, and a lookup reads
it again when it changed.
"""

import dataclasses
import json
import os
import pathlib
import secrets
import string
import threading
import time

ALPHABET = string.ascii_uppercase + "234567"
DEFAULT_LIFETIME = 6 * 3600     # as the credentials of a real instance


@dataclasses.dataclass
class Credentials:
    access_key_id: str
    secret_access_key: str
    token: str | None           # None: a user's long-lived key
    expiration: float | None    # seconds since the epoch; None: never
    issued: float
    revoked: bool = False


def make_credentials(lifetime=DEFAULT_LIFETIME, token_length=None, now=None):
    """Fresh temporary credentials. Tokens seen from AWS have 700 to 1400 characters; no limit is
    documented."""
    now = time.time() if now is None else now
    length = token_length or 700 + secrets.randbelow(701)
    token = "IQoJb3JpZ2luX2VjE" + secrets.token_urlsafe(length).replace("-", "+").replace("_", "/")
    return Credentials(
        access_key_id="ASIA" + "".join(secrets.choice(ALPHABET) for _ in range(16)),
        secret_access_key=secrets.token_urlsafe(30).replace("-", "/").replace("_", "+"),
        token=token[:length - 2] + "==",
        expiration=now + lifetime,
        issued=now)


def make_user_key():
    """A long-lived key, which has no token."""
    found = make_credentials()
    return dataclasses.replace(found, access_key_id="AKIA" + found.access_key_id[4:],
                               token=None, expiration=None)


class CredentialStore:
    """current is what IMDS hands out; older ones stay valid until they expire or are revoked."""

    def __init__(self, path=None):
        self.honour_expired = False     # as AWS may, while IMDS is out ("static stability")
        self._path = pathlib.Path(path) if path else None
        self._seen = None               # the file's mtime when last read
        self._by_id = {}
        self._current = None
        self._lock = threading.RLock()
        self._load()
        if self._current is None:
            self.rotate()

    @property
    def current(self):
        with self._lock:
            self._load()
            return self._by_id[self._current]

    def all(self):
        with self._lock:
            self._load()
            return list(self._by_id.values())

    def rotate(self, lifetime=DEFAULT_LIFETIME, token_length=None, revoke_old=False):
        """New credentials become the current ones."""
        with self._lock:
            self._load()
            if revoke_old and self._current:
                self._by_id[self._current].revoked = True
            fresh = make_credentials(lifetime, token_length)
            self.add(fresh)
            self._current = fresh.access_key_id
            self._save()
            return fresh

    def add(self, credentials):
        """Another valid key, not handed out: an operator's own, for calls that pass nothing."""
        with self._lock:
            self._by_id[credentials.access_key_id] = credentials
            self._save()
            return credentials

    def revoke(self, access_key_id=None):
        """KMS answers ExpiredTokenException to this key (the current one) from now on."""
        with self._lock:
            self._load()
            self._by_id[access_key_id or self._current].revoked = True
            self._save()

    def forget(self, access_key_id=None):
        """KMS answers UnrecognizedClientException to this key (the current one) from now on."""
        with self._lock:
            self._load()
            access_key_id = access_key_id or self._current
            if access_key_id == self._current:
                self.rotate()
            del self._by_id[access_key_id]
            self._save()

    def expire_at(self, when, access_key_id=None):
        """Moves the moment of expiry, in seconds since the epoch."""
        with self._lock:
            self._load()
            self._by_id[access_key_id or self._current].expiration = when
            self._save()

    def lookup(self, access_key_id):
        with self._lock:
            self._load()
            return self._by_id.get(access_key_id)

    def is_expired(self, credentials, now):
        if credentials.revoked:
            return True
        if credentials.expiration is None or self.honour_expired:
            return False
        return now >= credentials.expiration

    def _load(self):
        if self._path is None or not self._path.exists():
            return
        mtime = self._path.stat().st_mtime_ns
        if mtime == self._seen:
            return
        data = json.loads(self._path.read_text(encoding="utf-8"))
        self._by_id = {c["access_key_id"]: Credentials(**c) for c in data["credentials"]}
        self._current = data["current"]
        self._seen = mtime

    def _save(self):
        if self._path is None or self._current not in self._by_id:
            return
        text = json.dumps({"current": self._current,
                           "credentials": [dataclasses.asdict(c) for c in self._by_id.values()]},
                          indent=1)
        new = self._path.with_name(self._path.name + ".new")
        new.touch(mode=0o600)
        new.write_text(text, encoding="utf-8")
        os.replace(new, self._path)
        self._seen = self._path.stat().st_mtime_ns
