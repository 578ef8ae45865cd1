# SPDX-License-Identifier: Apache-2.0
"""Everything at once: clients that vanish anywhere, a KMS that fails in every way, reloads that change
rules, limits, certificates and enclaves. Afterwards each request that KMS saw has its one record, and
each enclave has all of its limits again: nothing was given back twice, or not at all."""

import collections
import copy
import itertools
import random
import socket
import threading
import time

import pytest

from daemon import wait_for
from daemon.help import add_enclave, allow, DESCRIBE, limits
from kms.client import request
from standins import Authority

SECONDS = 10
NAMES = ("payments", "ledger", "third")
LIMITS = {"requests": "10000/s", "burst": 10000, "in_flight": 8, "connections": 12}
FAULTS = (
    ("delay", {"seconds": 0.05}), ("delay", {"seconds": 0.3}), ("delay", {"seconds": 1.2}), ("hang", {}),
    ("reset", {}), ("reset", {"after": "body"}), ("close", {}), ("close_before_read", {}), ("reset_before_read", {}),
    ("close_silently", {}), ("connection_close", {}), ("reset_at_accept", {}), ("close_at_accept", {}),
    ("expired_token", {}), ("unrecognized_client", {}), ("invalid_signature", {}), ("throttle", {}), ("internal", {}),
    ("error", {"error_type": "RequestTimeTooSkewed", "status": 400}), ("date", {"offset": 3600}),
    ("bad_header", {}), ("huge_body", {"size": 900000}), ("drip", {"piece": 20, "interval": 0.005}),
    ("stall", {"after": "body", "seconds": 0.5}), ("stall", {"after": "head", "seconds": 2}),
)


class Clients:
    """Each request has a key of its own, so that it can be found in the journal."""

    def __init__(self, daemon, end):
        self.paths = {name: daemon.socket_path(name) for name in NAMES}
        self.end = end
        self.numbers = itertools.count()
        self.threads = [threading.Thread(target=self._run, args=(name, random.Random(f"{name}{i}")))
                        for name in NAMES for i in range(3)]
        for thread in self.threads:
            thread.start()

    def join(self):
        for thread in self.threads:
            thread.join()

    def _request(self, dice):
        key = f"alias/n{next(self.numbers)}x"
        text = "A" * dice.choice([20] * 8 + [100000, 300000])
        if dice.random() < 0.5:     # not safe to repeat
            return request("UpdateKeyDescription", {"KeyId": key, "Description": text})
        return request("Encrypt", {"KeyId": key, "Plaintext": text})

    def _use(self, client, dice):
        data = self._request(dice)
        stage = dice.random()
        if stage < 0.1:
            client.sendall(data[:dice.randrange(1, len(data))])
        else:
            client.sendall(data)
            if dice.random() < 0.3:
                client.sendall(self._request(dice))
        if stage < 0.5:
            time.sleep(dice.random() * 0.4)
        elif stage < 0.8:
            client.recv(65536)
        if dice.random() < 0.3:
            client.shutdown(dice.choice([socket.SHUT_WR, socket.SHUT_RDWR]))

    def _run(self, name, dice):
        held = collections.deque(maxlen=4)      # some stay for a while
        while time.monotonic() < self.end:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(2)
            try:
                client.connect(self.paths[name])
                self._use(client, dice)
            except OSError:
                pass        # refused, reset or slow: as it comes
            if dice.random() < 0.2:
                held.append(client)
            else:
                client.close()


class Configurations:
    def __init__(self, daemon):
        self.daemon = daemon
        self.base = copy.deepcopy(daemon.config)
        self.ca = daemon.folder / "ca.pem"
        self.ca_text = self.ca.read_bytes()

    def change(self, dice):
        config = self.daemon.config = copy.deepcopy(self.base)
        name = dice.choice(NAMES)
        enclave = config["enclaves"][name]
        what = dice.choice(["limits", "rules", "ca", "gone", "body"])
        if what == "limits":
            enclave["limits"]["requests"] = f"{dice.randrange(9000, 10000)}/s"
        elif what == "rules":
            enclave["allow"] = [rule for rule in enclave["allow"] if rule["name"] != "more"]
        elif what == "ca":
            self.ca.write_bytes(self.ca_text + Authority().pem())
        elif what == "body":
            enclave["limits"]["body"] = dice.choice(["1KiB", "200KiB"])
        elif name != "payments":
            del config["enclaves"][name]
            config["listen"] = [entry for entry in config["listen"] if entry["enclave"] != name]
        self.daemon.reload()

    def restore(self):
        self.daemon.config = copy.deepcopy(self.base)
        self.daemon.reload()


def disorder(daemon, kms, imds, dice):
    configurations = Configurations(daemon)
    clients = Clients(daemon, time.monotonic() + SECONDS)
    while time.monotonic() < clients.end:
        kind, how = dice.choice(FAULTS)
        kms.fault(kind, count=dice.randrange(1, 6), **how)
        if dice.random() < 0.1:
            imds.fault("delay", seconds=1, count=1)
        if dice.random() < 0.25:
            configurations.change(dice)
        if dice.random() < 0.1:
            kms.clear()
        time.sleep(dice.random() * 0.15)
    clients.join()
    kms.clear()
    imds.clear()
    configurations.restore()


def check_records(daemon, kms):
    asked = {r.json["KeyId"] for r in kms.requests if r.action and r.json}

    def wrong():
        records = collections.Counter(r.get("KMS_KEY") for r in daemon.records() if "KMS_STATUS" in r)
        return {key: records[key] for key in asked if records[key] != 1}
    wait_for(lambda: not wrong(), message=lambda: f"not one record each: {wrong()}")
    assert len(asked) > 100


def check_limits(daemon, kms, name):
    """As many connections, and as many requests in flight, as the enclave may have; and no more."""
    def all_connect():
        clients = [daemon.client(name) for _ in range(LIMITS["connections"])]
        try:
            if all(client.ask(DESCRIBE).status == 200 for client in clients):
                return clients
        except (EOFError, OSError):
            pass
        for client in clients:
            client.close()
        return None
    clients = wait_for(all_connect)
    hung = kms.fault("hang", count=None)
    for client in clients[:LIMITS["in_flight"]]:
        client.send(DESCRIBE)
    kms.wait(lambda: hung.hits == LIMITS["in_flight"])
    answer = clients[-1].ask(DESCRIBE)
    assert "in_flight" in answer.json["message"], answer
    kms.clear()
    for client in clients[:LIMITS["in_flight"]]:
        assert client.read().status == 200
    for client in clients:
        client.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_disorder(daemon, kms, imds, workers):
    daemon.config.update(workers=workers, memory="12MiB")
    daemon.config["endpoints"]["kms"].update(connections=16, reply_timeout="1s", queue_timeout="500ms", connect_timeout="1s")
    allow(daemon, "UpdateKeyDescription")
    limits(daemon, **LIMITS)
    for name in NAMES[1:]:
        add_enclave(daemon, name, limits=dict(LIMITS))
    with daemon:
        disorder(daemon, kms, imds, random.Random(workers))
        check_records(daemon, kms)
        daemon.config["endpoints"]["kms"].update(reply_timeout="1m", queue_timeout="1m")
        daemon.reload()
        for name in NAMES:
            check_limits(daemon, kms, name)
