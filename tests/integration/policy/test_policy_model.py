# SPDX-License-Identifier: Apache-2.0
"""Random pairs of a configuration and a request through the real daemon, beside the model of its
policy: what it answers, what it records, and what KMS receives. tests/differential/policy_pairs.py
judges many more of them without the daemon around the policy.
"""

import collections
import random
import re

import pytest

from daemon import DEADLINE, Daemon, wait_for
from daemon.help import parse_line
from figures import figure
from kms.client import Client, request
from policy import cases, model
from standins import LocalImds, LocalKms

SEED = 7
DAEMONS = 14
RELOADS = 4                 # configurations of each daemon
ENCLAVES = 6
REQUESTS = 90               # to each configuration
REFUSALS = 18               # of one enclave: more of them at once are counted, not recorded
REASONS = {"allowed", "unknown-action", "json", "host", "no-rules", "endpoint", "action", "member", "key",
           "encryption-context", "recipient"}
ANY = cases.EXTRA_MEMBERS + cases.ODD_MEMBERS
TUNNEL_ONLY = {"tunnel": {"hosts": ["example.com:443"]}}

Outcome = collections.namedtuple("Outcome", ["pair", "rule", "expected", "answer", "received", "record"])


def socket_name(turn, enclave):
    return f"{turn}-{enclave}"


def all_names():
    return [socket_name(turn, f"enclave-{i}") for turn in range(RELOADS) for i in range(ENCLAVES)]


def file_config(daemon, kms, turn, config):
    """The configuration for the daemon. Sockets can't change in a reload, and how many refusals are
    recorded is a matter of each enclave, so each turn has enclaves of its own; the others wait."""
    endpoints = {name: {**endpoint, "connect_to": kms.address, "ca_file": str(daemon.folder / "ca.pem")}
                 for name, endpoint in config["endpoints"].items()}
    enclaves = {name: TUNNEL_ONLY for name in all_names()}
    enclaves.update((socket_name(turn, name), settings) for name, settings in config["enclaves"].items())
    return cases.config_text({
        "listen": [{"unix": str(daemon.folder / name), "enclave": name} for name in all_names()],
        "endpoints": endpoints, "credentials": daemon.credentials, "enclaves": enclaves,
        "limits": {"requests": "10000/s", "burst": 10000}})


def some_pairs(rng, config):
    """Requests with what the model says to each."""
    refused = collections.Counter()
    for _ in range(REQUESTS):
        pair = cases.random_request(rng, config)
        expected = model.decide(config, pair.enclave, pair.action, pair.body, pair.host)
        if expected.reason != "allowed":
            refused[pair.enclave] += 1
        if refused[pair.enclave] <= REFUSALS:
            yield pair, expected


def ask(daemon, kms, turn, pairs):
    """(answer, requests that KMS received) for each of the pairs."""
    clients = {}
    try:
        for pair, _ in pairs:
            if pair.enclave not in clients:
                clients[pair.enclave] = daemon.connect(socket_name(turn, pair.enclave))
            before = len(kms.requests)
            answer = clients[pair.enclave].ask(request(pair.action, host=pair.host, body=pair.body))
            yield answer, kms.requests[before:]
    finally:
        for client in clients.values():
            client.close()


class TextDaemon(Daemon):
    """One whose configuration is text."""

    def __init__(self, folder, kms, imds):
        super().__init__(folder, kms, imds)
        self.credentials = self.config["credentials"]

    def connect(self, name):
        return Client(f"unix:{self.folder / name}", timeout=DEADLINE)

    def records_of(self, answers):
        """The record of each answer, when all are there."""
        ids = [answer.header("x-amzn-RequestId") for answer in answers]

        def look():
            records = map(parse_line, self.log().splitlines())
            by_id = {r.get("AWS_REQUEST_ID") or r["REQUEST_ID"]: r for r in records if "REQUEST_ID" in r}
            return [by_id[i] for i in ids] if by_id.keys() >= set(ids) else None
        return wait_for(look, message=lambda: f"records are missing in:\n{self.log()[-3000:]}")


def rule_of(config, pair, name):
    rules = config["enclaves"][pair.enclave].get("allow", [])
    return next((rule for rule in rules if rule["name"] == name), None)


def run_turn(daemon, kms, rng, turn, config):
    pairs = list(some_pairs(rng, config))
    kms.forget_requests()
    answers = list(ask(daemon, kms, turn, pairs))
    records = daemon.records_of([answer for answer, _ in answers])
    for (pair, expected), (answer, received), record in zip(pairs, answers, records):
        yield Outcome(pair, rule_of(config, pair, expected.rule), expected, answer, received, record)


