# SPDX-License-Identifier: Apache-2.0
"""What a request may do, worked out a second time: the policy as kms-vsock-proxy.yaml(5) tells it,
and the members of KMS's requests as the AWS API reference does. It was written from these two
alone, without a look at the daemon, so that what both say is worth something.

    decide(config, "payments", "Decrypt", body, host="localhost")
        -> Judgement(reason="key", rule="unwrap", endpoint="kms", ...)

The configuration is the file's as a Python dict, and must be one that the daemon takes. A man
page that leaves open what to do here has a defect.
"""

import collections
import ipaddress
import json
import re

# The members of each action's request.
_MEMBERS = """
CancelKeyDeletion KeyId
ConnectCustomKeyStore CustomKeyStoreId
CreateAlias AliasName TargetKeyId
CreateCustomKeyStore CustomKeyStoreName CloudHsmClusterId TrustAnchorCertificate KeyStorePassword CustomKeyStoreType XksProxyUriEndpoint XksProxyUriPath XksProxyVpcEndpointServiceName XksProxyVpcEndpointServiceOwner XksProxyAuthenticationCredential XksProxyConnectivity
CreateGrant KeyId Operations GranteePrincipal RetiringPrincipal Constraints GrantTokens Name DryRun GranteeServicePrincipal RetiringServicePrincipal
CreateKey Policy Description KeyUsage CustomerMasterKeySpec KeySpec Origin CustomKeyStoreId BypassPolicyLockoutSafetyCheck Tags MultiRegion XksKeyId
Decapsulate KeyId SharedSecretCiphertextBlob EncapsulationAlgorithm GrantTokens DryRun
Decrypt CiphertextBlob EncryptionContext GrantTokens KeyId EncryptionAlgorithm Recipient DryRun DryRunModifiers
DeleteAlias AliasName
DeleteCustomKeyStore CustomKeyStoreId
DeleteImportedKeyMaterial KeyId KeyMaterialId
DeriveSharedSecret KeyId KeyAgreementAlgorithm PublicKey GrantTokens DryRun Recipient
DescribeCustomKeyStores CustomKeyStoreId CustomKeyStoreName Limit Marker
DescribeKey KeyId GrantTokens
DisableKey KeyId
DisableKeyRotation KeyId
DisconnectCustomKeyStore CustomKeyStoreId
EnableKey KeyId
EnableKeyRotation KeyId RotationPeriodInDays
Encapsulate KeyId EncapsulationAlgorithm GrantTokens DryRun
Encrypt KeyId Plaintext EncryptionContext GrantTokens EncryptionAlgorithm DryRun
GenerateDataKey KeyId EncryptionContext NumberOfBytes KeySpec GrantTokens Recipient DryRun
GenerateDataKeyPair KeyId KeyPairSpec EncryptionContext GrantTokens Recipient DryRun
GenerateDataKeyPairWithoutPlaintext KeyId KeyPairSpec EncryptionContext GrantTokens DryRun
GenerateDataKeyWithoutPlaintext KeyId EncryptionContext KeySpec NumberOfBytes GrantTokens DryRun
GenerateMac Message KeyId MacAlgorithm GrantTokens DryRun
GenerateRandom NumberOfBytes CustomKeyStoreId Recipient
GetKeyLastUsage KeyId
GetKeyPolicy KeyId PolicyName
GetKeyRotationStatus KeyId
GetParametersForImport KeyId WrappingAlgorithm WrappingKeySpec
GetPublicKey KeyId GrantTokens
ImportKeyMaterial KeyId ImportToken EncryptedKeyMaterial ValidTo ExpirationModel ImportType KeyMaterialDescription KeyMaterialId
ListAliases KeyId Limit Marker
ListGrants KeyId Limit Marker GrantId GranteePrincipal GranteeServicePrincipal
ListKeyPolicies KeyId Limit Marker
ListKeyRotations KeyId IncludeKeyMaterial Limit Marker
ListKeys Limit Marker
ListResourceTags KeyId Limit Marker
ListRetirableGrants Limit Marker RetiringPrincipal RetiringServicePrincipal
PutKeyPolicy KeyId Policy PolicyName BypassPolicyLockoutSafetyCheck
ReEncrypt DestinationKeyId CiphertextBlob SourceEncryptionContext SourceKeyId DestinationEncryptionContext SourceEncryptionAlgorithm DestinationEncryptionAlgorithm GrantTokens DryRun DryRunModifiers
ReplicateKey KeyId ReplicaRegion Policy BypassPolicyLockoutSafetyCheck Description Tags
RetireGrant GrantToken KeyId GrantId DryRun
RevokeGrant KeyId GrantId DryRun
RotateKeyOnDemand KeyId
ScheduleKeyDeletion KeyId PendingWindowInDays
Sign KeyId Message SigningAlgorithm MessageType GrantTokens DryRun
TagResource KeyId Tags
UntagResource KeyId TagKeys
UpdateAlias AliasName TargetKeyId
UpdateCustomKeyStore CustomKeyStoreId NewCustomKeyStoreName KeyStorePassword CloudHsmClusterId XksProxyUriEndpoint XksProxyUriPath XksProxyVpcEndpointServiceName XksProxyVpcEndpointServiceOwner XksProxyAuthenticationCredential XksProxyConnectivity
UpdateKeyDescription KeyId Description
UpdatePrimaryRegion KeyId PrimaryRegion
Verify KeyId Message Signature SigningAlgorithm MessageType GrantTokens DryRun
VerifyMac Message KeyId MacAlgorithm Mac GrantTokens DryRun
"""
ACTIONS = {name: frozenset(members) for name, *members in map(str.split, _MEMBERS.split("\n")[1:-1])}

