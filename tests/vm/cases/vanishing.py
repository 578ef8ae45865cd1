# SPDX-License-Identifier: Apache-2.0
"""Requests whose client doesn't wait: ways to go, and what KMS and the journal know of them."""

import socket
import time

import journal
import peers
import service
from kms.client import request

KEY = "aaaabbbb-cccc-4ddd-8eee-ffff00001111"
DOOMED_KEY = "00000005-0000-4000-8000-000000000005"     # no other case needs it
ACTION = "UpdateKeyDescription"     # neither safe to repeat nor in need of an option of its own
DESCRIBE = request("DescribeKey", {"KeyId": KEY})
NOT_ALLOWED = request("ListKeys", {})
SECONDS = 60        # for what should come soon, on a machine that is emulated
SLOW_KMS = {"kind": "delay", "seconds": 25, "action": ACTION, "count": None}   # under reply_timeout

# Each gets the enclave and the streams that go.
WAYS = {
    "close": lambda enclave, streams: [s.close() for s in streams],
    "shutdown": lambda enclave, streams: [s.shutdown(socket.SHUT_RDWR) for s in streams],
    "receives-no-more": lambda enclave, streams: [enclave.shut(s, peers.RECEIVE) for s in streams],
    "reset": lambda enclave, streams: [enclave.reset(s) for s in streams],
    "destroyed": lambda enclave, streams: enclave.die(),
}


def vanish(way, enclaves, streams, cid=16):
    """They go; the kernel has been told when this returns: a new stream comes after the end of the old."""
    WAYS[way](enclaves(cid), streams)
    client(enclaves, cid).close()


def allow_updates(unit, name="alpha", **limits):
    """That enclave may do what these cases ask for; its requests are told apart by their text."""
    enclave = unit.config["enclaves"][name]
    enclave["allow"].append(service.rule("describe", ACTION))
    enclave["limits"].update(limits)


def update(text):
    return request(ACTION, {"KeyId": KEY, "Description": text})


class Asked:
    """What KMS was asked since this was made."""

    def __init__(self, aws):
        self.aws = aws
        self.since = aws.ask(requests={"since": 0})["last"]

    def requests(self, action=ACTION):
        return [r for r in self.aws.ask(requests={"since": self.since})["requests"] if r["action"] == action]

    def texts(self):
        return sorted(r["json"]["Description"] for r in self.requests())

    def wait(self, count, action=ACTION):
        service.wait(lambda: len(self.requests(action)) >= count, SECONDS,
                     lambda: f"{self.requests(action)}, not {count}")

    def answered(self):
        """Of how many KMS has begun its answer."""
        return sum(r["status"] is not None for r in self.requests())


def sent(enclave, texts, end=None):
    """A stream for each text, which has sent its request; end: only so many bytes of it."""
    streams = []
    for text in texts:
        stream = enclave.connect(service.PORT)
        stream.sendall(update(text)[:end])
        streams.append(stream)
    return streams


def client(enclaves, cid=16):
    """The kernel may refuse the first stream of an enclave whose predecessor was just destroyed."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return enclaves(cid).client(service.PORT)
        except peers.Refused:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def is_throttled(answer):
    return answer.status == 400 and answer.error == "ThrottlingException"


def assert_in_flight_is_full(enclaves):
    """As many requests as there may be have been read up to their bodies: what comes after is throttled."""
    with client(enclaves) as other:
        assert is_throttled(other.ask(DESCRIBE))


def records(place, action=ACTION, **fields):
    return journal.records(place, KMS_ACTION=action, **fields)


def at_kms(place, count, **fields):
    """The records of requests that KMS may have seen, and whose answer nobody got: exactly so many,
    also when whatever else may be written is."""
    found = service.wait(lambda: len(r := unanswered(place, **fields)) >= count and r, SECONDS,
                         lambda: f"{[r['MESSAGE'] for r in records(place)]}, not {count}")
    assert len(found) == count, [r["MESSAGE"] for r in found]
    return found


def unanswered(place, **fields):
    return [r for r in records(place, **fields) if "KMS_STATUS" in r and r["REASON"] != "allowed"]
