# SPDX-License-Identifier: Apache-2.0
"""What a reload takes away is not done afterwards, wherever a request is when it comes. (On vsock:
tests/vm/cases/test_vanished.py.)"""

import copy
import select
import socket
import threading
import time

import pytest

from daemon import Daemon, wait_for
from daemon.help import add_enclave, allow, ARN, DESCRIBE, ended, KEY, KEY_ID, wait_taken
from kms.client import request
from net.http_proxy import HttpProxy
from standins import Authority, LocalImds, LocalKms

DELETE = request("ScheduleKeyDeletion", {"KeyId": KEY_ID})


def change(daemon, enclave="payments", **options):
    """Another configuration of the enclave, for the next reload."""
    daemon.config["enclaves"][enclave] = {**copy.deepcopy(daemon.config["enclaves"][enclave]), **options}
    return daemon.config["enclaves"][enclave]


def revoke(daemon, action="ScheduleKeyDeletion"):
    rules = change(daemon)["allow"]
    for rule in rules:
        rule["actions"] = [a for a in rule["actions"] if a != action] or ["ListKeys"]


def change_ca(daemon):
    """The same file name with another certificate beside the old one."""
    path = daemon.folder / "ca.pem"
    path.write_bytes(path.read_bytes() + Authority().pem())


def change_address(daemon):
    """The same KMS by another name of the same address."""
    endpoint = daemon.config["endpoints"]["kms"]
    endpoint["connect_to"] = endpoint["connect_to"].replace("127.0.0.1", "localhost")


# One with each option that a change below takes back.
RULE = {"name": "options", "actions": ["Decrypt"], "keys": [ARN], "missing_key": "add",
        "extra_actions": ["NewAction"], "plaintext": "allow", "delegation": "allow",
        "extra_members": ["NewMember"], "extra_members_hold_no_key": True}


def change_rule(daemon, **options):
    change(daemon)["allow"][-1].update(options)


CHANGES = {
    "rules": lambda daemon: revoke(daemon, "DescribeKey"),
    "missing-key": lambda daemon: change_rule(daemon, missing_key="refuse"),
    "extra-actions": lambda daemon: change_rule(daemon, extra_actions=["OtherAction"]),
    "extra-members": lambda daemon: change_rule(daemon, extra_members=["NewMember", "OtherMember"]),
    "limits": lambda daemon: change(daemon, limits={"requests": "9000/s", "burst": 9000}),
    "ca": change_ca,
    "connect-to": change_address,
}


# In its body.

@pytest.mark.parametrize("workers", [1, 2])
def test_a_body_on_its_way_is_judged_by_the_new_rules(daemon, kms, workers):
    daemon.config["workers"] = workers
    allow(daemon, "ScheduleKeyDeletion")
    with daemon:
        clients = [daemon.client() for _ in range(5)]
        for client in clients:
            client.send(DELETE[:-1])
            wait_taken(client)
        revoke(daemon)
        daemon.reload()
        for client in clients:
            client.send(DELETE[-1:])
            answer = client.read()
            assert (answer.status, answer.error) == (400, "AccessDeniedException")
            assert ended(client)
            client.close()
        daemon.record(REASON="action", count=5)
    assert not kms.requests


def test_rights_that_came_count_too(daemon, kms):
    with daemon, daemon.client() as client:
        client.send(DELETE[:-1])
        wait_taken(client)
        allow(daemon, "ScheduleKeyDeletion")
        change(daemon)
        daemon.reload()
        client.send(DELETE[-1:])
        assert client.read().status == 200


def test_two_reloads_while_one_body_is_read(daemon, kms):
    """The second one counts also on a connection that the first has retired."""
    allow(daemon, "ScheduleKeyDeletion")
    with daemon, daemon.client() as client:
        client.send(DELETE[:-1])
        wait_taken(client)
        change(daemon, limits={"requests": "9000/s", "burst": 9000})
        daemon.reload()
        revoke(daemon)
        daemon.reload()
        client.send(DELETE[-1:])
        assert client.read().error == "AccessDeniedException"
    assert not kms.requests


def test_a_body_that_is_too_large_now(daemon, kms):
    data = request("Encrypt", {"KeyId": KEY, "Plaintext": b"x" * 3000})
    with daemon, daemon.client() as client:
        client.send(data[:-1])
        wait_taken(client)
        change(daemon, limits={"body": "2KiB"})
        daemon.reload()
        answer = client.read()
        assert (answer.status, answer.error) == (413, "RequestEntityTooLargeException")
        assert ended(client)
        daemon.record(REASON="body-too-large")
    assert not kms.requests