def run_daemon(folder, kms, imds, rng):
    daemon = TextDaemon(folder, kms, imds)
    configs = [cases.random_config(rng, ENCLAVES) for _ in range(RELOADS)]
    daemon.config = file_config(daemon, kms, 0, configs[0])
    with daemon:
        for turn, config in enumerate(configs):
            if turn > 0:
                daemon.config = file_config(daemon, kms, turn, config)
                daemon.reload()
            yield from run_turn(daemon, kms, rng, turn, config)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    rng, found = random.Random(SEED), []
    hosts = {model.endpoint_host(e): e["region"] for e in cases.ENDPOINTS.values()}
    with LocalKms(regions=list(dict.fromkeys(hosts.values())), hosts=hosts) as kms, \
            LocalImds(kms.credentials) as imds:
        for _ in range(DAEMONS):
            found += run_daemon(tmp_path_factory.mktemp("model"), kms, imds, rng)
    return found


def tell(outcome):
    return (f"{outcome.pair}\n{outcome.expected}\nanswer {outcome.answer}\nrecord {outcome.record}\n"
            f"received {outcome.received}")


def is_allowed(outcome):
    return outcome.expected.reason == "allowed"


def test_every_pair_gets_the_answer_that_the_model_gives(outcomes):
    errors = {"unknown-action": "UnknownOperationException", "json": "SerializationException"}
    for outcome in outcomes:
        answer = outcome.answer
        if is_allowed(outcome):
            assert answer.header("x-amzn-RequestId") == outcome.record["AWS_REQUEST_ID"], tell(outcome)
        else:
            error = errors.get(outcome.expected.reason, "AccessDeniedException")
            assert (answer.status, answer.error) == (400, error), tell(outcome)


def test_every_record_has_the_verdict_of_the_model(outcomes):
    for outcome in outcomes:
        expected, record = outcome.expected, outcome.record
        assert record["VERDICT"] == ("allow" if is_allowed(outcome) else "refuse"), tell(outcome)
        assert record.get("RULE") == expected.rule, tell(outcome)
        if expected.endpoint:
            assert record["ENDPOINT"] == expected.endpoint, tell(outcome)
        if expected.members is not None:
            assert record["RECIPIENT"] == ("present" if expected.recipient else "none"), tell(outcome)


def test_every_refusal_is_recorded_with_the_reason_of_the_model(outcomes):
    for outcome in outcomes:
        if not is_allowed(outcome):
            assert outcome.record["REASON"] == outcome.expected.reason, tell(outcome)


def test_what_is_allowed_is_held_back_only_for_its_reply(outcomes):
    for outcome in outcomes:
        if is_allowed(outcome) and outcome.record["REASON"] != "allowed":
            assert outcome.record["REASON"].startswith("reply-"), tell(outcome)
            assert outcome.pair.action in model.SECRET or outcome.rule.get("extra_members"), tell(outcome)
            assert outcome.rule.get("plaintext", "refuse") == "refuse", tell(outcome)


def test_every_record_names_the_keys_of_the_request(outcomes):
    for outcome in outcomes:
        if outcome.expected.members is not None:
            keys = [outcome.expected.members.get(n) for n in model.key_members(outcome.pair.action)]
            keys = ",".join(key for key in keys if key)
            if re.fullmatch("[A-Za-z0-9:/_,-]{0,200}", keys):
                assert outcome.record.get("KMS_KEY", "") == keys, tell(outcome)


def test_kms_receives_what_the_policy_saw_and_nothing_else(outcomes):
    for outcome in outcomes:
        if is_allowed(outcome):
            received, = outcome.received
            assert received.action == outcome.pair.action, tell(outcome)
            kind, members = model.in_order(outcome.pair.body)
            added = outcome.expected.added
            more = [(added, outcome.expected.members[added])] if added else []
            assert model.in_order(received.body) == (kind, members + more), tell(outcome)
            assert model.read_body(received.action, received.body, ANY) == outcome.expected.members, tell(outcome)


def test_the_record_tells_of_a_key_that_was_added(outcomes):
    added = 0
    for outcome in outcomes:
        assert outcome.record.get("KMS_KEY_ADDED") == ("1" if outcome.expected.added else None), tell(outcome)
        added += outcome.expected.added is not None
    figure("policy and model, through the daemon: with a key added", added)
    assert added > 10


def test_kms_receives_it_at_the_endpoint_of_the_rule(outcomes):
    for outcome in outcomes:
        if is_allowed(outcome):
            received, = outcome.received
            host = model.endpoint_host(cases.ENDPOINTS[outcome.expected.endpoint])
            assert received.header("Host") == received.connection.sni == host, tell(outcome)


def test_kms_receives_nothing_of_what_is_refused(outcomes):
    for outcome in outcomes:
        if not is_allowed(outcome):
            assert outcome.received == [], tell(outcome)


def test_the_pairs_are_of_every_kind(outcomes):
    allowed = [o for o in outcomes if is_allowed(o)]
    figure("policy and model, through the daemon: pairs", len(outcomes))
    figure("policy and model, through the daemon: received by KMS as seen", len(allowed))
    assert {o.expected.reason for o in outcomes} == REASONS
    assert {o.pair.action for o in allowed} == model.ACTIONS.keys() | set(cases.EXTRA_ACTIONS)
    assert .4 < len(allowed) / len(outcomes) < .6
