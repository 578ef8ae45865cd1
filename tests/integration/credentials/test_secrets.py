# SPDX-License-Identifier: Apache-2.0
"""Where secrets are and where they are not: the daemon's memory, its log, its dumps."""

import base64
import json
import os
import re
import secrets
import struct
import subprocess
import time

import pytest

from daemon import wait_for
from daemon.help import DESCRIBE, KEY, NOT_ALLOWED, add_enclave, allow, record_of, sanitized, wait_taken
from daemon.tunnel_help import NAME, SLOW, Host, allow_tunnel, connect_request, open_tunnel, running
from kms.client import request
from memory_help import derived_keys, mappings, pieces, plaintext, prefix_state, secrets_of, where
from net.http_proxy import HttpProxy
from net.tls_hello import client_hello
from standins import LocalContainer

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the memory of a daemon that is not dumpable")
# What an enclave sends and gets in clear. Only a piece of it is looked for, since what is left of
# a buffer may have lost its beginning.
PLAIN = b"canary-of-an-enclave-" + b"0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def one_worker(daemon):
    """Of two, one may still be at the end of its turn when its answer has been read."""
    daemon.config["workers"] = 1
    # As the unit has it: at a function's first call the dynamic linker would save the processor's
    # registers on the stack, with what the last copy left in them.
    daemon.environment["LD_BIND_NOW"] = "1"


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
        found = mappings(daemon.pid)
        assert any(where(found, prefix_state(r), secure=False) for r in kms.requests)    # it is kept there
        fresh = imds.rotate()
        kms.credentials.revoke(old.access_key_id)
        with daemon.client() as client:
            assert client.ask(DESCRIBE).status == 200
        assert kms.requests[-1].access_key_id == fresh.access_key_id
        found = wait_for(lambda: (m := mappings(daemon.pid)) and not any(
            where(m, old.secret_access_key, secure=s) for s in (True, False)) and m)
        states = {f"hash of request {r.number}": prefix_state(r) for r in kms.requests
                  if r.access_key_id == old.access_key_id}
        for name, text in {"secret": old.secret_access_key, "token": old.token[:64],
                           "token's end": old.token[-64:], **derived_keys(old, time.time()), **states}.items():
            for secure in (True, False):
                assert not where(found, text, secure), (name, secure)
        assert where(found, fresh.secret_access_key, secure=True)
        assert not where(found, fresh.secret_access_key, secure=False)


# After each kind of request. The connections stay open, to the enclave and to KMS.

def canary():
    return b"canary " + secrets.token_bytes(160) + b" of an enclave"


def encrypt(value):
    return request("Encrypt", {"KeyId": KEY, "Plaintext": value})


def signed(daemon, kms, client):
    value = canary()
    assert client.ask(encrypt(value)).status == 200
    return value


def answered_in_clear(daemon, kms, client):
    answer = client.ask(request("GenerateDataKey", {"KeyId": KEY, "NumberOfBytes": 256}))
    assert answer.status == 200
    return base64.b64decode(answer.json["Plaintext"])


def answered_in_chunks(daemon, kms, client):
    kms.fault("chunked")
    return answered_in_clear(daemon, kms, client)


def refused_by_policy(daemon, kms, client):
    value = canary()
    assert client.ask(request("GenerateMac", {"KeyId": KEY, "Message": value,
                                              "MacAlgorithm": "HMAC_SHA_256"})).error == "AccessDeniedException"
    return value


def refused_as_json(daemon, kms, client):
    value = canary()
    body = json.dumps({"KeyId": KEY, "Plaintext": base64.b64encode(value).decode()})[:-1] + ', "KeyId": "again"}'
    assert client.ask(request("Encrypt", body=body.encode())).error == "SerializationException"
    return value


def refused_for_its_host(daemon, kms, client):
    value = canary()
    assert client.ask(request("Encrypt", {"KeyId": KEY, "Plaintext": value}, host="evil.example")).status == 400
    return value


