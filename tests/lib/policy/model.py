# SPDX-License-Identifier: Apache-2.0
"""What a request may do, worked out a second time: the policy as kms-vsock-proxy.yaml(5) tells it,
and the members of KMS's requests as the AWS API reference does. It was written from these two
alone, without a look at the daemon, so that what both say is worth something.

    decide(config, "payments", "Decrypt", body, host="localhost")
        -> Judgement(reason="key", rule="unwrap", endpoint="kms", ...)

The configuration is the file's as a Python dict, and must be one that the daemon takes. A man
page that leaves open what to do here has a defect.
"""

import base64
import collections
import ipaddress
import json
import pathlib
import re

_TABLE = pathlib.Path(__file__).resolve().parents[2] / "data" / "kms-actions.txt"


def _read_members(line):
    action, members, _ = (part.strip() for part in (line + " ").split("|"))
    return action, frozenset(name.rstrip("*") for name in members.split(", "))


# The members of each action's request, from AWS.
ACTIONS = dict(_read_members(line) for line in _TABLE.read_text().splitlines() if line[0] != "#")

_KEY_MEMBERS = ("AliasName", "SourceKeyId", "DestinationKeyId", "TargetKeyId", "KeyId")
_CONTEXT_MEMBERS = ("EncryptionContext", "SourceEncryptionContext", "DestinationEncryptionContext")
SECRET = frozenset(("Decapsulate", "Decrypt", "DeriveSharedSecret", "Encapsulate", "GenerateDataKey",
                    "GenerateDataKeyPair", "GenerateRandom"))


LOOKED_AT = (*_KEY_MEMBERS, *_CONTEXT_MEMBERS, "Recipient")
# Of CreateGrant: what the audit record tells.
_GRANTEES = ("GranteePrincipal", "GranteeServicePrincipal")
# A rule lists one of these if and only if it has `delegation: allow`.
DELEGATING = frozenset(("CreateGrant", "CreateKey", "PutKeyPolicy", "ReplicateKey"))


def own_members(action):
    """Those that a release knows of an action; of one that it doesn't know, KeyId."""
    return ACTIONS.get(action, frozenset(("KeyId",)))


def key_members(action):
    return [name for name in _KEY_MEMBERS if name in own_members(action)]


def context_members(action):
    return [name for name in _CONTEXT_MEMBERS if name in own_members(action)]


def implied_key(action):
    """The member without which KMS takes the key from the ciphertext, or None."""
    return {"Decrypt": "KeyId", "ReEncrypt": "SourceKeyId"}.get(action)


def token_members(action):
    """The members that name a grant, of whatever key."""
    return [name for name in ("GrantToken",) if name in own_members(action)]


def takes_recipient(action):
    return "Recipient" in own_members(action)


# Reading a body.

JSON_DEPTH, JSON_MEMBERS, JSON_NUMBER, ATTESTATION = 8, 256, 64, 262144


class Refused(Exception):
    """The body is none that the policy would be asked about."""


class _Number(str):
    """A number as it was written."""


def _number(text):
    if len(text) > JSON_NUMBER:
        raise Refused("a long number")
    return _Number(text)


def _not_json(text):
    raise Refused(text)


def _unique(pairs):
    members = dict(pairs)
    if len(members) != len(pairs) or any("\0" in name for name in members):
        raise Refused("a name twice, or a NUL in one")
    return members


def _measure(value, depth=1):
    """Members and elements of a value."""
    if not isinstance(value, (dict, list)):
        return 0
    if depth > JSON_DEPTH:
        raise Refused("deep")
    return len(value) + sum(_measure(one, depth + 1)
                            for one in (value.values() if isinstance(value, dict) else value))


def _texts(value):
    if isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str):
        yield value


