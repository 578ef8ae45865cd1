# SPDX-License-Identifier: Apache-2.0
"""The memory of a running process, and what could be in it: secrets in every form that gives them away."""

import base64
import hashlib
import hmac
import itertools
import math
import os
import re
import signal
import struct
import time

CHUNK = 1 << 20


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


def pieces(text):
    """Pieces by which what is left of it is found, also where its beginning or end was overwritten."""
    assert len(text) >= 64
    middle = len(text) // 2
    return {"begin": text[16:48], "middle": text[middle - 12:middle + 12], "end": text[-32:]}


def plaintext(value):
    """The forms of what an enclave keeps secret: as it is, and as JSON holds it."""
    # base64 of three bytes each: the text stays the same whatever stands around it
    return {f"{form} {name}": piece for form, text in (("raw", value), ("base64", base64.b64encode(value)))
            for name, piece in pieces(text).items()}


# SHA-256's inside: who holds the states of an HMAC can sign as well as who holds its key.

def _primes(count):
    found = []
    for n in itertools.count(2):
        if all(n % p for p in found):
            found.append(n)
            if len(found) == count:
                return found


def _cube_root(n):
    root = 1 << (n.bit_length() + 2) // 3
    while (better := (2 * root + n // root ** 2) // 3) < root:
        root = better
    return root


_WORD = 0xffffffff
_K = [_cube_root(p << 96) & _WORD for p in _primes(64)]
_H = [math.isqrt(p << 64) & _WORD for p in _primes(8)]


def sha256_state(text):
    """The eight words after a text of whole blocks."""
    state = _H
    for at in range(0, len(text), 64):
        state = _after(state, text[at:at + 64])
    return state


def _after(state, block):
    def turn(x, n):
        return (x >> n | x << (32 - n)) & _WORD
    w = list(struct.unpack(">16I", block))
    for i in range(16, 64):
        s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3
        s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10
        w.append((w[i - 16] + s0 + w[i - 7] + s1) & _WORD)
    a, b, c, d, e, f, g, h = state
    for k, word in zip(_K, w):
        t1 = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (e & f ^ ~e & g) + k + word
        t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (t1 + t2) & _WORD, a, b, c, (d + t1) & _WORD, e, f, g
    return [(x + y) & _WORD for x, y in zip(state, (a, b, c, d, e, f, g, h))]


def hmac_states(key):
    """The states before the message, as this machine holds them, and the padded keys they come from."""
    key = key.ljust(64, b"\0")
    found = {}
    for name, pad in (("inner", 0x36), ("outer", 0x5c)):
        block = bytes(byte ^ pad for byte in key)
        found[f"{name} block"] = block[:32]
        found[f"{name} state"] = struct.pack("8I", *sha256_state(block))
    return found


def prefix_state(request):
    """The hash of what the canonical request begins with, up to the last whole block of its token: the daemon
    keeps it, as this machine holds it."""
    text = "POST\n/\n" + "".join(f"\n{name}:{request.header(name)}" for name in (
        "content-type", "host", "x-amz-date", "x-amz-security-token"))
    return struct.pack("8I", *sha256_state(text.encode()[:len(text) // 64 * 64]))


def derived_keys(credentials, when):
    """Every step from the secret key to the signing key, by the day of the daemon's clock."""
    found = {"AWS4": b"AWS4" + credentials.secret_access_key.encode()}
    key = found["AWS4"]
    for part in (time.strftime("%Y%m%d", time.gmtime(when)), "eu-central-1", "kms", "aws4_request"):
        found |= {f"for {part}: {name}": state for name, state in hmac_states(key).items()}
        key = found[part] = hmac.new(key, part.encode(), hashlib.sha256).digest()
        # as the state of a hash holds it on this machine
        found[f"{part} swapped"] = b"".join(key[i:i + 4][::-1] for i in range(0, 32, 4))
    return found | {f"of the signing key: {name}": state for name, state in hmac_states(key).items()}


def secrets_of(credentials, when=None):
    """All forms of credentials, but the public key id."""
    found = derived_keys(credentials, when or time.time())
    secret = found["secret"] = credentials.secret_access_key.encode()
    found |= {"secret's begin": secret[:24], "secret's end": secret[-24:]}
    # Short enough to be found in what a vector register left on a stack.
    token, middle = credentials.token.encode(), len(credentials.token) // 2
    assert len(token) >= 300
    found |= {"token's begin": token[16:48], "token's middle": token[middle - 16:middle + 16],
              "token's end": token[-32:]}
    return found