def refused_before_its_body(daemon, kms, client):
    """The body is read, but not kept: the head comes first, the body in two parts."""
    value = canary()
    data = request("Encrypt", {"KeyId": KEY, "Plaintext": value}, host="evil.example")
    head = data.index(b"\r\n\r\n") + 4
    for part in (data[:head], data[head:-70], data[-70:]):
        client.send(part)
        wait_taken(client)
    assert client.read().status == 400
    return value


def throttled(daemon, kms, client):
    value = canary()
    data = encrypt(value)
    head = data.index(b"\r\n\r\n") + 4
    with daemon.client("ledger") as other:
        assert other.ask(DESCRIBE).status == 200
        other.send(data[:head])
        wait_taken(other)
        other.send(data[head:])
        assert other.read().error == "ThrottlingException"
        nothing_of(daemon, plaintext(value))
    return value


def too_large(daemon, kms, client):
    value = canary()
    body = b'{"Plaintext": "' + base64.b64encode(value) + b"A" * (1 << 20) + b'"}'
    with daemon.client() as other:
        other.send(request("Encrypt", body=body)[:20000])   # the rest never comes
        assert other.read().status == 413
    return value


def sent_behind_a_refusal(daemon, kms, client):
    """What still comes is read and dropped, so that it takes no answer with it."""
    value = canary()
    with daemon.client() as other:
        other.send(request("Encrypt", body=b" " * (1 << 20))[:5000])
        assert other.read().status == 413
        other.send(value + base64.b64encode(value))
        wait_taken(other)
    return value


def sent_before_the_answer(daemon, kms, client):
    """What stands in the socket after an answer is the next request."""
    value = canary()
    kms.fault("hang")
    before = len(kms.requests)
    client.send(DESCRIBE)
    kms.wait_for_requests(before + 1)
    client.send(encrypt(value))
    kms.clear()
    assert [client.read().status for _ in range(2)] == [200, 200]
    return value


def pipelined(daemon, kms, client):
    first, second = canary(), canary()
    client.send(encrypt(first) + encrypt(second))
    assert [client.read().status for _ in range(2)] == [200, 200]
    return second


def failed_at_kms(daemon, kms, client):
    value = canary()
    kms.fault("internal")
    assert client.ask(encrypt(value)).status == 500
    return value


def cut_off_by_kms(daemon, kms, client):
    value = canary()
    kms.fault("reset", count=2)
    assert client.ask(encrypt(value)).status in (502, 503)
    return value


def answered_too_late(daemon, kms, client):
    value = canary()
    kms.fault("hang")
    assert client.ask(encrypt(value)).status == 504
    kms.clear()
    return value


def repeated_on_a_fresh_connection(daemon, kms, client):
    assert client.ask(DESCRIBE).status == 200
    before, value = len(kms.connections), canary()
    kms.fault("close_before_read")
    assert client.ask(encrypt(value)).status == 200
    assert len(kms.connections) == before + 1
    return value


def repeated_with_new_credentials(daemon, kms, client):
    value = canary()
    old = kms.credentials.current
    kms.credentials.rotate()
    kms.credentials.revoke(old.access_key_id)
    assert client.ask(encrypt(value)).status == 200
    return value


def a_reply_that_may_not_pass(daemon, kms, client):
    value = canary()
    kms.fault("body", text=json.dumps({"Plaintext": base64.b64encode(value).decode()}))
    assert client.ask(request("GenerateRandom", {"NumberOfBytes": 8, "Recipient": {
        "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": "c2VhbGVk"}})).status == 502
    return value


def a_reply_that_is_none(daemon, kms, client):
    value = canary()
    kms.fault("body", text=base64.b64encode(value).decode())
    kms.fault("trailing")
    client.ask(encrypt(canary()))
    return value