def read_value(body):
    """The value of a text of strict JSON, numbers as _Number; Refused for any other text."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_unique, parse_int=_number,
                           parse_float=_number, parse_constant=_not_json)
        for text in _texts(value):
            text.encode()               # half of a surrogate pair can't be
    except (ValueError, RecursionError) as error:
        raise Refused(str(error)) from error
    if _measure(value) > JSON_MEMBERS:
        raise Refused("many members")
    return value


def in_order(body):
    """A value with its members in their order and its numbers as they are written, to compare."""
    return json.loads(body, object_pairs_hook=lambda pairs: ("object", pairs),
                      parse_int=lambda text: ("number", text), parse_float=lambda text: ("number", text))


def read_json(body):
    """The same of a body, which is an object."""
    value = read_value(body)
    if not isinstance(value, dict):
        raise Refused("no object")
    return value


def _is_text(value):
    return isinstance(value, str) and not isinstance(value, _Number)


def _is_texts(value):
    return isinstance(value, dict) and all(_is_text(one) for one in value.values())


def _check(name, value):
    """One of the members that the policy looks at."""
    if name in _KEY_MEMBERS + _GRANTEES:
        good = _is_text(value) and value != ""
    elif name in _CONTEXT_MEMBERS:
        good = _is_texts(value)
    else:
        good = _is_texts(value) and value.keys() <= {"AttestationDocument", "KeyEncryptionAlgorithm"}
    if not good:
        raise Refused(f"the value of {name}")


def read_body(action, body, extra=()):
    """The members of a body that the action may have, or that are extra ones of a rule."""
    members = read_json(body)
    for name, value in members.items():
        if name not in own_members(action) and name not in extra:
            raise Refused(f"{name} is no member")
        if name in own_members(action) and name in LOOKED_AT or name == "Recipient" \
                or action == "CreateGrant" and name in _GRANTEES:
            _check(name, value)
    return members


def _is_document(text):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return False
    # The one spelling, of the several that base64.b64decode takes.
    return 1 <= len(data) <= ATTESTATION and base64.b64encode(data).decode() == text


def _recipient_present(members):
    recipient = members.get("Recipient", {})
    return (recipient.get("KeyEncryptionAlgorithm") == "RSAES_OAEP_SHA_256"
            and _is_document(recipient.get("AttestationDocument", "")))


# Endpoints.

_PARTITIONS = (     # region, suffix, suffix of dual-stack hosts, partition
    ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn", "aws-cn"),
    ("us-gov-", "amazonaws.com", "api.aws", "aws-us-gov"),
    ("us-iso-", "c2s.ic.gov", "api.aws.ic.gov", "aws-iso"),
    ("us-isob-", "sc2s.sgov.gov", "api.aws.scloud", "aws-iso-b"),
    ("eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk", "aws-iso-e"),
    ("us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov", "aws-iso-f"),
    ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu", "aws-eusc"),
    ("", "amazonaws.com", "api.aws", "aws"),
)


def _partition(region):
    return next(row for row in _PARTITIONS if region.startswith(row[0]))


def partition(region):
    return _partition(region)[3]


def endpoint_host(endpoint):
    if "host" in endpoint:
        return endpoint["host"]
    _, suffix, dual, _ = _partition(endpoint["region"])
    service = "kms-fips" if endpoint.get("fips") else "kms"
    return f"{service}.{endpoint['region']}.{dual if endpoint.get('dualstack') else suffix}"


def _is_address(host):
    try:
        ipaddress.ip_address(host.strip("[]"))
        return True
    except ValueError:
        return False


def pick_endpoint(config, enclave, host):
    """The name of the endpoint that a Host field picks, or None."""
    name = re.sub(r":\d*$", "", host).lower()
    endpoints = config["enclaves"][enclave].get("endpoints", [])
    for one in endpoints:
        if endpoint_host(config["endpoints"][one]) == name:
            return one
    if endpoints and (name == "localhost" or _is_address(name)):
        return endpoints[0]
    return None


# Rules.

Judgement = collections.namedtuple("Judgement", [
    "reason",       # "allowed", or the word of the audit record's REASON
    "rule",         # the rule that allowed it or came nearest, or None
    "endpoint",     # None where no policy was asked
    "members",      # the body's that is sent or was refused, numbers as text; None where it is none
    "recipient",    # whether the request shows an attestation document
    "added"])       # the member that the rule adds to the body, or None

_STAGES = ("endpoint", "action", "member", "key", "encryption-context", "recipient")


def accounts(keys):
    return {entry.split(":")[4] for entry in keys if entry.startswith("arn:")}


def _key_allowed(value, keys, region):
    if value in keys and (not value.startswith("arn:") or value.split(":")[3] == region):
        return True
    if len(accounts(keys)) > 1:
        return False
    for entry in keys:
        parts = entry.split(":")
        if len(parts) == 6 and parts[3] == region and parts[5].partition("/")[::2] == ("key", value):
            return True
    return False


def _keys_hold(rule, action, members, region):
    if rule["keys"] == "any":
        return True
    names = key_members(action)
    if any(name in members for name in token_members(action)):
        return False
    return bool(names) and all(
        name in members and _key_allowed(members[name], rule["keys"], region) for name in names)


def _context_holds(rule, action, members):
    for name, wanted in rule.get("encryption_context", {}).items():
        values = wanted if isinstance(wanted, list) else [wanted]
        for member in context_members(action):
            if members.get(member, {}).get(name) not in values:
                return False
    return True


def _recipient_holds(rule, action, recipient):
    return (rule.get("plaintext", "refuse") == "allow" or action in ACTIONS.keys() - SECRET
            or takes_recipient(action) and recipient)


def _add_key(rule, action, members, region):
    """The members as if the request named the rule's key, where the rule says so."""
    name = implied_key(action)
    if rule.get("missing_key", "refuse") != "add" or not name or name in members or len(rule["keys"]) != 1:
        return members
    parts = rule["keys"][0].split(":")
    if len(parts) != 6 or parts[3] != region or not parts[5].startswith("key/"):
        return members
    return {**members, name: rule["keys"][0]}