def test_the_endpoint_is_picked_anew(daemon, kms):
    """The Host names the second endpoint, which goes; or localhost, and the first is another now."""
    with LocalKms(kms.credentials, hosts={"kms.other.example": kms.keys.regions[0]}) as second:
        (daemon.folder / "second.pem").write_bytes(second.ca_pem())
        daemon.config["endpoints"]["other"] = {
            "host": "kms.other.example", "region": kms.keys.regions[0], "connect_to": second.address,
            "ca_file": str(daemon.folder / "second.pem")}
        daemon.config["enclaves"]["payments"]["endpoints"] = ["kms", "other"]
        named = request("DescribeKey", {"KeyId": KEY}, host="kms.other.example")
        with daemon, daemon.client() as by_name, daemon.client() as first:
            for client, data in ((by_name, named), (first, DESCRIBE)):
                client.send(data[:-1])
                wait_taken(client)
            change(daemon, endpoints=["kms"])
            daemon.reload()
            by_name.send(named[-1:])
            answer = by_name.read()
            assert (answer.status, answer.error) == (400, "AccessDeniedException")
            daemon.record(REASON="host")
            change(daemon, endpoints=["other"])
            daemon.reload()
            first.send(DESCRIBE[-1:])
            assert first.read().status == 200
        assert not kms.requests
        assert len(second.requests) == 1


def test_an_enclave_that_is_gone_gets_no_more(daemon, kms):
    other = add_enclave(daemon)
    with daemon, daemon.client(other) as client:
        client.send(DESCRIBE[:-1])
        wait_taken(client)
        daemon.config["listen"].pop()
        del daemon.config["enclaves"][other]
        daemon.reload()
        answer = client.read()
        assert (answer.status, answer.header("Connection")) == (503, "close")
        assert daemon.record(REASON="reloaded")["ENCLAVE"] == other
    assert not kms.requests


def test_one_that_is_refused_already_stays_so(daemon, kms):
    """Its body is dropped, under whatever rules."""
    change(daemon, limits={"requests": "1/h", "burst": 1})
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        client.send(DESCRIBE[:-1])
        wait_taken(client)
        change(daemon, limits={"requests": "1/m", "burst": 1})
        daemon.reload()
        client.send(DESCRIBE[-1:])
        assert client.read().error == "ThrottlingException"


# Waiting for a connection.

def queued(daemon, kms, enclave="payments"):
    """One whose request KMS holds, and one that waits for its connection."""
    hung = kms.fault("hang", count=1)
    first, second = daemon.client(), daemon.client(enclave)
    first.send(DESCRIBE)
    kms.wait(lambda: hung.hits)
    second.send(DESCRIBE)
    wait_taken(second)
    return first, second


def one_connection(daemon):
    daemon.config["endpoints"]["kms"].update(connections=2, queue_timeout="1m", reply_timeout="1m")
    daemon.config["workers"] = 1        # each has connections of its own
    return add_enclave(daemon)          # so that one of the two connections is kept for it


@pytest.mark.parametrize("name", CHANGES)
def test_who_waits_for_a_connection_is_told(daemon, kms, name):
    change(daemon)["allow"].append(RULE)
    one_connection(daemon)
    with daemon:
        first, second = queued(daemon, kms)
        CHANGES[name](daemon)
        daemon.reload()
        answer = second.read()      # while the first is still at KMS
        assert (answer.status, answer.error) == (503, "ServiceUnavailableException")
        record = daemon.record(REASON="reloaded")
        assert (record["VERDICT"], record["RULE"]) == ("allow", "use")
        assert "KMS_STATUS" not in record
        kms.clear()
        assert first.read().status == 200
        first.close()
        second.close()
    assert len(kms.requests) == 1


PROXY_CHANGES = {
    "another-proxy": lambda endpoint, other: endpoint.update(proxy=other.url),
    "other-credentials": lambda endpoint, other: endpoint.update(proxy_credentials_file=endpoint["ca_file"] + ".new"),
    "no-credentials": lambda endpoint, other: endpoint.pop("proxy_credentials_file"),
}


@pytest.mark.parametrize("name", PROXY_CHANGES)
def test_who_waits_is_told_that_the_way_is_another(daemon, kms, name):
    one_connection(daemon)
    endpoint = daemon.config["endpoints"]["kms"]
    way = {f"{endpoint['host']}:443": kms.address}
    for end in (".old", ".new"):
        (daemon.folder / f"ca.pem{end}").write_text("user:password")
    with HttpProxy(way, "user:password") as proxy, HttpProxy(way, "user:password") as other:
        endpoint.update(proxy=proxy.url, proxy_credentials_file=endpoint["ca_file"] + ".old")
        del endpoint["connect_to"]
        with daemon:
            first, second = queued(daemon, kms)
            PROXY_CHANGES[name](endpoint, other)
            daemon.reload()
            assert second.read().status == 503      # while the first is still at KMS
            daemon.record(REASON="reloaded")
            kms.clear()
            assert first.read().status == 200
            first.close()
            second.close()
        assert not other.asked
    assert len(kms.requests) == 1


