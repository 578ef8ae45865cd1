#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Compares our JSON reader with Python's json and with json-c on generated and mutated bodies.

    json_bodies.py PROGRAM [--seed N] [--count N]

PROGRAM is json-verdict. A body must be accepted by ours exactly if Python accepts it and none of
the rules of common/json.h beyond RFC 8259 refuses it (`our_rules`). An accepted one must keep its
value, must not grow, must be read back as itself, and json-c must accept it too and write the same
bytes. What json-c is known to do otherwise stands in `JSON_C_TAKES` and `json_c_integer`.
"""
import argparse
import collections
import json
import random
import re
import struct
import subprocess
import sys

# What json-c 0.16 takes in its strict mode and we refuse: it must be one of these.
JSON_C_TAKES = {
    "duplicate", "NUL in a name", "lone surrogate", "depth", "members", "number",
    "constant",       # NaN, Infinity, -Infinity
    "control",        # a raw control character in a string
    "NUL",            # it stops reading at a NUL
    "UTF-8",          # it lets overlong forms, surrogates and more than U+10FFFF pass
    "odd number",     # 1. and -.5 and some leading zeros
}

BODIES = [
    {"KeyId": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
     "CiphertextBlob": "AQICAHhQY/j3F+a/b==", "EncryptionContext": {"app": "payments", "é": "ü"},
     "Recipient": {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
                   "AttestationDocument": "hEShATgioFkRYKlpbW9kdWxlX2lkeCdpLTAxMjM0NTY3OQ=="}},
    {"KeyId": "alias/app", "Plaintext": "aGVsbG8gd29ybGQhIQ==", "GrantTokens": ["AQpAM2RhZ", "x"],
     "EncryptionContext": {}, "DryRun": False},
    {"KeyId": "mrk-0123456789abcdef0123456789abcdef", "NumberOfBytes": 1024, "KeySpec": None},
    {"KeyId": "k", "GranteePrincipal": "arn:aws:iam::111122223333:role/r",
     "Operations": ["Decrypt", "GenerateDataKey"], "Name": "g",
     "Constraints": {"EncryptionContextSubset": {"tenant": "\U0001f600", "": "a\tb"}}},
    {"PolicyName": "default", "BypassPolicyLockoutSafetyCheck": True,
     "Policy": '{\n  "Version": "2012-10-17",\n  "Statement": [{"Action": "kms:*"}]\n}'},
    {"Tags": [{"TagKey": "cost\\centre", "TagValue": "a/b"},
              {"TagKey": "z", "TagValue": "\x7f\x00\x1f"}]},
    {"ValidTo": 1.7976931348623157e308, "Limit": -1, "Marker": "\u2028\uffff"},
    {"__type": "com.amazonaws.kms#NotFoundException", "Message": "Key 'x' does not exist"},
]

TOKENS = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\\u0000", b"\\ud83d\\ude00",
          b"\\ud800", b"\\udfff", b"\\/", b"\\n", b"\\u000A", b"\\u00e9", b"null", b"true", b"NaN",
          b"Infinity", b"-Infinity", b"-0", b"0", b"1e5", b"1.", b"01", b"1E+400", b"9" * 25,
          b"9" * 64, b"9" * 65, b" ", b"\n", b"\t", b"\0", b"\x1f", b"\x7f", b"\x80", b"\xc3\xa9",
          b"\xc0\x80", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf",
          b'"KeyId":1,', b'"KeyId":', b',"KeyId":{}', b"[[", b"]]", b"{}", b"[]", b"//", b"/**/"]

STRING = rb'("(?:[^"\\]|\\.)*")'
# A string, a fraction or power, or an integer.
NUMBER = re.compile(STRING + rb"|(-?[0-9]+[.eE][-+.0-9eE]*)|-?[0-9]+", re.DOTALL)
# A string, or what json-c could take for a number.
ODD_NUMBER = re.compile(STRING + rb"|-?[.0-9][-+.0-9eE]*", re.DOTALL)

NUMBERS = ["0", "-0", "7", "-12", "1024", "1.5", "-0.25", "1e5", "1E+5", "2.5e-3", "0e0",
           "18446744073709551615", "18446744073709551616", "-9223372036854775809", "1e999"]

CHARACTERS = ('aZ09/ "\\\b\f\n\r\t\0\x01\x1f\x7f\x80é\u07ff\u0800€\ud7ff\ue000\ufeff\uffff'
              "\U00010000\U0001f600\U0010ffff")


class Number(collections.namedtuple("Number", "text")):
    """A number as it was written: equal only to the same text."""


class Object(collections.namedtuple("Object", "pairs")):
    """Members in their order."""


class Refused(Exception):
    pass


def refuse_constant(_):
    raise Refused("constant")


def load(body):
    return json.loads(body.decode(), object_pairs_hook=lambda pairs: Object(tuple(pairs)),
                      parse_int=Number, parse_float=Number, parse_constant=refuse_constant)


def python_takes(body):
    """Control characters in strings and NaN let pass."""
    try:
        json.loads(body.decode(), strict=False)
        return True
    except ValueError:
        return False


def our_rules(value, limits, depth=0):
    """Refuses what common/json.h lists beyond RFC 8259; returns the number of nodes below."""
    if isinstance(value, Number) and len(value.text) > limits["number"]:
        raise Refused("number")
    if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        raise Refused("lone surrogate")
    if not isinstance(value, (Object, list)):
        return 0
    if depth == limits["depth"]:
        raise Refused("depth")
    children = value
    if isinstance(value, Object):
        names = [name for name, _ in value.pairs]
        children = [child for _, child in value.pairs]
        if len(set(names)) != len(names):
            raise Refused("duplicate")
        if any("\0" in name for name in names):
            raise Refused("NUL in a name")
        for name in names:
            our_rules(name, limits)
    nodes = len(children) + sum(our_rules(child, limits, depth + 1) for child in children)
    if nodes > limits["members"]:
        raise Refused("members")
    return nodes


def expect(body, limits):
    """The value of an acceptable body and None, or None and why it must be refused."""
    try:
        value = load(body)
        our_rules(value, limits)
        return value, None
    except Refused as e:
        return None, str(e)
    except UnicodeDecodeError:
        return None, "UTF-8"
    except RecursionError:
        return None, "depth"
    except ValueError:
        pass
    if b"\0" in body:
        return None, "NUL"
    if python_takes(body):
        return None, "control"
    if python_takes(ODD_NUMBER.sub(lambda m: m[1] or b"1", body)):
        return None, "odd number"
    return None, "grammar"


def json_c_integer(text):
    """json-c holds integers in 64 bits and saturates; it has no -0."""
    return b"%d" % min(max(int(text), -(1 << 63)), (1 << 64) - 1)


def json_c_text(text):
    """What json-c writes for our canonical text."""
    return NUMBER.sub(lambda m: m[1] or m[2] or json_c_integer(m[0]), text)


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def string(self):
        r = self.random
        if r.random() < 0.2:
            return "".join(r.choices("ABCDEFabcdef0123456789+/", k=r.choice((15, 16, 17, 40, 300))))
        return "".join(r.choices(CHARACTERS, k=r.choice((0, 1, 2, 3, 8, 20))))

    def value(self, depth):
        r = self.random
        kind = r.random()
        if depth == 0 or kind < 0.5:
            return r.choice((self.string(), self.string(), Number(r.choice(NUMBERS)),
                             None, True, False))
        n = r.choice((0, 1, 1, 2, 3, 6))
        if kind < 0.7:
            return [self.value(depth - 1) for _ in range(n)]
        return {self.name(): self.value(depth - 1) for _ in range(n)}

    def name(self):
        name = self.string()
        return name if self.random.random() < 0.02 else name.replace("\0", "")

    def write_string(self, s):
        """`s` in one of its many spellings."""
        r = self.random
        escape_some = r.random() < 0.5
        out = []
        for c in s:
            short = json.dumps(c, ensure_ascii=False)[1:-1]
            if c == "/":
                short = r.choice(("/", "\\/"))
            if escape_some and r.random() < 0.3:
                units = c.encode("utf-16-be")
                short = "".join(r.choice(("\\u%04x", "\\u%04X")) % u
                                for u in struct.unpack(f">{len(units) // 2}H", units))
            out.append(short)
        return '"' + "".join(out) + '"'

    def gap(self, space):
        return "".join(self.random.choices(" \t\r\n", k=self.random.randrange(3))) if space else ""

    def write_members(self, value, space):
        members = list(value.items())
        if members and self.random.random() < 0.02:  # the same name again, perhaps respelled
            members.append((self.random.choice(members)[0], None))
        return [self.write(name, space) + ":" + self.write(v, space) for name, v in members]

    def write(self, value, space):
        if isinstance(value, Number):
            text = value.text
        elif isinstance(value, str):
            text = self.write_string(value)
        elif isinstance(value, list):
            text = "[" + (",".join(self.write(v, space) for v in value) or self.gap(space)) + "]"
        elif isinstance(value, dict):
            text = "{" + (",".join(self.write_members(value, space)) or self.gap(space)) + "}"
        else:
            text = json.dumps(value)
        return self.gap(space) + text + self.gap(space)

    def body(self):
        r = self.random
        value = r.choice(BODIES) if r.random() < 0.4 else self.value(r.choice((0, 1, 2, 3, 5, 9)))
        return self.write(value, r.random() < 0.5).encode()

    def mutate(self, body, other):
        """One edit: a bit, a token in, a piece out, twice, or swapped against one of `other`."""
        r = self.random
        at = r.randrange(len(body) + 1)
        end = min(len(body), at + r.choice((1, 1, 2, 5, 20)))
        kind = r.randrange(6)
        if kind == 0 and at < len(body):
            return body[:at] + bytes([body[at] ^ 1 << r.randrange(8)]) + body[at + 1:]
        if kind == 1:
            return body[:at] + body[end:]
        if kind == 2:
            return body[:end] + body[at:]
        if kind == 3:
            cut = r.randrange(len(other) + 1)
            return body[:at] + other[cut:cut + 30] + body[end:]
        if kind == 4 and at < len(body):
            return body[:at] + bytes([r.randrange(256)]) + body[at + 1:]
        return body[:at] + r.choice(TOKENS) + body[at:]

    def bodies(self, count):
        out = []
        while len(out) < count:
            body = self.body()
            out.append(body)
            for _ in range(3):
                body = self.mutate(body, self.random.choice(out))
                out.append(body)
        return out


def exhaustive():
    """Every \\uXXXX, every pair of surrogates at the edges, UTF-8 of every shape, the limits."""
    for first in range(0, 0x10000, 64):
        if not 0xd800 <= first < 0xe000:
            yield ('"' + "".join("\\u%04x" % u for u in range(first, first + 64)) + '"').encode()
    edges = [0x41, 0xd7ff, 0xd800, 0xd801, 0xdbff, 0xdc00, 0xdc01, 0xdfff, 0xe000, 0xffff]
    for u in range(0xd800, 0xe000):
        yield b'"\\u%04x"' % u
        yield from (b'"\\u%04X\\u%04x"' % (u, v) for v in edges if u in edges)
    seconds = [0x00, 0x1f, 0x22, 0x41, 0x5c, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff]
    for a in range(256):
        yield bytes([a])
        yield b"[%c]" % a
        yield b'"%c"' % a
        yield b'"\\%c"' % a
        yield b'{"a":1%c}' % a
        yield from (b'"%c%c"' % (a, b) for b in seconds)
        if a >= 0xe0:
            for b in seconds[6:12]:
                yield from (b'"%c%c%c"' % (a, b, c) for c in (0x7f, 0x80, 0xbf, 0xc0))
                yield from (b'"%c%c%c%c"' % (a, b, 0x80, c) for c in (0x7f, 0x80, 0xbf, 0xc0))
    for n in (7, 8, 9, 31, 32):
        yield b"[" * n + b"]" * n
        yield b'{"a":' * n + b"1" + b"}" * n
    for n in (255, 256, 257):
        yield b"[" + b",".join([b"1"] * n) + b"]"
        yield b"{" + b",".join(b'"%d":[]' % i for i in range(n)) + b"}"
    for n in (63, 64, 65):
        yield b"-" + b"1" * (n - 1)


def run(program, bodies):
    """The limits, and for each body our verdict and text and json-c's."""
    data = b"".join(struct.pack("=I", len(body)) + body for body in bodies)
    out = subprocess.run([program], input=data, stdout=subprocess.PIPE, check=True).stdout
    limits = dict(zip(("depth", "members", "number"), struct.unpack_from("=III", out)))
    at, answers = 12, []
    for _ in range(2 * len(bodies)):
        accepted, n = struct.unpack_from("=BI", out, at)
        answers.append((accepted == 1, out[at + 5:at + 5 + n]))
        at += 5 + n
    assert at == len(out), "the program wrote more than it was asked"
    return limits, list(zip(answers[::2], answers[1::2]))


