# SPDX-License-Identifier: Apache-2.0
"""Actions and members that no release knows, under rules that name them, through the real daemon."""

import json

import pytest

from daemon.help import ARN, KEY, KEY_ID, record_of, wait_taken
from kms.client import request

NEW = {"name": "new", "extra_actions": ["NewAction"], "keys": [KEY_ID], "plaintext": "allow", "delegation": "allow",
       "extra_members": ["NewMember"], "extra_members_hold_no_key": True}
MEMBERS = {"name": "members", "actions": ["DescribeKey", "EnableKey", "Decrypt"], "keys": [KEY, KEY_ID],
           "extra_members": ["NewMember"], "extra_members_hold_no_key": True}
PLAIN = {"name": "plain", "actions": ["DescribeKey", "ListKeys"], "keys": "any"}


@pytest.fixture
def daemon(daemon):
    daemon.config["enclaves"]["payments"]["allow"] = [PLAIN, NEW, MEMBERS]
    return daemon


def ask(daemon, client, action, params):
    answer = client.ask(request(action, params))
    return answer, record_of(daemon, answer)


def test_kms_is_asked_for_an_action_that_a_rule_names(daemon, kms):
    with daemon, daemon.client() as client:
        answer, record = ask(daemon, client, "NewAction", {"KeyId": KEY_ID, "NewMember": [1, None]})
        assert answer.error == "UnknownOperationException"      # the local KMS doesn't know it either
        asked, = kms.asked("NewAction")
        assert asked.verdict != "IncompleteSignatureException"
        assert json.loads(asked.body) == {"KeyId": KEY_ID, "NewMember": [1, None]}
        assert (record["KMS_ACTION"], record["KMS_KEY"], record["RULE"]) == ("NewAction", KEY_ID, "new")
        assert (record["VERDICT"], record["KMS_STATUS"]) == ("allow", "400")


@pytest.mark.parametrize("action, params, error, reason", [
    ("NewAction", {}, "AccessDeniedException", "key"),
    ("NewAction", {"KeyId": ARN}, "AccessDeniedException", "key"),
    ("NewAction", {"KeyId": None}, "SerializationException", "json"),
    ("NewAction", {"KeyId": KEY_ID, "Other": 1}, "SerializationException", "json"),
    ("NewActions", {"KeyId": KEY_ID}, "UnknownOperationException", "unknown-action"),
    ("ListKeys", {"NewMember": 1}, "AccessDeniedException", "member"),
    ("DescribeKey", {"KeyId": ARN, "NewMember": 1}, "AccessDeniedException", "key"),
    ("DescribeKey", {"KeyId": KEY_ID, "newMember": 1}, "SerializationException", "json"),
])
def test_nothing_else_is_allowed_by_it(daemon, kms, action, params, error, reason):
    with daemon, daemon.client() as client:
        answer, record = ask(daemon, client, action, params)
        assert (answer.status, answer.error) == (400, error)
        assert record["REASON"] == reason
    assert not kms.requests


def test_another_enclave_has_none_of_it(daemon, kms):
    daemon.config["listen"].append({"unix": str(daemon.folder / "other.sock"), "enclave": "other"})
    daemon.config["enclaves"]["other"] = {**daemon.config["enclaves"]["payments"], "allow": [PLAIN]}
    with daemon, daemon.client("other") as client:
        assert ask(daemon, client, "NewAction", {"KeyId": KEY_ID})[1]["REASON"] == "unknown-action"
        assert ask(daemon, client, "DescribeKey", {"KeyId": KEY_ID, "NewMember": 1})[1]["REASON"] == "json"
    assert not kms.requests


@pytest.mark.parametrize("kind", ["reset", "close"])
def test_an_action_that_is_not_known_is_never_sent_twice(daemon, kms, kind):
    with daemon, daemon.client() as client:
        assert ask(daemon, client, "DescribeKey", {"KeyId": KEY_ID})[0].status == 200
        kms.fault(kind, after=0)
        answer, record = ask(daemon, client, "NewAction", {"KeyId": KEY_ID})
        assert (answer.status, record["KMS_STATUS"]) == (503, "unknown")
        assert len(kms.asked("NewAction")) == 1


def test_a_member_that_is_not_known_reaches_kms(daemon, kms):
    with daemon, daemon.client() as client:
        answer, record = ask(daemon, client, "DescribeKey", {"NewMember": {"a": "\u20ac"}, "KeyId": KEY})
        assert (answer.status, record["RULE"]) == (200, "members")
        assert json.loads(kms.asked("DescribeKey")[0].body) == {"NewMember": {"a": "\u20ac"}, "KeyId": KEY}


@pytest.mark.parametrize("members", [["NewMember"], []], ids=["with-the-member", "without"])
def test_the_reply_is_looked_through_for_secrets(daemon, kms, members):
    with daemon, daemon.client() as client:
        kms.fault("extra_member", member="Plaintext", value="c2VjcmV0")
        answer, record = ask(daemon, client, "DescribeKey", {"KeyId": KEY, **{name: 1 for name in members}})
        if members:
            assert (answer.status, record["REASON"]) == (502, "reply-leaks")
            assert b"c2VjcmV0" not in answer.body
        else:
            assert (answer.status, record["RULE"]) == (200, "plain")     # the first that matches, as ever


def test_an_empty_reply_holds_none(daemon, kms):
    with daemon, daemon.client() as client:
        answer, record = ask(daemon, client, "EnableKey", {"KeyId": KEY_ID, "NewMember": 1})
        assert (answer.status, answer.body, record["REASON"]) == (200, b"", "allowed")


def test_one_that_is_no_json_is_withheld(daemon, kms):
    with daemon, daemon.client() as client:
        kms.fault("not_json")
        answer, record = ask(daemon, client, "DescribeKey", {"KeyId": KEY, "NewMember": 1})
        assert (answer.status, record["REASON"]) == (502, "reply-unreadable")


def test_an_action_that_came_with_a_reload_while_the_body_is_read(daemon):
    rules = daemon.config["enclaves"]["payments"]["allow"]
    rules.remove(NEW)
    with daemon, daemon.client() as client:
        data = request("NewAction", {"KeyId": KEY_ID})
        client.send(data[:-1])
        wait_taken(client)
        rules.append(NEW)
        daemon.reload()
        client.send(data[-1:])
        answer = client.read()
        assert record_of(daemon, answer)["VERDICT"] == "allow"


def test_an_action_that_went_with_a_reload_while_the_body_is_read(daemon, kms):
    rules = daemon.config["enclaves"]["payments"]["allow"]
    with daemon, daemon.client() as client:
        data = request("NewAction", {"KeyId": KEY_ID})
        client.send(data[:-1])
        wait_taken(client)
        rules.remove(NEW)
        daemon.reload()
        client.send(data[-1:])
        answer = client.read()
        assert record_of(daemon, answer)["REASON"] == "unknown-action"
    assert not kms.requests