def the_enclave_has_gone(daemon, kms, client):
    value = canary()
    kms.fault("hang")
    before = len(kms.requests)
    with daemon.client() as gone:
        gone.send(encrypt(value))
        kms.wait_for_requests(before + 1)
    daemon.record(REASON="client-gone")
    kms.clear()
    return value


def cut_off_by_the_enclave(daemon, kms, client):
    value = canary()
    with daemon.client() as gone:
        gone.send(encrypt(value)[:-5])
    daemon.record(REASON="cut-off")
    return value


KINDS = [signed, answered_in_clear, answered_in_chunks, refused_by_policy, refused_as_json, refused_for_its_host,
         refused_before_its_body, throttled, too_large, sent_behind_a_refusal, sent_before_the_answer, pipelined,
         failed_at_kms, cut_off_by_kms, answered_too_late, repeated_on_a_fresh_connection,
         repeated_with_new_credentials, a_reply_that_may_not_pass, a_reply_that_is_none, the_enclave_has_gone,
         cut_off_by_the_enclave]


def found_in(found, texts, secure=(True, False)):
    """What of the texts is there, and where."""
    return {(name, side): at for name, text in texts.items() for side in secure if (at := where(found, text, side))}


def nothing_of(daemon, texts, secure=(True, False)):
    """Waits the end of a turn, not longer, until nothing is left of the texts."""
    left = {}

    def look():
        left.clear()
        left.update(found_in(mappings(daemon.pid), texts, secure))
        return not left
    wait_for(look, 2 * SLOW, lambda: f"left in memory: {left}")


@needs_root
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_nothing_is_left_after_a_request(daemon, kms, kind):
    daemon.config["endpoints"]["kms"]["reply_timeout"] = "1s"
    allow(daemon, "GenerateRandom", plaintext="refuse")
    add_enclave(daemon, limits={"requests": "1/h", "burst": 1})
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        value = kind(daemon, kms, client)
        nothing_of(daemon, plaintext(value))
        nothing_of(daemon, secrets_of(kms.credentials.current), secure=[False])
        with daemon.client() as later:      # searching a sanitizer's memory takes longer than the idle time
            assert later.ask(DESCRIBE).status == 200
        assert where(mappings(daemon.pid), kms.credentials.current.secret_access_key, secure=True)


@needs_root
def test_nothing_is_left_of_what_passed_through_a_tunnel(daemon):
    """Nobody's secret as long as it is TLS; it is wiped all the same, also while the tunnel stays."""
    there, back, hello = canary(), canary(), client_hello(NAME)
    with Host() as host:
        allow_tunnel(daemon, (NAME, host.address))
        with daemon, daemon.client() as enclave:
            enclave.send(connect_request(f"{NAME}:443"))
            with host.accept() as server:
                assert enclave.sock.recv(len(b"HTTP/1.1 200 Connection established\r\n\r\n"))
                enclave.send(hello + there)
                assert server.receive(len(hello) + len(there))[-len(there):] == there
                server.sendall(back)
                assert enclave.sock.recv(len(back)) == back
                nothing_of(daemon, {**plaintext(there), **{f"back {n}": t for n, t in plaintext(back).items()}})


@needs_root
def test_what_waits_for_its_answer_is_there(daemon, kms):
    """The other way round: the scan finds a Plaintext, raw or in base64, wherever it stands."""
    value = canary()
    with daemon, daemon.client() as client:
        kms.fault("hang")
        client.send(encrypt(value))
        kms.wait_for_requests(1)
        found = found_in(mappings(daemon.pid), plaintext(value))
        assert {name for name, _ in found} == {f"base64 {piece}" for piece in ("begin", "middle", "end")}
        kms.clear()
        assert client.read().status == 200


# After each rotation.

def from_imds(daemon, kms, imds):
    return imds.rotate, lambda: None


def from_a_container(daemon, kms, imds):
    container = LocalContainer(kms.credentials)
    container.start()
    token = daemon.folder / "token"
    token.write_text(container.token)
    daemon.config["credentials"] = {"source": "container", "container": {
        "uri": container.credentials_url, "token_file": str(token)}}
    return container.rotate, container.stop


