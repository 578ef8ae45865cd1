# SPDX-License-Identifier: Apache-2.0
"""Reads and checks a request's body against the service model, as KMS's front end does: JSON,
types, base64, then required members, lengths, ranges, patterns and enumerations.

The model is botocore's own. Debian's is of 2022; NEWER adds what KMS has learned since.
Unknown members are ignored, as AWS JSON 1.1 does.
"""

import base64
import binascii
import json
import re

import botocore.loaders
from botocore.model import ServiceModel

from kms.errors import KmsError

TARGET_PREFIX = "TrentService."


def _s(name):
    return {"shape": name}


def _structure(required, **members):
    return {"type": "structure", "required": list(required),
            "members": {name: _s(shape) for name, shape in members.items()}}


_DRY_RUN = {"DryRun": "NullableBooleanType"}

# Members that the Debian model lacks, by action.
NEWER_MEMBERS = {
    **{action: _DRY_RUN for action in (
        "Encrypt", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPairWithoutPlaintext",
        "GenerateMac", "RetireGrant", "RevokeGrant", "Sign", "Verify", "VerifyMac")},
    "Decrypt": {**_DRY_RUN, "Recipient": "RecipientInfo", "DryRunModifiers": "DryRunModifierList"},
    "GenerateDataKey": {**_DRY_RUN, "Recipient": "RecipientInfo"},
    "GenerateDataKeyPair": {**_DRY_RUN, "Recipient": "RecipientInfo"},
    "GenerateRandom": {"Recipient": "RecipientInfo"},
    "ReEncrypt": {**_DRY_RUN, "DryRunModifiers": "DryRunModifierList"},
    "CreateGrant": {**_DRY_RUN, "GranteeServicePrincipal": "PrincipalIdType",
                    "RetiringServicePrincipal": "PrincipalIdType"},
    "ListGrants": {"GranteeServicePrincipal": "PrincipalIdType"},
    "ListRetirableGrants": {"RetiringServicePrincipal": "PrincipalIdType"},
    "EnableKeyRotation": {"RotationPeriodInDays": "RotationPeriodType"},
    "DeleteImportedKeyMaterial": {"KeyMaterialId": "KeyMaterialIdType"},
    "ImportKeyMaterial": {"KeyMaterialId": "KeyMaterialIdType", "ImportType": "NewString",
                          "KeyMaterialDescription": "NewString"},
    "CreateCustomKeyStore": {"XksProxyVpcEndpointServiceOwner": "NewString"},
    "UpdateCustomKeyStore": {"XksProxyVpcEndpointServiceOwner": "NewString"},
}

# Actions that it lacks: their request.
NEWER_ACTIONS = {
    "DeriveSharedSecret": _structure(
        ("KeyId", "KeyAgreementAlgorithm", "PublicKey"), KeyId="KeyIdType",
        KeyAgreementAlgorithm="KeyAgreementAlgorithmSpec", PublicKey="PublicKeyType",
        GrantTokens="GrantTokenList", DryRun="NullableBooleanType", Recipient="RecipientInfo"),
    "Encapsulate": _structure(
        ("KeyId", "EncapsulationAlgorithm"), KeyId="KeyIdType", EncapsulationAlgorithm="NewString",
        GrantTokens="GrantTokenList", DryRun="NullableBooleanType"),
    "Decapsulate": _structure(
        ("KeyId", "SharedSecretCiphertextBlob", "EncapsulationAlgorithm"), KeyId="KeyIdType",
        SharedSecretCiphertextBlob="CiphertextType", EncapsulationAlgorithm="NewString",
        GrantTokens="GrantTokenList", DryRun="NullableBooleanType"),
    "GetKeyLastUsage": _structure(("KeyId",), KeyId="KeyIdType"),
    "ListKeyRotations": _structure(("KeyId",), KeyId="KeyIdType", IncludeKeyMaterial="NewString",
                                   Limit="LimitType", Marker="MarkerType"),
    "RotateKeyOnDemand": _structure(("KeyId",), KeyId="KeyIdType"),
}

NEWER_SHAPES = {
    "NewString": {"type": "string", "min": 1, "max": 4096},
    "KeyMaterialIdType": {"type": "string", "min": 64, "max": 64, "pattern": "^[a-f0-9]+$"},
    "RotationPeriodType": {"type": "integer", "min": 90, "max": 2560},
    "RecipientInfo": _structure((), KeyEncryptionAlgorithm="KeyEncryptionMechanism",
                                AttestationDocument="AttestationDocumentType"),
    "KeyEncryptionMechanism": {"type": "string", "enum": ["RSAES_OAEP_SHA_256"]},
    "AttestationDocumentType": {"type": "blob", "min": 1, "max": 262144},
    "KeyAgreementAlgorithmSpec": {"type": "string", "enum": ["ECDH"]},
    "DryRunModifierList": {"type": "list", "member": _s("DryRunModifierType"), "min": 0, "max": 10},
    "DryRunModifierType": {"type": "string", "enum": ["IGNORE_CIPHERTEXT"]},
}

NO_LONGER_REQUIRED = (
    ("Decrypt", "CiphertextBlob"), ("ReEncrypt", "CiphertextBlob"),
    ("CreateGrant", "GranteePrincipal"), ("ListRetirableGrants", "RetiringPrincipal"),
    ("GetKeyPolicy", "PolicyName"), ("PutKeyPolicy", "PolicyName"))


