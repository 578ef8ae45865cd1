# SPDX-License-Identifier: Apache-2.0
"""Where secrets are and where they are not: the daemon's memory, its log, its dumps."""

import base64
import hashlib
import hmac
import os
import re
import signal
import subprocess
import time

import pytest

from daemon import wait_for
from kms_client import request
from proxy_help import DESCRIBE, KEY, NOT_ALLOWED, record_of, sanitized

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the memory of a daemon that is not dumpable")
CHUNK = 1 << 20
# What an enclave sends and gets in clear. Only a piece of it is looked for, since what is left of
# a buffer may have lost its beginning.
PLAIN = b"canary-of-an-enclave-" + b"0123456789abcdef" * 4


class Mapping:
    """One writable mapping of a process."""

    def __init__(self, line, flags):
        self.line = line
        self.start, self.end = (int(n, 16) for n in line.split()[0].split("-"))
        # OpenSSL's secure heap is locked and left out of dumps; nothing else is both.
        self.secure = {"lo", "dd"} <= flags
        self.data = b""

    def __repr__(self):
        return self.line


def mappings(pid):
    """All that can be read of it, with the bytes. The process is stopped meanwhile."""
    found = []
    os.kill(pid, signal.SIGSTOP)
    try:
        with open(f"/proc/{pid}/smaps", encoding="utf-8") as smaps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            line = None
            for text in smaps:
                if re.match(r"[0-9a-f]+-[0-9a-f]+ ", text):
                    line = text.strip()
                elif text.startswith("VmFlags:") and " rw" in line:
                    one = Mapping(line, set(text.split()[1:]))
                    if one.end - one.start < 1 << 30:       # not a sanitizer's shadow
                        found.append(one)
            for one in found:
                one.data = _read(memory, one)
    finally:
        os.kill(pid, signal.SIGCONT)
    return found


def _read(memory, mapping):
    data = []
    for start in range(mapping.start, mapping.end, CHUNK):
        try:
            memory.seek(start)
            data.append(memory.read(min(CHUNK, mapping.end - start)))
        except OSError:     # a guard page
            data.append(bytes(min(CHUNK, mapping.end - start)))
    return b"".join(data)


def where(found, text, secure):
    """The mappings, inside the secure heap or outside, that hold the text."""
    text = text if isinstance(text, bytes) else text.encode()
    return [m for m in found if m.secure == secure and text in m.data]


def derived_keys(credentials, when):
    """Every step from the secret key to the signing key, by the day of the daemon's clock."""
    found = {"AWS4": b"AWS4" + credentials.secret_access_key.encode()}
    key = found["AWS4"]
    for part in (time.strftime("%Y%m%d", time.gmtime(when)), "eu-central-1", "kms", "aws4_request"):
        key = found[part] = hmac.new(key, part.encode(), hashlib.sha256).digest()
        # as the state of a hash holds it on this machine
        found[f"{part} swapped"] = b"".join(key[i:i + 4][::-1] for i in range(0, 32, 4))
    return found


def use_it(daemon):
    """Requests of several ways through the daemon."""
    with daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        assert client.ask(NOT_ALLOWED).status == 400
        sealed = client.ask(request("Encrypt", {"KeyId": KEY, "Plaintext": PLAIN}))
        opened = client.ask(request("Decrypt", {"KeyId": KEY, "CiphertextBlob": sealed.json["CiphertextBlob"]}))
        assert base64.b64decode(opened.json["Plaintext"]) == PLAIN
        record_of(daemon, opened)
    with daemon.client() as client:     # one that is cut off
        client.send(request("Encrypt", {"KeyId": KEY, "Plaintext": PLAIN})[:-5])
    daemon.record(REASON="cut-off")


@needs_root
def test_the_scan_finds_what_is_there(daemon, kms):
    with daemon:
        use_it(daemon)
        found = mappings(daemon.pid)
        assert sum(m.secure for m in found) == 1
        assert sum(len(m.data) for m in found) > 1 << 20
        current = kms.credentials.current
        assert where(found, current.access_key_id, secure=False) or where(found, current.access_key_id, secure=True)
        assert where(found, current.secret_access_key, secure=True)
        assert where(found, "payments.sock", secure=False)


@needs_root
def test_the_secret_key_is_in_the_secure_heap_only(daemon, kms):
    with daemon:
        use_it(daemon)
        current = kms.credentials.current
        found = mappings(daemon.pid)
        assert not where(found, current.secret_access_key, secure=False)
        keys = derived_keys(current, time.time())
        assert not {name: at for name, key in keys.items() if (at := where(found, key, secure=False))}
        assert where(found, keys["aws4_request"], secure=True)      # it is cached there