def from_a_file(daemon, kms, imds):
    path = daemon.folder / "credentials"

    def write():
        current = kms.credentials.current
        new = path.with_suffix(".new")
        new.write_text(f"[default]\naws_access_key_id = {current.access_key_id}\naws_secret_access_key = "
                       f"{current.secret_access_key}\naws_session_token = {current.token}\n")
        new.chmod(0o600)
        new.replace(path)

    def rotate():
        fresh = kms.credentials.rotate()
        write()
        return fresh
    write()
    daemon.config["credentials"] = {"source": "file", "file": str(path)}
    return rotate, lambda: None


@needs_root
@pytest.mark.parametrize("source", [from_imds, from_a_container, from_a_file], ids=lambda source: source.__name__)
def test_nothing_is_left_after_a_rotation(daemon, kms, imds, source):
    rotate, end = source(daemon, kms, imds)
    try:
        with daemon, daemon.client() as client:
            use_it(daemon)
            old = kms.credentials.current
            assert where(mappings(daemon.pid), derived_keys(old, time.time())["aws4_request"], secure=True)
            fresh = rotate()
            kms.credentials.revoke(old.access_key_id)
            wait_for(lambda: client.ask(DESCRIBE).status == 200)
            assert kms.requests[-1].access_key_id == fresh.access_key_id
            nothing_of(daemon, secrets_of(old))
            nothing_of(daemon, secrets_of(fresh), secure=[False])
            assert where(mappings(daemon.pid), fresh.secret_access_key, secure=True)
    finally:
        end()


@needs_root
def test_a_worker_without_requests_forgets_its_keys_too(daemon, kms, imds):
    daemon.config["workers"] = 2
    with daemon, daemon.client() as client, daemon.client() as other:   # each has one of its own
        assert [c.ask(DESCRIBE).status for c in (client, other)] == [200, 200]
        old = kms.credentials.current
        key = derived_keys(old, time.time())["aws4_request"]
        assert sum(m.data.count(key) for m in mappings(daemon.pid) if m.secure) == 2
        imds.rotate()
        kms.credentials.revoke(old.access_key_id)
        wait_for(lambda: client.ask(DESCRIBE).status == 200)
        nothing_of(daemon, secrets_of(old))
        assert other.ask(DESCRIBE).status == 200


@needs_root
def test_the_tokens_of_the_sources_are_in_the_secure_heap_only(daemon, kms, imds):
    """What proves to IMDS, or to a container's endpoint, that it is the daemon that asks."""
    with daemon:
        use_it(daemon)
        token = next(r.header("X-aws-ec2-metadata-token") for r in reversed(imds.requests)
                     if r.header("X-aws-ec2-metadata-token"))
        nothing_of(daemon, {"IMDS's": token.encode()}, secure=[False])
        assert where(mappings(daemon.pid), token, secure=True)


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


def core_of(daemon, folder, *how):
    """The bytes of a core that root makes of the running daemon with gdb's gcore."""
    made = subprocess.run(["gcore", *how, "-o", folder / "core", str(daemon.pid)],
                          capture_output=True, text=True, timeout=120)
    core = folder / f"core.{daemon.pid}"
    assert core.exists(), made.stderr
    data = core.read_bytes()
    core.unlink()
    assert b"payments.sock" in data
    return data


def registers_of(core):
    """The notes of a core: what each thread has in its registers."""
    table, size, count = struct.unpack_from("<Q14xHH", core, 32)
    headers = (struct.unpack_from("<II6Q", core, table + size * i) for i in range(count))
    return b"".join(core[offset:offset + length] for kind, _, offset, _, _, length, *_ in headers if kind == 4)