def _load():
    model = botocore.loaders.Loader().load_service_model("kms", "service-2")
    shapes, operations = model["shapes"], model["operations"]
    for name, shape in NEWER_SHAPES.items():
        shapes.setdefault(name, shape)
    for action, shape in NEWER_ACTIONS.items():
        shapes.setdefault(action + "Request", shape)
        operations.setdefault(action, {"name": action, "input": _s(action + "Request"),
                                       "http": {"method": "POST", "requestUri": "/"}})
    for action, members in NEWER_MEMBERS.items():
        known = shapes[operations[action]["input"]["shape"]]["members"]
        for name, shape in members.items():
            known.setdefault(name, _s(shape))
    for action, name in NO_LONGER_REQUIRED:
        shape = shapes[operations[action]["input"]["shape"]]
        shape["required"] = [n for n in shape["required"] if n != name]
    usages = shapes["KeyUsageType"]["enum"]
    usages += [u for u in ("KEY_AGREEMENT",) if u not in usages]
    return ServiceModel(model, "kms")


MODEL = _load()
ACTIONS = frozenset(MODEL.operation_names)
_INPUTS = {action: MODEL.operation_model(action).input_shape for action in ACTIONS}


def _serialization(message=None):
    return KmsError("SerializationException", message)


def _no_constant(text):
    raise ValueError(f"{text} isn't JSON")


def parse(body):
    """The JSON value of a body; an empty body is an empty object, as AWS takes it."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant) if body else {}
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()      # no lone surrogates
        return value
    except (ValueError, RecursionError):
        raise _serialization() from None


def check(action, value):
    """The parameters of an action from its parsed body, blobs decoded; raises KmsError."""
    problems = []
    params = _read(_INPUTS[action], value, "", problems)
    if problems:
        noun = "error" if len(problems) == 1 else "errors"
        raise KmsError("ValidationException",
                       f"{len(problems)} validation {noun} detected: {'; '.join(problems)}")
    return params


def _read(shape, value, path, problems):
    return _READERS[shape.type_name](shape, value, path, problems)


_JSON_NAMES = ((bool, "BOOLEAN_VALUE"), (int, "NUMBER_VALUE"), (float, "DECIMAL_VALUE"),
               (str, "STRING_VALUE"), (list, "START_ARRAY"), (dict, "START_OBJECT"))


def _mistyped(value, wanted):
    found = next((name for kind, name in _JSON_NAMES if isinstance(value, kind)), "NULL_VALUE")
    return _serialization(f"{found} can not be converted to {wanted}")


def _structure_of(shape, value, path, problems):
    if not isinstance(value, dict):
        raise _mistyped(value, "a structure")
    for name in shape.required_members:
        if value.get(name) is None:
            problems.append(f"Value null at '{_path(path, name)}' failed to satisfy constraint: "
                            "Member must not be null")
    return {name: _read(member, value[name], _path(path, name), problems)
            for name, member in shape.members.items() if value.get(name) is not None}


def _path(path, name):
    name = name[0].lower() + name[1:]
    return f"{path}.{name}" if path else name


def _list_of(shape, value, path, problems):
    if not isinstance(value, list):
        raise _mistyped(value, "a list")
    _check_length(shape, len(value), value, path, problems)
    return [_read(shape.member, v, f"{path}.{i + 1}.member", problems) for i, v in enumerate(value)]


def _map_of(shape, value, path, problems):
    if not isinstance(value, dict):
        raise _mistyped(value, "a map")
    _check_length(shape, len(value), value, path, problems)
    return {_read(shape.key, k, path, problems):
            _read(shape.value, v, f"{path}.{k}.member", problems)
            for k, v in value.items() if v is not None}


def _string(shape, value, path, problems):
    if not isinstance(value, str):
        raise _mistyped(value, "String")
    _check_length(shape, len(value), value, path, problems)
    pattern = shape.metadata.get("pattern")
    if pattern and not re.search(pattern, value):
        problems.append(f"{_at(shape, value, path)} failed to satisfy constraint: Member must "
                        f"satisfy regular expression pattern: {pattern}")
    allowed = shape.metadata.get("enum")
    if allowed and value not in allowed:
        problems.append(f"{_at(shape, value, path)} failed to satisfy constraint: Member must "
                        f"satisfy enum value set: [{', '.join(allowed)}]")
    return value


def _blob(shape, value, path, problems):
    if not isinstance(value, str):
        raise _mistyped(value, "Blob")
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise _serialization() from None
    _check_length(shape, len(data), value, path, problems)
    return data


def _integer(shape, value, path, problems):
    if isinstance(value, bool) or not isinstance(value, int):
        raise _mistyped(value, "Integer")
    for limit, wrong, words in (("min", lambda m: value < m, "greater than or equal to"),
                                ("max", lambda m: value > m, "less than or equal to")):
        if limit in shape.metadata and wrong(shape.metadata[limit]):
            problems.append(f"{_at(shape, value, path)} failed to satisfy constraint: Member must "
                            f"have value {words} {shape.metadata[limit]}")
    return value


def _boolean(_shape, value, _path_, _problems):
    if not isinstance(value, bool):
        raise _mistyped(value, "Boolean")
    return value


def _timestamp(_shape, value, _path_, _problems):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _mistyped(value, "Timestamp")
    return value


def _at(shape, value, path):
    secret = shape.type_name == "blob" or shape.metadata.get("sensitive")
    return f"Value at '{path}'" if secret else f"Value '{value}' at '{path}'"


def _check_length(shape, length, value, path, problems):
    for limit, wrong, words in (("min", lambda m: length < m, "greater than or equal to"),
                                ("max", lambda m: length > m, "less than or equal to")):
        if limit in shape.metadata and wrong(shape.metadata[limit]):
            problems.append(f"{_at(shape, value, path)} failed to satisfy constraint: Member must "
                            f"have length {words} {shape.metadata[limit]}")


_READERS = {"structure": _structure_of, "list": _list_of, "map": _map_of, "string": _string,
            "blob": _blob, "integer": _integer, "long": _integer, "boolean": _boolean,
            "timestamp": _timestamp}
