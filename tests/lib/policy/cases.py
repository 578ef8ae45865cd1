# SPDX-License-Identifier: Apache-2.0
"""Random configurations and requests for them, about half of which their policies allow.

    config = random_config(rng, enclaves=3)
    request = random_request(rng, config)       -> Request(enclave, host, action, body)

A request is made to fit a rule, and then, as often as not, something about it is changed. Names
and values come from small sets, so that rules overlap and what is near is often met.
"""

import base64
import collections
import json

from policy import model

Request = collections.namedtuple("Request", ["enclave", "host", "action", "body"])

ENDPOINTS = {
    "eu": {"region": "eu-central-1"},
    "eu-vpc": {"region": "eu-central-1", "host": "vpce-0e1b.kms.eu-central-1.vpce.amazonaws.com"},
    "us": {"region": "us-east-1"},
    "us-fips": {"region": "us-east-1", "fips": True, "dualstack": True},
    "west": {"region": "us-west-2", "dualstack": True},
    "china": {"region": "cn-north-1"},
    "gov": {"region": "us-gov-west-1", "fips": True},
}
IDS = ["1234abcd-12ab-34cd-56ef-1234567890ab", "1234abcd-12ab-34cd-56ef-1234567890ac",
       "mrk-1234abcd12ab34cd56ef1234567890ab", "mrk-1234abcd12ab34cd56ef1234567890aa"]
ALIASES = ["alias/a", "alias/payments", "alias/payments-2", "alias/team/x_y"]
ACCOUNTS = ["111122223333", "444455556666"]
# Two spellings of one letter, a letter beyond 16 bits, what JSON or YAML must escape.
NAMES = ["app", "App", "stage", "caf\u00e9", "cafe\u0301", "\U0001d4b3", "a b", "", "x\"\\/y", "\u2028"]
VALUES = ["payments", "Payments", "test", "", "null", "true", "1", "z\u00fc", "zu\u0308", "\U0001f511",
          "tab\t", "line\nend", "\u0001", "quote\"", "back\\slash", "a/b", "\u007f", " payments", "p" * 300]
NOT_STRINGS = [None, True, False, 0, -1.5, [], {}, ["payments"], {"app": "payments"}]

ALL = sorted(model.ACTIONS)
EXTRA_ACTIONS = ["NewAction", "DecryptTwice"]
EXTRA_MEMBERS = ["NewMember", "NewMembers", "Recipient"]
ODD_MEMBERS = ["TargetKeyId", "GrantTokens", "EncryptionContext"]    # of other actions
WITH_KEY = [a for a in ALL if model.key_members(a)]
WITH_CONTEXT = [a for a in ALL if model.context_members(a)]
OPEN_ONLY = [a for a in ALL if a in model.SECRET and not model.takes_recipient(a)]


def chance(rng, probability):
    return rng.random() < probability


# Configurations.

def random_arn(rng, region, accounts=ACCOUNTS):
    resource = rng.choice([f"key/{i}" for i in IDS] * 2 + ALIASES)
    return f"arn:{model.partition(region)}:kms:{region}:{rng.choice(accounts)}:{resource}"


def _random_keys(rng, regions):
    """regions: those of the rule's endpoints, one for each."""
    keys, accounts = [], ACCOUNTS if chance(rng, .3) else [rng.choice(ACCOUNTS)]
    for _ in range(rng.choice([1, 1, 2, 3, 6])):
        if len(regions) == 1 and chance(rng, .6):
            keys.append(rng.choice(IDS + ALIASES))
        else:
            keys.append(random_arn(rng, rng.choice(regions), accounts))
    return list(dict.fromkeys(keys))


def _random_context(rng):
    context = {}
    for name in rng.sample(NAMES, rng.choice([1, 1, 2, 3])):
        values = rng.sample(VALUES, rng.choice([1, 1, 2, 4]))
        context[name] = values[0] if len(values) == 1 and chance(rng, .7) else values
    return context