def compare(body, ours, json_c, limits):
    """Asserts everything about one body; returns why it was refused, None if it was accepted."""
    value, reason = expect(body, limits)
    accepted, text = ours
    assert accepted == (reason is None), f"Python says {reason or 'good'}"
    if reason:
        assert not json_c[0] or reason in JSON_C_TAKES, f"json-c accepts this: {reason}"
        return reason
    assert len(text) <= len(body), "it grew"
    assert load(text) == value, "another value"
    assert json_c[0], "json-c refuses this"
    assert json_c[1] == json_c_text(text), "json-c writes something else"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=40000)
    args = parser.parse_args()
    print(f"seed {args.seed}, count {args.count}")

    bodies = list(exhaustive()) + Generator(args.seed).bodies(args.count)
    limits, answers = run(args.program, bodies)
    reasons = collections.Counter()
    json_c_more = collections.Counter()
    failed = 0
    for body, (ours, json_c) in zip(bodies, answers):
        try:
            reason = compare(body, ours, json_c, limits)
            reasons[reason or "accepted"] += 1
            if reason and json_c[0]:
                json_c_more[reason] += 1
        except AssertionError as e:
            failed += 1
            if failed <= 20:
                print(f"FAILED: {e}\n  body   {body}\n  ours   {ours}\n  json-c {json_c}")

    canonical = [ours[1] for ours, _ in answers if ours[0]]
    again = [ours for ours, _ in run(args.program, canonical)[1]]
    changed = [text for text, ours in zip(canonical, again) if ours != (True, text)]
    for text in changed[:20]:
        print(f"FAILED: not read back as itself\n  text   {text}")

    print("our verdicts:", dict(reasons))
    print("json-c accepts beyond ours:", dict(json_c_more))
    for reason in JSON_C_TAKES | {"grammar", "UTF-8"}:
        assert reasons[reason], f"no body was refused for: {reason}"
    assert reasons["accepted"] > len(bodies) / 5, "too few bodies are acceptable"
    if failed or changed:
        sys.exit(f"{failed} bodies differ, {len(changed)} are not stable")


if __name__ == "__main__":
    main()
