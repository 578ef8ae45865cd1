# SPDX-License-Identifier: Apache-2.0
"""Faults of the world: IMDS, from the first answer to none at all, and the credentials it gives.

The fault is that of a thing all enclaves share, so nobody's request may fail: the credentials of
before serve on, the journal says what is wrong, and as soon as IMDS is well its new ones are used.
Each in the frame of world_help.py. How a daemon starts without any is in test_credentials.py.
"""

import contextlib
import time

import pytest

from daemon import wait_for
from daemon.help import DESCRIBE
from daemon.tunnel_help import SLOW
from world_help import World

IMDS_TIME = 2       # for each of its answers, daemon/credentials/imds.c


@pytest.fixture(scope="module")
def world(tmp_path_factory, tally):
    with contextlib.closing(World(tmp_path_factory.mktemp("world"), tally)) as made:
        with made:
            yield made


def ask_anew(world, role=None):
    """Makes the daemon ask IMDS now: by another way to write its address."""
    imds = world.config["credentials"]["imds"]
    imds.pop("role", None)
    if role:
        imds["role"] = role
    else:
        here = imds["endpoint"]
        imds["endpoint"] = (here.replace("127.0.0.1", "localhost") if "127.0.0.1" in here
                            else here.replace("localhost", "127.0.0.1"))
    world.daemon.reload()


@contextlib.contextmanager
def ill(world, said, deadline=1, requests=10, role=None):
    """IMDS is ill within; the daemon is made to ask it, says so in time, and serves on."""
    with world.fault(reason="allowed", count=requests, within=10), world.client() as client:
        used = world.kms.requests[-1].access_key_id
        world.imds.rotate()
        mark = world.mark()
        yield
        start = time.monotonic()
        ask_anew(world, role)
        record = wait_for(lambda: next((r for r in world.records(mark) if "they can't be refreshed" in
                                        r["MESSAGE"]), None),
                          message=lambda: str(world.records(mark)[-20:]))
        took = time.monotonic() - start
        assert said in record["MESSAGE"], record
        assert took < (deadline + 1) * SLOW
        for _ in range(requests):
            assert client.ask(DESCRIBE).status == 200
            assert world.kms.requests[-1].access_key_id == used
    world.imds.clear()
    world.imds.role = "enclave-parent"


@pytest.fixture(autouse=True)
def well_again(world):
    """Behind each fault: the new credentials are fetched without another word, and used."""
    yield
    fresh = world.kms.credentials.current.access_key_id

    def used():
        with world.client() as client:
            assert client.ask(DESCRIBE).status == 200
        return world.kms.requests[-1].access_key_id == fresh
    wait_for(used, 20 * SLOW)


STATUSES = {
    # name: status, action, what is said
    "token-400": (400, "PutToken", "status 400"),
    "token-403": (403, "PutToken", "set its HttpEndpoint to enabled"),
    "token-404": (404, "PutToken", "not an instance metadata service of version 2"),
    "token-429": (429, "PutToken", "it is busy"),
    "token-500": (500, "PutToken", "it is busy"),
    "token-503": (503, "PutToken", "it is busy"),
    "role-401": (401, "ListRoles", "status 401"),
    "role-404": (404, "ListRoles", "no IAM role is attached"),
    "role-500": (500, "ListRoles", "it is busy"),
    "credentials-401": (401, "GetCredentials", "status 401"),
    "credentials-404": (404, "GetCredentials", "not attached"),
    "credentials-502": (502, "GetCredentials", "it is busy"),
}


@pytest.mark.parametrize("name", STATUSES)
def test_a_status(world, name):
    status, action, said = STATUSES[name]
    with ill(world, said):
        world.imds.fault("status", status=status, action=action, count=None)


BROKEN = {
    # name: fault, parameters, action, what is said
    "token-empty": ("body", {"text": ""}, "PutToken", "not a token"),
    "token-of-two-lines": ("body", {"text": "a\r\nX: y"}, "PutToken", "not a token"),
    "token-huge": ("body", {"text": "t" * 2000}, "PutToken", "not a token"),
    "credentials-1-mib": ("huge_body", {"size": 1 << 20}, "GetCredentials", ""),
    "no-json": ("body", {"text": "<html>"}, "GetCredentials", "JSON"),
    "json-cut-off": ("body", {"text": '{"Code":"Success","Acc'}, "GetCredentials", "JSON"),
    "an-array": ("body", {"text": "[]"}, "GetCredentials", ""),
    "code-no-success": ("code", {}, None, "AssumeRoleUnauthorizedAccess"),
    "no-token-in-it": ("fields", {"drop": ["Token"]}, None, "Token"),
    "no-expiration": ("fields", {"drop": ["Expiration"]}, None, "Expiration"),
    "no-time": ("fields", {"change": {"Expiration": "tomorrow"}}, None, "Expiration"),
    "a-number-as-key": ("fields", {"change": {"SecretAccessKey": 1}}, None, "SecretAccessKey"),
    "a-line-in-a-key": ("fields", {"change": {"AccessKeyId": "A\r\nB"}}, None, "AccessKeyId"),
    "expired": ("expired", {}, None, "expired"),
    "reset-mid-body": ("reset", {"after": "body"}, "GetCredentials", ""),
    "closed-unanswered": ("close", {"after": 0}, "PutToken", ""),
    "gzip": ("gzip", {}, "GetCredentials", ""),
    "redirect": ("redirect", {"location": "http://127.0.0.1:1/"}, "GetCredentials", "307"),
    "huge-head": ("huge_header", {}, "GetCredentials", ""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_answer_that_is_broken(world, name):
    kind, how, action, said = BROKEN[name]
    with ill(world, said):
        world.imds.fault(kind, action=action, count=None, **how)


@pytest.mark.parametrize("kind, how", [("hang", {}), ("drip", {"interval": 0.5}),
                                       ("stall", {"after": "head"})])
def test_no_answer_in_time(world, kind, how):
    with ill(world, "", deadline=IMDS_TIME):
        world.imds.fault(kind, action="PutToken", count=None, **how)


def test_refused(world):
    with ill(world, "EC2"):
        world.imds.stop()
    world.imds.start()


def test_no_role(world):
    with ill(world, "no IAM role is attached"):
        world.imds.role = None


def test_another_role(world):
    """It may be changed while we run."""
    with world.fault(within=10):
        world.imds.role = "another"
        world.imds.rotate()
        ask_anew(world)
        world.imds.wait_for_requests(1, "GetCredentials")
    world.imds.role = "enclave-parent"


def test_another_role_than_the_one_asked_for(world):
    with ill(world, "this role is not attached", role="enclave-parent"):
        world.imds.role = "another"


def test_its_tokens_are_forgotten(world):
    """It was started anew: 401, another token, and nobody needs to know."""
    with world.fault(within=10):
        world.imds.invalidate_tokens()
        used = world.kms.requests[-1].access_key_id
        world.imds.rotate()
        world.kms.credentials.revoke(used)
        assert world.ask().status == 200