@needs_root
def test_the_session_token_is_in_the_secure_heap_only_between_requests(daemon, kms):
    with daemon:
        use_it(daemon)
        token = kms.credentials.current.token
        found = mappings(daemon.pid)
        assert where(found, token, secure=True)
        for piece in (token[:64], token[len(token) // 2:][:64], token[-64:]):
            assert not where(found, piece, secure=False)


@needs_root
def test_nothing_is_left_of_credentials_that_were_replaced(daemon, kms, imds):
    with daemon:
        use_it(daemon)
        old = kms.credentials.current
        fresh = imds.rotate()
        kms.credentials.revoke(old.access_key_id)
        with daemon.client() as client:
            assert client.ask(DESCRIBE).status == 200
        assert kms.requests[-1].access_key_id == fresh.access_key_id
        found = wait_for(lambda: (m := mappings(daemon.pid)) and not any(
            where(m, old.secret_access_key, secure=s) for s in (True, False)) and m)
        for name, text in {"secret": old.secret_access_key, "token": old.token[:64],
                           "token's end": old.token[-64:], **derived_keys(old, time.time())}.items():
            for secure in (True, False):
                assert not where(found, text, secure), (name, secure)
        assert where(found, fresh.secret_access_key, secure=True)
        assert not where(found, fresh.secret_access_key, secure=False)


@needs_root
def test_nothing_is_left_of_what_enclaves_sent_in_clear(daemon):
    with daemon:
        use_it(daemon)
        found = mappings(daemon.pid)
        for text in (base64.b64encode(PLAIN)[16:64], PLAIN[16:64]):
            assert not where(found, text, secure=False)
            assert not where(found, text, secure=True)


@needs_root
def test_a_source_that_is_a_file_leaves_nothing_either(daemon, kms, tmp_path):
    current = kms.credentials.current
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = {current.access_key_id}\naws_secret_access_key = "
        f"{current.secret_access_key}\naws_session_token = {current.token}\n")
    (tmp_path / "credentials").chmod(0o600)
    daemon.config["credentials"] = {"source": "file", "file": str(tmp_path / "credentials")}
    with daemon:
        use_it(daemon)
        found = mappings(daemon.pid)
        for text in (current.secret_access_key, current.token[:64]):
            assert where(found, text, secure=True) and not where(found, text, secure=False)


# Dumps.

def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return dict(line.rstrip().partition(":\t")[::2] for line in status)


def test_it_is_not_dumpable(daemon):
    """The kernel gives the files of such a process to root, and lets nobody but root trace it."""
    daemon.wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    if daemon.wrapper:
        open_to_nobody(daemon)
    with daemon:
        assert os.stat(f"/proc/{daemon.pid}/mem").st_uid == 0
        if os.geteuid() == 0:
            assert status_of(daemon.pid)["Uid"].split()[0] == "65534"
            tried = subprocess.run([*daemon.wrapper, "cat", f"/proc/{daemon.pid}/maps"], capture_output=True)
            assert tried.returncode != 0 and not tried.stdout


def open_to_nobody(daemon):
    """Lets the user nobody work in the test's folder."""
    for folder in (daemon.folder, *list(daemon.folder.parents)[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    os.chown(daemon.folder, 65534, 65534)


@needs_root
def test_a_core_would_not_hold_the_secure_heap(daemon, kms, tmp_path):
    """Even root's own dump (gdb's gcore obeys the mapping's mark) has no secret key."""
    with daemon:
        if sanitized(daemon):
            pytest.skip("a sanitizer's shadow is too large to be dumped")
        use_it(daemon)
        found = mappings(daemon.pid)
        assert all("dd" in _flags(daemon.pid, m) for m in found if m.secure)
        made = subprocess.run(["gdb", "-p", str(daemon.pid), "-batch", "-nx", "-ex", "set use-coredump-filter on",
                               "-ex", "set dump-excluded-mappings off", "-ex", f"gcore {tmp_path}/core"],
                              capture_output=True, text=True, timeout=120)
        core = tmp_path / "core"
        assert core.exists(), made.stderr
        data = core.read_bytes()
        assert b"payments.sock" in data
        assert kms.credentials.current.secret_access_key.encode() not in data
        with daemon.client() as client:     # it lives on
            assert client.ask(DESCRIBE).status == 200


def _flags(pid, mapping):
    start = f"{mapping.start:x}-"
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as smaps:
        text = smaps.read()
    return re.search(rf"(?ms)^{start}.*?^VmFlags:(.*?)$", text)[1].split()


def test_locked_memory_that_is_refused_is_an_error(daemon):
    """Rather no daemon than one whose secrets may be swapped out."""
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    if prefix:
        open_to_nobody(daemon)
    daemon.wrapper = ["prlimit", "--memlock=65536", *prefix]
    daemon.start(wait=False)
    assert daemon.process.wait(20) == 1
    assert "cannot lock memory for secrets" in daemon.log()


# The log, and the command line.

def test_no_secret_is_logged_whatever_goes_wrong(daemon, kms, imds):
    seen = [kms.credentials.current]
    with daemon, daemon.client() as client:
        use_it(daemon)
        for kind in ("invalid_signature", "access_denied", "internal", "gzip", "reset"):
            kms.fault(kind)
            client.ask(DESCRIBE)
            kms.clear()
        seen.append(imds.rotate())
        kms.credentials.revoke(seen[0].access_key_id)
        imds.fault("fields", action="GetCredentials", drop=["AccessKeyId"])
        client.ask(DESCRIBE)
        imds.clear()
        wait_for(lambda: client.ask(DESCRIBE).status == 200, 60)
        with open(f"/proc/{daemon.pid}/cmdline", "rb") as cmdline, open(f"/proc/{daemon.pid}/environ", "rb") as environ:
            public = cmdline.read() + environ.read()
    text = daemon.log().encode() + public
    tokens = [r.header("X-aws-ec2-metadata-token") for r in imds.requests if r.header("X-aws-ec2-metadata-token")]
    assert tokens and seen[0] != seen[1]
    for secret in [c.secret_access_key for c in seen] + [c.token[:32] for c in seen] + tokens:
        assert secret.encode() not in text
    assert base64.b64encode(PLAIN) not in text and PLAIN not in text
