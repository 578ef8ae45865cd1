#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the policy with its model on random pairs of a configuration and a request.

    policy_pairs.py PROGRAM [--seed N] [--configs N] [--requests N]

PROGRAM is policy-verdict. Of each pair both must give the same reason, rule, endpoint and recipient.
Of each that is allowed, the body that would be sent must hold exactly the members of the one that
came, behind them the key that the rule adds, and the keys and contexts that the policy saw.
"""

import argparse
import collections
import json
import pathlib
import random
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from figures import figure  # noqa: E402
from policy import cases, model  # noqa: E402

REASONS = {"allowed", "unknown-action", "json", "host", "no-rules", "endpoint", "action", "member", "key",
           "encryption-context", "recipient"}
Answer = collections.namedtuple("Answer", ["reason", "rule", "endpoint", "recipient", "keys", "contexts",
                                           "sent"])


def pack(kind, *fields):
    return kind + b"".join(struct.pack("=I", len(f)) + f for f in fields)


class Reader:
    """The fields that the program wrote."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def field(self):
        n, = struct.unpack_from("=I", self.data, self.at)
        start = self.at + 4
        self.at = start + n
        return self.data[start:self.at]

    def answer(self):
        fields = [self.field() for _ in range(9)]
        reason, rule, endpoint, recipient = (f.decode() for f in fields[:4])
        return Answer(reason, rule or None, endpoint or None, recipient == "present",
                      fields[4:6], fields[6:8], fields[8])


def judge(program, batches):
    """The program's answers to batches of (configuration, requests), a list for each."""
    data = b"".join(
        pack(b"C", cases.config_text(config).encode()) + b"".join(
            pack(b"R", r.enclave.encode(), r.host.encode(), r.action.encode(), r.body) for r in requests)
        for config, requests in batches)
    out = Reader(subprocess.run([program], input=data, stdout=subprocess.PIPE, check=True).stdout)
    for _, requests in batches:
        yield [out.answer() for _ in requests]
    assert out.at == len(out.data), "the program wrote more than it was asked"


def loaded(fields, count):
    """What the policy saw, of as many members as the action has; None for one that is absent."""
    assert not any(fields[count:])
    return [model.read_value(f) if f else None for f in fields[:count]]


def in_order(body, expected):
    kind, members = model.in_order(body)
    return kind, members + ([(expected.added, expected.members[expected.added])] if expected.added else [])


def differences(request, expected, answer):
    """What the program says otherwise than the model."""
    for name in ("reason", "rule", "endpoint", "recipient"):
        if getattr(expected, name) != getattr(answer, name):
            yield f"{name}: the model says {getattr(expected, name)}, the daemon {getattr(answer, name)}"
    if expected.members is None or answer.reason == "json":
        return
    keys, contexts = model.key_members(request.action), model.context_members(request.action)
    if loaded(answer.keys, len(keys)) != [expected.members.get(n) for n in keys]:
        yield f"it saw the keys {answer.keys}"
    if loaded(answer.contexts, len(contexts)) != [expected.members.get(n) for n in contexts]:
        yield f"it saw the contexts {answer.contexts}"
    body = in_order(request.body, expected)
    room = len(f',"{expected.added}":"{expected.members[expected.added]}"') if expected.added else 0
    if len(answer.sent) > len(request.body) + room or model.in_order(answer.sent) != body:
        yield f"it would send {answer.sent[:2000]!r}"


class Tally:
    def __init__(self, configs):
        self.reasons, self.passed, self.refused = (collections.Counter() for _ in range(3))
        self.configs, self.different, self.added, self.extra = configs, 0, 0, 0

    def add(self, request, expected):
        self.reasons[expected.reason] += 1
        self.added += expected.added is not None
        if expected.reason == "allowed":
            self.extra += not expected.members.keys() <= model.own_members(request.action)
        (self.passed if expected.reason == "allowed" else self.refused)[request.action] += 1

    def print(self):
        pairs, allowed = sum(self.reasons.values()), self.reasons["allowed"]
        print(f"{pairs} pairs of {self.configs} configurations, {allowed} allowed, {self.different} different")
        print(", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common()))
        print(f"{len(self.passed)} actions allowed, at least {min(self.passed.values())} times each")
        figure("policy and model: pairs judged alike", pairs - self.different)
        figure("policy and model: pairs allowed, sent on as seen", allowed)
        figure("policy and model: pairs with a key added", self.added)
        figure("policy and model: pairs allowed with a member that no release knows", self.extra)
        figure("policy and model: distinct reasons", len(self.reasons))
        figure("policy and model: actions allowed and refused", len(self.passed.keys() & self.refused.keys()))

    def lacks(self):
        """What the pairs ought to hold and do not."""
        yield from (f"no pair with the reason {reason}" for reason in REASONS - self.reasons.keys())
        for action in [*model.ACTIONS, *cases.EXTRA_ACTIONS]:
            if not self.passed[action] or not self.refused[action]:
                yield f"{action} was allowed {self.passed[action]} times, refused {self.refused[action]}"
        if self.extra < 100:
            yield f"only {self.extra} pairs with a member that no release knows"
        if self.added < 100:
            yield f"only {self.added} pairs with a key added"
        if not .4 < self.reasons["allowed"] / sum(self.reasons.values()) < .6:
            yield "not about half of the pairs are allowed"


def compare(config, request, answer, tally):
    expected = model.decide(config, request.enclave, request.action, request.body, request.host)
    tally.add(request, expected)
    found = list(differences(request, expected, answer))
    if not found:
        return
    tally.different += 1
    if tally.different <= 10:
        print(f"DIFFERENT: {'; '.join(found)}\n  {request._replace(body=request.body[:2000])}\n"
              f"  by {json.dumps(config['enclaves'][request.enclave])}")


def random_batch(rng, count):
    config = cases.random_config(rng, rng.randint(1, 3))
    return config, [cases.random_request(rng, config) for _ in range(count)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--configs", type=int, default=600)
    parser.add_argument("--requests", type=int, default=75)
    options = parser.parse_args()

    rng, tally = random.Random(options.seed), Tally(options.configs)
    batches = [random_batch(rng, options.requests) for _ in range(options.configs)]
    for (config, requests), answers in zip(batches, judge(options.program, batches)):
        for request, answer in zip(requests, answers):
            compare(config, request, answer, tally)
    tally.print()
    faults = list(tally.lacks())
    if faults or tally.different:
        sys.exit("\n".join([f"{tally.different} pairs of seed {options.seed} differ", *faults]))


if __name__ == "__main__":
    main()