def _random_missing_key(rng, config, rule, endpoints):
    """Now and then the rule adds its key, which then is one ARN of a key."""
    implied = [a for a in rule.get("actions", ()) if model.implied_key(a)]
    if implied and chance(rng, .5):
        region = config["endpoints"][rng.choice(endpoints)]["region"]
        account = rng.choice(ACCOUNTS)
        rule["keys"] = [f"arn:{model.partition(region)}:kms:{region}:{account}:key/{rng.choice(IDS)}"]
        rule["missing_key"] = "add"
    elif chance(rng, .1):
        rule["missing_key"] = "refuse"


def _random_extras(rng, rule):
    """Now and then what no release knows, with what it must have beside it."""
    if chance(rng, .1) and "encryption_context" not in rule:
        rule["extra_actions"] = rng.sample(EXTRA_ACTIONS, rng.randint(1, len(EXTRA_ACTIONS)))
        rule["plaintext"] = rule["delegation"] = "allow"
        if chance(rng, .3):
            del rule["actions"]
            rule.pop("missing_key", None)
    if chance(rng, .15):
        names = EXTRA_MEMBERS + (ODD_MEMBERS if rule["keys"] == "any" else [])
        rule["extra_members"] = rng.sample(names, rng.randint(1, len(names)))
        if rule["keys"] != "any" or chance(rng, .2):
            rule["extra_members_hold_no_key"] = True


def _random_rule(rng, config, enclave, likely, name):
    rule = {"name": name}
    endpoints = enclave["endpoints"]
    if chance(rng, .4):
        rule["endpoints"] = endpoints = rng.sample(endpoints, rng.randint(1, len(endpoints)))
    kind = rng.choice(["any", "keys", "keys", "context", "keys and context"])
    plaintext = rng.choice([None, None, "refuse", "allow"])
    if plaintext:
        rule["plaintext"] = plaintext

    fit = ALL if kind == "any" else WITH_KEY if kind == "keys" else WITH_CONTEXT
    if plaintext != "allow":
        fit = [a for a in fit if a not in OPEN_ONLY]
    near = [a for a in likely if a in fit]
    actions = set(near if chance(rng, .6) else rng.sample(near, min(len(near), 2)))
    actions.update(rng.sample(fit, rng.randint(0 if actions else 1, min(4, len(fit)))))
    rule["actions"] = rng.sample(sorted(actions), len(actions))

    if actions & model.DELEGATING:
        rule["delegation"] = "allow"
    elif chance(rng, .1):
        rule["delegation"] = "refuse"
    rule["keys"] = "any"
    if "keys" in kind:
        rule["keys"] = _random_keys(rng, [config["endpoints"][e]["region"] for e in endpoints])
        _random_missing_key(rng, config, rule, endpoints)
    if "context" in kind:
        rule["encryption_context"] = _random_context(rng)
    _random_extras(rng, rule)
    order = rng.sample(list(rule), len(rule))       # of the options in the file
    return {option: rule[option] for option in order}


def _random_enclave(rng, config):
    if chance(rng, .03):
        enclave = {"tunnel": {"hosts": ["example.com:443"]}}
        if chance(rng, .6):
            enclave["endpoints"] = [rng.choice(list(config["endpoints"]))]
        return enclave
    known = list(config["endpoints"])
    enclave = {"endpoints": rng.sample(known, rng.randint(1, min(3, len(known))))}
    likely = rng.sample(ALL, rng.randint(2, 8))
    enclave["allow"] = [_random_rule(rng, config, enclave, likely, f"rule-{i}")
                        for i in range(rng.choice([1, 1, 2, 3, 5, 8]))]
    return enclave


def random_config(rng, enclaves):
    """The parts that the policy has to do with, for so many enclaves."""
    names = rng.sample(list(ENDPOINTS), rng.randint(1, 4))
    config = {"listen": [{"vsock": 8000}], "endpoints": {n: dict(ENDPOINTS[n]) for n in names},
              "enclaves": {}}
    for i in range(enclaves):
        config["enclaves"][f"enclave-{i}"] = {"cid": 16 + i, **_random_enclave(rng, config)}
    return config