def _failed_stage(config, rule, endpoint, action, members, recipient, all_endpoints):
    """The index in _STAGES of what the rule lacks, or None."""
    holds = (
        endpoint in rule.get("endpoints", all_endpoints),
        action in rule.get("actions", []) + rule.get("extra_actions", []),
        members.keys() <= own_members(action) | set(rule.get("extra_members", [])),
        _keys_hold(rule, action, members, config["endpoints"][endpoint]["region"]),
        _context_holds(rule, action, members),
        _recipient_holds(rule, action, recipient))
    return next((i for i, one in enumerate(holds) if not one), None)


def _extras(config, enclave, option):
    return {name for rule in config["enclaves"][enclave].get("allow", []) for name in rule.get(option, [])}


def decide(config, enclave, action, body, host="localhost"):
    if action not in ACTIONS and action not in _extras(config, enclave, "extra_actions"):
        return Judgement("unknown-action", None, None, None, False, None)
    try:
        members = read_body(action, body, _extras(config, enclave, "extra_members"))
    except Refused:
        return Judgement("json", None, None, None, False, None)
    recipient = _recipient_present(members)
    endpoint = pick_endpoint(config, enclave, host)
    if endpoint is None:
        return Judgement("host", None, None, members, recipient, None)

    nearest = (-1, None)
    settings = config["enclaves"][enclave]
    for rule in settings.get("allow", []):
        tried = _add_key(rule, action, members, config["endpoints"][endpoint]["region"])
        failed = _failed_stage(config, rule, endpoint, action, tried, recipient,
                               settings["endpoints"])
        if failed is None:
            added = implied_key(action) if tried is not members else None
            return Judgement("allowed", rule["name"], endpoint, tried, recipient, added)
        if failed > nearest[0]:
            nearest = (failed, rule["name"])
    reason = _STAGES[nearest[0]] if nearest[1] else "no-rules"
    return Judgement(reason, nearest[1], endpoint, members, recipient, None)
