# SPDX-License-Identifier: Apache-2.0
"""Connections over limits.connections: what they are told, and that they harm nobody."""

import contextlib
import re

import boto3
import botocore.exceptions
import pytest

from daemon import wait_for
from daemon.flooded import assert_a_flood_harms_nobody
from daemon.help import DESCRIBE, ended, KEY, limits, record_of
from kms.client import request
from standins import Bridge

LARGE = request("DescribeKey", body=b'{"KeyId":"alias/payments"}' + b" " * 300000)
CONTINUE = DESCRIBE[:DESCRIBE.index(b"\r\n\r\n")] + b"\r\nExpect: 100-continue\r\n\r\n"


@pytest.fixture(params=[1, 2], ids=["1-worker", "2-workers"])
def full(request, daemon):
    """Its enclave has as many connections as it may have."""
    daemon.config["workers"] = request.param
    limits(daemon, requests="10000/s", burst=1000, connections=3)
    with daemon, contextlib.ExitStack() as stack:
        held = [stack.enter_context(daemon.client()) for _ in range(3)]
        assert [c.ask(DESCRIBE).status for c in held] == [200] * 3
        yield daemon


@pytest.mark.parametrize("sent", [DESCRIBE, LARGE, CONTINUE, DESCRIBE[:10], b"GET / HTTP/1.1\r\n\r\n"],
                         ids=["small", "large", "continue", "part", "get"])
def test_it_is_told_and_may_read_it(full, kms, sent):
    before = len(kms.requests)
    with full.client() as client:
        client.send(sent)
        answer = client.read()
        assert (answer.status, answer.error) == (400, "ThrottlingException")
        assert answer.header("Connection") == "close"
        assert "limits.connections (3)" in answer.json["message"]
        assert ended(client)                # the end, and no reset
        record = record_of(full, answer)
    assert (record["REASON"], record["HTTP_STATUS"], record["ENCLAVE"]) == ("connections", "400", "payments")
    assert len(kms.requests) == before


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"], ids=["nothing", "tls"])
def test_it_is_closed_without_a_word(full, sent):
    with full.client() as client:
        if sent:
            client.send(sent)
        with contextlib.suppress(ConnectionResetError):     # what it sent was not read
            assert client.at_end()
    assert "HTTP_STATUS" not in full.record(REASON="connections")


def test_an_sdk_tries_again_until_there_is_a_place(daemon):
    limits(daemon, requests="10000/s", burst=1000, connections=1)
    with daemon, Bridge(daemon.socket_path()) as bridge:
        held = daemon.client()
        assert held.ask(DESCRIBE).status == 200
        client = boto3.client("kms", region_name="eu-central-1", endpoint_url=bridge.url,
                              aws_access_key_id="dummy", aws_secret_access_key="dummy")
        with pytest.raises(botocore.exceptions.ClientError, match="Throttling.*limits.connections") as raised:
            client.describe_key(KeyId=KEY)
        assert raised.value.response["ResponseMetadata"]["RetryAttempts"] == 4
        held.close()

        def answered():
            try:
                return client.describe_key(KeyId=KEY)
            except botocore.exceptions.ClientError:
                return None
        assert wait_for(answered)["KeyMetadata"]


def test_its_records_are_limited_as_all_refusals(full):
    for _ in range(100):
        with full.client() as client:
            client.ask(DESCRIBE)
    assert len(full.records(REASON="connections")) < 100
    assert re.search("records of refused requests or connections were left out",
                     wait_for(lambda: "left out" in full.log() and full.log(), 15))


def test_a_flood_of_connections_harms_nobody(daemon):
    assert_a_flood_harms_nobody(daemon, 5000)