@needs_root
def test_a_core_would_not_hold_the_secure_heap(daemon, kms, tmp_path):
    """gcore obeys the heap's mark, though it reads by ptrace: no secret is in what it writes, from no
    heap, stack or library; a register may still hold the 32 bytes of a token that were copied last.
    gcore -a doesn't obey the mark, so root who wants the secrets gets them."""
    with daemon, daemon.client() as client:
        if sanitized(daemon):
            pytest.skip("a sanitizer's shadow is too large to be dumped")
        use_it(daemon)
        value = signed(daemon, kms, client)
        key = answered_in_clear(daemon, kms, client)
        found = mappings(daemon.pid)
        assert all("dd" in _flags(daemon.pid, m) for m in found if m.secure)
        texts = {**secrets_of(kms.credentials.current), **{f"sent {n}": t for n, t in plaintext(value).items()},
                 **{f"answered {n}": t for n, t in plaintext(key).items()}}
        core = core_of(daemon, tmp_path)
        in_registers = registers_of(core)
        assert in_registers
        left = {name for name, text in texts.items() if text in core}
        assert not {name for name in left if not name.startswith("token's")}
        core = core.replace(in_registers, b"")
        assert not {name for name, text in texts.items() if text in core}
        core = core_of(daemon, tmp_path, "-a")
        there = {name for name, text in texts.items() if text in core}
        assert {"secret", "aws4_request", *(f"token's {name}" for name in pieces(bytes(64)))} <= there
        assert not [name for name in there if name.startswith(("sent", "answered"))]
        with daemon.client() as another:    # it lives on
            assert another.ask(DESCRIBE).status == 200


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
    assert "can't lock memory for secrets" in daemon.log()


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


# What an outbound proxy is shown.

def proxy_forms(user, password):
    """The line of the file, and what is sent, whole and in pieces."""
    line = f"{user}:{password}"
    sent = base64.b64encode(line.encode()).decode()
    return {"line": line, "password": password, "sent": sent, "sent begins": sent[:32], "sent ends": sent[-32:]}


@needs_root
def test_a_proxys_password_is_in_the_secure_heap_only(daemon, kms):
    old, new = (proxy_forms(user, secrets.token_urlsafe(90)) for user in ("first", "second"))
    path = daemon.folder / "proxy-credentials"
    endpoint = daemon.config["endpoints"]["kms"]
    with HttpProxy({f"{NAME}:443": kms.address}, old["line"]) as proxy, Host() as host:
        proxy.places["tunnel.example:443"] = host.address
        endpoint.update(proxy=proxy.url, proxy_credentials_file=str(path))
        del endpoint["connect_to"]
        daemon.config["enclaves"]["payments"]["tunnel"] = {"hosts": [
            {"host": "tunnel.example", "proxy": proxy.url, "proxy_credentials_file": str(path)}]}
        path.write_text(old["line"] + "\n")
        with running(daemon):
            use_it(daemon)
            open_tunnel(daemon, host, "tunnel.example")
            found = mappings(daemon.pid)
            assert where(found, old["sent"], secure=True)       # the scan finds it
            assert not [name for name, text in old.items() if where(found, text, secure=False)]
            assert not where(found, old["password"], secure=True)
            with open(f"/proc/{daemon.pid}/cmdline", "rb") as arguments:
                assert old["password"].encode() not in arguments.read()

            proxy.credentials = new["line"]
            path.write_text(new["line"])
            daemon.reload()
            kms.drop_connections()
            use_it(daemon)
            found = wait_for(lambda: (m := mappings(daemon.pid)) and not where(m, old["sent"], secure=True) and m)
            assert not [name for name, text in (old | new).items() if where(found, text, secure=False)]
            assert where(found, new["sent"], secure=True)

            proxy.credentials = "another:one"       # refused: nothing of it is told
            kms.drop_connections()
            with daemon.client() as client:
                assert client.ask(DESCRIBE).status == 503
            daemon.record(REASON="proxy-refused")
        for text in (old | new).values():
            assert text not in daemon.log()