def test_who_waits_and_did_not_change_goes_on(daemon, kms):
    other = one_connection(daemon)
    with daemon:
        first, second = queued(daemon, kms)
        change(daemon, other, limits={"requests": "9000/s", "burst": 9000})
        daemon.reload()
        kms.clear()
        assert first.read().status == 200
        assert second.read().status == 200
        first.close()
        second.close()
    assert not daemon.records(REASON="reloaded")


# Waiting for credentials.

def test_who_waits_for_the_first_credentials_is_told(tmp_path, kms):
    with LocalImds(kms.credentials) as imds:
        imds.fault("hang", count=None)
        daemon = Daemon(tmp_path, kms, imds)
        daemon.start(wait=True)
        with daemon, daemon.client() as client:
            client.send(DESCRIBE)
            wait_taken(client)
            revoke(daemon, "DescribeKey")
            daemon.reload()
            assert client.read().status == 503
            record = daemon.record(REASON="reloaded")
            assert "KMS_STATUS" not in record
            imds.clear()
    assert not kms.requests


def test_who_was_rejected_and_waits_for_new_credentials_is_told(daemon, kms, imds):
    """KMS saw it, so the record says what KMS said; it isn't signed a second time."""
    with daemon, daemon.client() as client:
        imds.fault("hang", count=None)
        kms.fault("expired_token", count=None)
        client.send(DESCRIBE)
        kms.wait_for_requests(1)
        imds.wait(lambda: len(imds.requests) > 3)       # it is parked: new ones are asked for
        revoke(daemon, "DescribeKey")
        daemon.reload()
        assert client.read().status == 503
        assert daemon.record(REASON="reloaded")["KMS_STATUS"] == "400"
        imds.clear()
        kms.clear()
    assert len(kms.requests) == 1


# Partly at KMS.

class Stalling:
    """A way to KMS that takes no more than so many bytes of a connection, until it goes on."""

    def __init__(self, kms, limit):
        self.kms, self.limit, self.taken = kms, limit, 0
        self.goes_on = threading.Event()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.goes_on.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()

    def _accept(self):
        ways = []
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                break
            ways.append(threading.Thread(target=self._relay, args=(client,)))
            ways[-1].start()
        for way in ways:
            way.join()

    def _relay(self, client):
        with client, socket.create_connection(("127.0.0.1", self.kms.port)) as server:
            while True:
                if self.taken > self.limit:
                    self.goes_on.wait()
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(2048)
                    if not data:
                        return
                    (server if end is client else client).sendall(data)
                    self.taken += len(data) if end is client else 0


@pytest.mark.parametrize("stays", [True, False], ids=["client-stays", "client-gone"])
def test_what_is_partly_on_its_way_to_kms_is_not_sent_whole(daemon, kms, stays):
    """Its record says that bytes went out; KMS has but the beginning, which it can't take."""
    allow(daemon, "UpdateKeyDescription")
    daemon.config["enclaves"]["payments"]["limits"]["body"] = "1MiB"
    with Stalling(kms, 20000) as way:
        daemon.config["endpoints"]["kms"].update(connect_to=way.address, reply_timeout="1m")
        with daemon:
            client = daemon.client()
            client.send(request("UpdateKeyDescription", {"KeyId": KEY_ID, "Description": "x" * 1000000}))
            wait_for(lambda: way.taken > 20000)
            if not stays:
                client.close()
                time.sleep(0.6)     # not for an event: the daemon notices, and says nothing of it yet
            revoke(daemon, "UpdateKeyDescription")
            daemon.reload()
            way.goes_on.set()
            record = daemon.record(KMS_ACTION="UpdateKeyDescription")
            assert record["KMS_STATUS"] == "unknown"
            assert record["REASON"] == ("reloaded" if stays else "client-gone")
            if stays:
                assert client.read().status == 503
            client.close()
            kms.wait_closed()
    assert not kms.asked("UpdateKeyDescription")


# At KMS.

@pytest.mark.parametrize("how", ["lost", "expired", "skew"])
def test_what_kms_has_is_neither_repeated_nor_signed_again(daemon, kms, how):
    with daemon, daemon.client() as client:
        kms.fault("hang", count=1)
        if how == "expired":
            kms.fault("expired_token", count=1)
        if how == "skew":
            kms.fault("date", offset=3600, count=1)
            kms.fault("error", error_type="RequestTimeTooSkewed", status=400, count=1)
        client.send(DESCRIBE)
        kms.wait_for_requests(1)
        wait_for(lambda: kms.requests[0].faults)
        revoke(daemon, "DescribeKey")
        daemon.reload()
        if how == "lost":
            kms.drop_connections()
        kms.clear()
        answer = client.read()
        assert (answer.status, answer.header("Connection")) == (503, "close")
        record = daemon.record(VERDICT="allow", RULE="use")
        assert record["KMS_STATUS"] == ("unknown" if how == "lost" else "400")
        time.sleep(0.3)     # not for an event: nothing more comes
    assert len(kms.requests) == 1