# The types of members that are no text.
_TYPES = {
    **dict.fromkeys(("GrantTokens", "Operations", "Tags", "TagKeys", "DryRunModifiers"), list),
    **dict.fromkeys(("DryRun", "BypassPolicyLockoutSafetyCheck", "MultiRegion",
                     "IncludeKeyMaterial"), bool),
    **dict.fromkeys(("NumberOfBytes", "Limit", "PendingWindowInDays", "RotationPeriodInDays",
                     "ValidTo"), float),
    **dict.fromkeys(("EncryptionContext", "SourceEncryptionContext", "DestinationEncryptionContext",
                     "Recipient", "Constraints", "XksProxyAuthenticationCredential"), dict),
}

_KEY_MEMBERS = ("AliasName", "SourceKeyId", "DestinationKeyId", "TargetKeyId", "KeyId")
_CONTEXT_MEMBERS = ("EncryptionContext", "SourceEncryptionContext", "DestinationEncryptionContext")
SECRET = frozenset(("Decapsulate", "Decrypt", "DeriveSharedSecret", "Encapsulate", "GenerateDataKey",
                    "GenerateDataKeyPair", "GenerateRandom"))


def key_members(action):
    return [name for name in _KEY_MEMBERS if name in ACTIONS[action]]


def context_members(action):
    return [name for name in _CONTEXT_MEMBERS if name in ACTIONS[action]]


def takes_recipient(action):
    return "Recipient" in ACTIONS[action]


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
    if len(members) != len(pairs):
        raise Refused("a name twice")
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


def read_json(body):
    """The members of a body of strict JSON, numbers as _Number; Refused for any other."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_unique, parse_int=_number,
                           parse_float=_number, parse_constant=_not_json)
        for text in _texts(value):
            text.encode()               # half of a surrogate pair can't be
    except (ValueError, RecursionError) as error:
        raise Refused(str(error)) from error
    if not isinstance(value, dict):
        raise Refused("no object")
    if _measure(value) > JSON_MEMBERS:
        raise Refused("many members")
    return value


def _has_type(value, kind):
    if isinstance(value, _Number):
        return kind is float
    return isinstance(value, kind)


def _check_type(name, value):
    if not _has_type(value, _TYPES.get(name, str)):
        raise Refused(f"the type of {name}")
    if name in _CONTEXT_MEMBERS and not all(_has_type(one, str) for one in value.values()):
        raise Refused(f"{name} has more than text")


def read_body(action, body):
    """The members of a body that the action may have."""
    members = read_json(body)
    for name, value in members.items():
        if name not in ACTIONS[action]:
            raise Refused(f"{name} is no member")
        _check_type(name, value)
    return members


_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def _recipient_present(members):
    recipient = members.get("Recipient", {})
    document = recipient.get("AttestationDocument")
    if recipient.get("KeyEncryptionAlgorithm") != "RSAES_OAEP_SHA_256" or not isinstance(document, str):
        return False
    size = len(document) // 4 * 3 - document.count("=")
    return bool(_BASE64.fullmatch(document)) and 1 <= size <= ATTESTATION


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
    "members",      # the body's, numbers as text; None where it was refused
    "recipient"])   # whether the request shows an attestation document

_STAGES = ("endpoint", "action", "key", "encryption-context", "recipient")


def _key_allowed(value, keys, region):
    if value in keys:
        return True
    for entry in keys:
        parts = entry.split(":")
        if len(parts) == 6 and parts[3] == region and parts[5].partition("/")[::2] == ("key", value):
            return True
    return False


def _keys_hold(rule, action, members, region):
    if rule["keys"] == "any":
        return True
    names = key_members(action)
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
    return (rule.get("plaintext", "refuse") == "allow" or action not in SECRET
            or takes_recipient(action) and recipient)


def _failed_stage(config, rule, endpoint, action, members, recipient, all_endpoints):
    """The index in _STAGES of what the rule lacks, or None."""
    holds = (
        endpoint in rule.get("endpoints", all_endpoints),
        action in rule["actions"],
        _keys_hold(rule, action, members, config["endpoints"][endpoint]["region"]),
        _context_holds(rule, action, members),
        _recipient_holds(rule, action, recipient))
    return next((i for i, one in enumerate(holds) if not one), None)


def decide(config, enclave, action, body, host="localhost"):
    if action not in ACTIONS:
        return Judgement("unknown-action", None, None, None, False)
    try:
        members = read_body(action, body)
    except Refused:
        return Judgement("json", None, None, None, False)
    recipient = _recipient_present(members)
    endpoint = pick_endpoint(config, enclave, host)
    if endpoint is None:
        return Judgement("host", None, None, members, recipient)

    nearest = (-1, None)
    settings = config["enclaves"][enclave]
    for rule in settings.get("allow", []):
        failed = _failed_stage(config, rule, endpoint, action, members, recipient,
                               settings["endpoints"])
        if failed is None:
            return Judgement("allowed", rule["name"], endpoint, members, recipient)
        if failed > nearest[0]:
            nearest = (failed, rule["name"])
    reason = _STAGES[nearest[0]] if nearest[1] else "no-rules"
    return Judgement(reason, nearest[1], endpoint, members, recipient)