def config_text(config):
    """As YAML. json.dumps would write half of a surrogate pair at a time, which YAML doesn't know."""
    text = json.dumps(config, ensure_ascii=False, indent=1)
    return "".join(c if " " <= c <= "~" or c == "\n" else f"\\U{ord(c):08x}" for c in text)


# Requests: the body as a list of pairs, so that a name may be there twice.

class Members(list):
    """The members of an object in their order."""


class Raw(str):
    """A piece of JSON, or of what is none, as it is to be written."""


_SHORT = {"\"": "\\\"", "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
          "/": "\\/"}


def _escape(rng, c):
    units = c.encode("utf-16-be", "surrogatepass")
    digits = rng.choice(["{:04x}", "{:04X}"])
    return "".join("\\u" + digits.format(units[i] << 8 | units[i + 1]) for i in range(0, len(units), 2))


def _write_string(rng, text, odd):
    out = []
    for c in text if odd or not text.isalnum() else ():
        if c in _SHORT and (c != "/" or chance(rng, odd)):
            out.append(_SHORT[c])
        elif c < " " or chance(rng, odd):
            out.append(_escape(rng, c))
        else:
            out.append(c)
    return f'"{"".join(out) if out else text}"'


def _write(rng, value, odd):
    def space():
        return "".join(rng.choices(" \t\r\n", k=2)) if odd and chance(rng, odd) else ""

    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, str):
        return _write_string(rng, value, odd if len(value) < 2000 else 0)
    if isinstance(value, dict):
        value = Members(value.items())
    if isinstance(value, Members):
        parts = [f"{space()}{_write_string(rng, n, odd)}{space()}:{space()}{_write(rng, v, odd)}{space()}"
                 for n, v in value]
        return "{" + (",".join(parts) or space()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(space() + _write(rng, v, odd) + space() for v in value) + "]"
    return json.dumps(value)


def write_body(rng, members):
    odd = rng.choice([0, 0, .05, .5])
    return _write(rng, members, odd).encode("utf-8", "surrogatepass")


# The document's bytes don't matter, so a few serve all.
_DOCUMENTS = [base64.b64encode(b"\x84" + bytes(range(n % 251)) + b"d" * (n - 1 - n % 251)).decode()
              for n in (252, 253, 254, 700)]
_EDGES = {n: base64.b64encode(b"\xa5" * n).decode() for n in (262143, 262144, 262145)}
ALGORITHM = "RSAES_OAEP_SHA_256"


def good_recipient(rng):
    document = _EDGES[262144] if chance(rng, .003) else rng.choice([*_DOCUMENTS, "AA==", "AAA=", "+/+/"])
    return {"KeyEncryptionAlgorithm": ALGORITHM, "AttestationDocument": document}


def bad_recipient(rng):
    """Some of these KMS could not use, the others are no request at all."""
    good = good_recipient(rng)
    document = good["AttestationDocument"]
    if chance(rng, .01):
        return {**good, "AttestationDocument": _EDGES[262145]}
    return rng.choice([
        {}, None, "x", [], {**good, "AttestationDocument": ""}, {**good, "AttestationDocument": None},
        {**good, "AttestationDocument": "A" + document}, {**good, "AttestationDocument": document + "\n"},
        {**good, "AttestationDocument": "AB=="}, {**good, "AttestationDocument": "AAB="},
        {**good, "AttestationDocument": "AA="}, {**good, "AttestationDocument": "A==="},
        {**good, "AttestationDocument": "===="}, {**good, "AttestationDocument": "AA==AAAA"},
        {**good, "AttestationDocument": "AA-_"}, {**good, "AttestationDocument": 7},
        {**good, "KeyEncryptionAlgorithm": "rsaes_oaep_sha_256"},
        {**good, "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_1"}, {**good, "KeyEncryptionAlgorithm": ""},
        {**good, "KeyEncryptionAlgorithm": [ALGORITHM]},
        {"AttestationDocument": document}, {"KeyEncryptionAlgorithm": ALGORITHM},
        {**good, "Extra": 1}, {**good, "attestationDocument": document},
        {n.lower(): v for n, v in good.items()}, Members([*good.items(), ("AttestationDocument", "AA==")])])


def _random_other(rng, name):
    """A value for a member that the policy doesn't look at."""
    if chance(rng, .15):
        return rng.choice([*NOT_STRINGS, *VALUES, {"a": {"b": [1, {"c": None}]}}, Raw("1e5"), Raw("-0.0E-7"),
                           Raw("123456789012345678901234567890"), Raw("1" * 64)])
    if name in ("NumberOfBytes", "Limit", "PendingWindowInDays", "RotationPeriodInDays", "ValidTo"):
        return rng.randint(1, 1000)
    if name in ("DryRun", "BypassPolicyLockoutSafetyCheck", "MultiRegion"):
        return chance(rng, .5)
    if name in ("GrantTokens", "Operations", "Tags", "TagKeys", "DryRunModifiers"):
        return rng.sample(["a", "b", "c"], rng.randint(0, 3))
    return rng.choice(["AAAA", "x", *VALUES])


def _fit_key(rng, rule, region):
    if rule["keys"] == "any":
        return rng.choice([*IDS, *ALIASES, random_arn(rng, region), "any", "*", "\u00e9", "k" * 2048])
    here = [k.rpartition("/")[2] for k in rule["keys"] if f":{region}:" in k and ":key/" in k]
    if len(model.accounts(rule["keys"])) > 1 and chance(rng, .9):
        here = []
    return rng.choice(rule["keys"] + here)


def _fit_context(rng, rule):
    wanted = rule.get("encryption_context", {})
    context = {n: rng.choice(v) if isinstance(v, list) else v for n, v in wanted.items()}
    for name in rng.sample(NAMES, rng.choice([0, 0, 1, 3])):
        context.setdefault(name, rng.choice(VALUES))
    return Members(rng.sample(list(context.items()), len(context)))


def _fit(rng, config, rule, action, endpoint):
    """Members that the rule allows."""
    members = {}
    for name in model.key_members(action):
        may_lack = rule.get("missing_key") == "add" and name == model.implied_key(action)
        if rule["keys"] != "any" and not may_lack or chance(rng, .4 if may_lack else .8):
            members[name] = _fit_key(rng, rule, config["endpoints"][endpoint]["region"])
    for name in model.context_members(action):
        if "encryption_context" in rule or chance(rng, .4):
            members[name] = _fit_context(rng, rule)
    if model.takes_recipient(action) and (rule.get("plaintext") != "allow" or chance(rng, .3)):
        members["Recipient"] = good_recipient(rng)
    tokens = model.token_members(action) if rule["keys"] != "any" else []
    for name in sorted(model.own_members(action) - members.keys() - set(model.LOOKED_AT) - set(tokens)):
        if chance(rng, .3):
            members[name] = _random_other(rng, name)
    for name in rule.get("extra_members", ()):
        if name not in members and chance(rng, .5):
            members[name] = good_recipient(rng) if name == "Recipient" else _random_other(rng, name)
    return members


# Changes. Each takes the members of a request and the rule that it fits.

def _other_key(rng, value):
    """One that is near."""
    text = value if isinstance(value, str) else "alias/a"
    parts = text.split(":")
    near = [text.upper(), text + " ", " " + text, text[:-1], text + "x", text.rpartition("/")[2],
            text.rpartition(":")[2], "key/" + text, "alias/" + text, "", "*", "alias/*", "any",
            text.replace("alias/", "Alias/"), text + "\0", text + "\u0301"]
    if len(parts) == 6:
        near += [":".join([*parts[:3], "us-west-2", *parts[4:]]), ":".join([*parts[:4], "000000000000", parts[5]]),
                 ":".join([parts[0], "aws-x", *parts[2:]]), text.replace(":key/", ":alias/")]
    return rng.choice(near + IDS + ALIASES)


def change_key(rng, members, rule, action):
    names = [n for n in model.key_members(action) if n in members]
    if names:
        name = rng.choice(names)
        members[name] = _other_key(rng, members[name]) if chance(rng, .85) else rng.choice(NOT_STRINGS)


def drop_key(rng, members, rule, action):
    for name in model.key_members(action):
        if chance(rng, .7):
            members.pop(name, None)


def swap_keys(rng, members, rule, action):
    names = [n for n in model.key_members(action) if n in members]
    if len(names) == 2:
        members[names[0]], members[names[1]] = members[names[1]], members[names[0]]
    else:
        change_key(rng, members, rule, action)


def _change_pairs(rng, pairs):
    kind = rng.randrange(6)
    if not pairs or kind == 0:
        return Members([*pairs, (rng.choice(NAMES), rng.choice(VALUES))])      # perhaps there already
    i = rng.randrange(len(pairs))
    name, value = pairs[i]
    changed = {
        1: [], 2: [(name, rng.choice(VALUES))],
        3: [(rng.choice([name.upper(), name + " ", name + "\0", *NAMES]), value)],
        4: [(name, rng.choice([f"{value} ", f"{value}\0", f"x{value}", value]))],
        5: [(name, rng.choice(NOT_STRINGS))]}[kind]
    return Members([*pairs[:i], *changed, *pairs[i + 1:]])


def change_context(rng, members, rule, action):
    names = model.context_members(action)
    if not names:
        return
    name = rng.choice(names)
    value = members.get(name, Members())
    kind = rng.randrange(8)
    if kind == 0:
        members.pop(name, None)
    elif kind == 1:
        members[name] = rng.choice([*NOT_STRINGS, "app", Members()])
    elif isinstance(value, Members):
        members[name] = _change_pairs(rng, value)


def change_recipient(rng, members, rule, action):
    if model.takes_recipient(action):
        if chance(rng, .3):
            members.pop("Recipient", None)
        else:
            members["Recipient"] = bad_recipient(rng)


def add_unknown(rng, members, rule, action):
    name = rng.choice([*sorted(model.own_members(action)), *EXTRA_MEMBERS, "KeyId", "EncryptionContext", "Plaintext"])
    name = rng.choice([name.lower(), name.upper(), name[:-1], name + "\0", " " + name, "", "Unknown", name,
                       "Recipient"])
    members.setdefault(name, good_recipient(rng) if name == "Recipient" else rng.choice(["alias/a", {}, None]))


def make_null(rng, members, rule, action):
    """null is not the same as absent, where the policy looks."""
    name = rng.choice(sorted(model.own_members(action)))
    members[name] = None


def add_token(rng, members, rule, action):
    members.setdefault(rng.choice(model.token_members(action)), rng.choice(["AAAA", "", None, 1]))


def _changes(action):
    """Those that have something to change, the more likely ones several times."""
    changes = [add_unknown, make_null]
    if model.token_members(action):
        changes += [add_token] * 6
    if model.key_members(action):
        changes += [change_key] * 6 + [drop_key, drop_key, swap_keys]
    if model.context_members(action):
        changes += [change_context] * 10
    if model.takes_recipient(action):
        changes += [change_recipient] * 8
    return changes


def _nested(depth):
    return Raw("[" * depth + "]" * depth)


def spoil_json(rng, members):
    """The body as bytes; some of what is done to it is no fault."""
    pairs = Members(members.items())
    if pairs and chance(rng, .3):                                   # a name twice
        name, value = rng.choice(pairs)
        pairs.insert(rng.randrange(len(pairs) + 1), (name, rng.choice([value, "alias/a", None])))
        return write_body(rng, pairs)
    free = [n for n in members if n not in model.LOOKED_AT]
    if free and chance(rng, .5):                                    # at the limits
        room = model.JSON_MEMBERS - len(members)
        members[rng.choice(free)] = rng.choice([
            _nested(model.JSON_DEPTH - 1), _nested(model.JSON_DEPTH), Raw("9" * 64), Raw("9" * 65),
            Raw("0." + "1" * 62), Raw("0." + "1" * 63), Raw("[" + ",".join("1" * max(room, 1)) + "]"),
            Raw("[" + ",".join("1" * (room + 9)) + "]"), Raw("01"), Raw("+1"), Raw(".5"), Raw("1."), Raw("NaN"),
            Raw("Infinity"), Raw("'x'"), Raw("TRUE"), Raw('"\\ud800"'), Raw('"\\udc00\\ud800"'), Raw('"\\udc00\\udc00"'),
            Raw('"\\x41"'), Raw('"\\u00e"'), Raw('"\t"'), Raw('"\x00"'), Raw('"\x7f"'), Raw('"\\u0000"'), Raw('{"a\\u0000b":1}'),
            Raw('{"a":1,"\\u0061":2}'), Raw("[1,]"), Raw("{,}"), Raw("")])
        return write_body(rng, members)
    body = write_body(rng, members)
    cut = rng.randrange(len(body) + 1)
    return rng.choice([
        b"", b"null", b"[]", b'"x"', b"[" + body + b"]", body[:cut], body + b"}", body + b" \n", body + b"\0",
        body + body, b"\xef\xbb\xbf" + body, b" \t" + body, body.replace(b":", b"=", 1), body.replace(b'"', b"'"),
        body.replace(b"{", b"{/**/", 1), body[:cut] + rng.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80"]) + body[cut:],
        body[:cut] + b"\0" + body[cut:], body.decode("utf-8", "replace").encode("utf-16")])


def _random_host(rng, config, enclave, endpoint):
    """A Host for an endpoint, or now and then for none."""
    own = config["enclaves"][enclave].get("endpoints", [])
    if chance(rng, .03):
        known = model.endpoint_host(rng.choice(list(config["endpoints"].values())))
        return rng.choice(["example.com", "localhost.example.com", known, "x" + known, known[:-1],
                           known + ".example.com", "kms.mars-north-1.amazonaws.com", "localhosts"])
    if not own or (endpoint == own[0] and chance(rng, .3)):
        return rng.choice(["localhost", "LocalHost:8000", "127.0.0.1", "10.0.0.1:1", "[::1]", "[fd00:ec2::254]:65535"])
    host = model.endpoint_host(config["endpoints"][endpoint])
    return rng.choice([host, host, host.upper(), host + ":443", host.title() + ":8000"])


def _random_action(rng, rule):
    if chance(rng, .003):
        return rng.choice(["decrypt", "DECRYPT", "Decryp", "Decryptt", "Unknown", "KMSDecrypt"])
    if chance(rng, .005):
        return rng.choice(EXTRA_ACTIONS)
    return rng.choice(ALL) if chance(rng, .04) else rng.choice(
        rule.get("actions", []) + rule.get("extra_actions", []))


def random_request(rng, config):
    enclave = rng.choice(list(config["enclaves"]))
    settings = config["enclaves"][enclave]
    rules = settings.get("allow")
    rule = rng.choice(rules) if rules else {"actions": ALL, "keys": "any"}
    endpoints = rule.get("endpoints") or settings.get("endpoints") or list(config["endpoints"])
    if chance(rng, .15):
        endpoints = settings.get("endpoints") or endpoints
    endpoint = rng.choice(endpoints)
    action = _random_action(rng, rule)
    host = _random_host(rng, config, enclave, endpoint)
    known = action if action in [*ALL, *EXTRA_ACTIONS] else "Decrypt"
    members = _fit(rng, config, rule, known, endpoint)
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        rng.choice(_changes(known))(rng, members, rule, known)
    members = dict(rng.sample(list(members.items()), len(members)))
    body = spoil_json(rng, members) if chance(rng, .05) else write_body(rng, members)
    return Request(enclave, host, action, body)
