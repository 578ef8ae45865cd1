# SPDX-License-Identifier: Apache-2.0
"""The KMS actions about keys, aliases, tags and grants."""

import base64
import json
import secrets

from kms.call import action
from kms.errors import KmsError, validation

DAY = 24 * 3600


def _metadata(key):
    member, algorithms = key.algorithms()
    found = {
        "AWSAccountId": key.account, "KeyId": key.id, "Arn": key.arn, "CreationDate": key.created,
        "Enabled": key.state == "Enabled", "Description": key.description, "KeyUsage": key.usage,
        "KeyState": key.state, "Origin": "AWS_KMS", "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": key.spec, "KeySpec": key.spec, member: algorithms,
        "MultiRegion": key.id.startswith("mrk-"),
    }
    if key.deletion:
        found["DeletionDate"] = key.deletion
    return found


def _page(call, member, items):
    """A page of a list; the marker is the index of the next item."""
    limit = call.p.get("Limit", 100)
    try:
        start = int(base64.b64decode(call.p["Marker"])) if "Marker" in call.p else 0
    except ValueError:
        raise KmsError("InvalidMarkerException", "Could not deserialize marker") from None
    answer = {member: items[start:start + limit], "Truncated": start + limit < len(items)}
    if answer["Truncated"]:
        answer["NextMarker"] = base64.b64encode(str(start + limit).encode()).decode()
    return answer


# Keys.

@action
def CreateKey(call):
    p = call.p
    spec = p.get("KeySpec") or p.get("CustomerMasterKeySpec") or "SYMMETRIC_DEFAULT"
    if spec.startswith(("RSA", "ECC")) and "KeyUsage" not in p:
        raise validation("You must specify a KeyUsage value for an asymmetric CMK.")
    if p.get("Origin", "AWS_KMS") != "AWS_KMS":
        raise KmsError("UnsupportedOperationException", "Only Origin AWS_KMS is supported here.")
    key = call.keys.add(
        id="mrk-" + secrets.token_hex(16) if p.get("MultiRegion") else None, spec=spec,
        usage=p.get("KeyUsage"), region=call.region, description=p.get("Description", ""),
        policy=p.get("Policy"), tags={t["TagKey"]: t["TagValue"] for t in p.get("Tags", ())},
        created=call.kms.clock())
    return {"KeyMetadata": _metadata(key)}


@action
def DescribeKey(call):
    return {"KeyMetadata": _metadata(call.key(usable=False))}


@action
def ListKeys(call):
    keys = call.keys.keys(call.region)
    return _page(call, "Keys", [{"KeyId": k.id, "KeyArn": k.arn} for k in keys])


@action
def EnableKey(call):
    _not_pending(call).state = "Enabled"


@action
def DisableKey(call):
    _not_pending(call).state = "Disabled"


def _not_pending(call):
    key = call.key(usable=False, aliases=False)
    if key.state == "PendingDeletion":
        raise KmsError("KMSInvalidStateException", f"{key.arn} is pending deletion.")
    return key


@action
def ScheduleKeyDeletion(call):
    key, days = _not_pending(call), call.p.get("PendingWindowInDays", 30)
    if not 7 <= days <= 30:
        raise validation("PendingWindowInDays must be between 7 and 30")
    key.state, key.deletion = "PendingDeletion", call.kms.clock() + days * DAY
    return {"KeyId": key.arn, "DeletionDate": key.deletion, "KeyState": key.state,
            "PendingWindowInDays": days}


@action
def CancelKeyDeletion(call):
    key = call.key(usable=False, aliases=False)
    if key.state != "PendingDeletion":
        raise KmsError("KMSInvalidStateException", f"{key.arn} is not pending deletion.")
    key.state, key.deletion = "Disabled", None
    return {"KeyId": key.arn}


@action
def UpdateKeyDescription(call):
    call.key(aliases=False).description = call.p["Description"]


@action
def GetKeyRotationStatus(call):
    key = call.key(usable=False, aliases=False)
    return {"KeyId": key.arn, "KeyRotationEnabled": key.rotation}


@action
def EnableKeyRotation(call):
    _rotatable(call).rotation = True


@action
def DisableKeyRotation(call):
    _rotatable(call).rotation = False


def _rotatable(call):
    key = call.key(aliases=False)
    if key.spec != "SYMMETRIC_DEFAULT":
        raise KmsError("UnsupportedOperationException")
    return key


@action
def GetKeyPolicy(call):
    key = call.key(usable=False, aliases=False)
    if call.p.get("PolicyName", "default") != "default":
        raise KmsError("NotFoundException", "No such policy exists")
    default = {"Version": "2012-10-17", "Id": "key-default-1", "Statement": [{
        "Sid": "Enable IAM User Permissions", "Effect": "Allow",
        "Principal": {"AWS": f"arn:{call.keys.partition}:iam::{key.account}:root"},
        "Action": "kms:*", "Resource": "*"}]}
    return {"Policy": key.policy or json.dumps(default, indent=2), "PolicyName": "default"}


@action
def PutKeyPolicy(call):
    key = call.key(usable=False, aliases=False)
    try:
        json.loads(call.p["Policy"])
    except ValueError:
        raise KmsError("MalformedPolicyDocumentException", "Policy contains invalid json") from None
    key.policy = call.p["Policy"]


@action
def ListKeyPolicies(call):
    call.key(usable=False, aliases=False)
    return _page(call, "PolicyNames", ["default"])


# Aliases.

def _alias_name(call):
    name = call.p["AliasName"]
    if not name.startswith("alias/") or name == "alias/":
        raise KmsError("ValidationException", "Alias must start with the prefix \"alias/\". "
                       "Please see https://docs.aws.amazon.com/kms/latest/developerguide/"
                       "kms-alias.html")
    if name.startswith("alias/aws/"):
        raise KmsError("NotAuthorizedException")
    return name


@action
def CreateAlias(call):
    name, key = _alias_name(call), call.key("TargetKeyId", aliases=False)
    if name in call.keys.aliases(call.region):
        raise KmsError("AlreadyExistsException", "An alias with the name "
                       f"{call.keys.arn(call.region, name)} already exists")
    call.keys.set_alias(call.region, name, key)


@action
def UpdateAlias(call):
    name, key = _alias_name(call), call.key("TargetKeyId", aliases=False)
    call.keys.find(call.region, name, call.action)
    call.keys.set_alias(call.region, name, key)


@action
def DeleteAlias(call):
    call.keys.delete_alias(call.region, _alias_name(call))


@action
def ListAliases(call):
    wanted = call.key(usable=False, aliases=False).id if "KeyId" in call.p else None
    return _page(call, "Aliases", [
        {"AliasName": name, "AliasArn": call.keys.arn(call.region, name), "TargetKeyId": id}
        for name, id in sorted(call.keys.aliases(call.region).items()) if wanted in (None, id)])


# Tags and grants.

@action
def TagResource(call):
    call.key(usable=False, aliases=False).tags.update(
        {t["TagKey"]: t["TagValue"] for t in call.p["Tags"]})


@action
def UntagResource(call):
    key = call.key(usable=False, aliases=False)
    for name in call.p["TagKeys"]:
        key.tags.pop(name, None)


@action
def ListResourceTags(call):
    key = call.key(usable=False, aliases=False)
    return _page(call, "Tags", [{"TagKey": k, "TagValue": v} for k, v in key.tags.items()])


@action
def CreateGrant(call):
    key, p = call.key(aliases=False), call.p
    if "GranteePrincipal" not in p:
        raise validation("GranteePrincipal is required.")
    call.dry_run()
    same = [g for g in key.grants.values() if p.get("Name") and g.get("Name") == p["Name"]]
    grant = same[0] if same else {
        "KeyId": key.arn, "GrantId": secrets.token_hex(32), "CreationDate": call.kms.clock(),
        "IssuingAccount": f"arn:{call.keys.partition}:iam::{key.account}:root",
        **{n: p[n] for n in ("Name", "GranteePrincipal", "RetiringPrincipal", "Operations",
                             "Constraints") if n in p}}
    key.grants[grant["GrantId"]] = grant
    return {"GrantId": grant["GrantId"], "GrantToken": _grant_token(grant)}


def _grant_token(grant):
    return base64.b64encode(b"grant:" + grant["GrantId"].encode()).decode()


@action
def ListGrants(call):
    key, p = call.key(aliases=False), call.p
    return _page(call, "Grants", [
        g for g in key.grants.values()
        if p.get("GrantId", g["GrantId"]) == g["GrantId"]
        and p.get("GranteePrincipal", g["GranteePrincipal"]) == g["GranteePrincipal"]])


@action
def ListRetirableGrants(call):
    return _page(call, "Grants", [
        g for k in call.keys.keys(call.region) for g in k.grants.values()
        if g.get("RetiringPrincipal") == call.p.get("RetiringPrincipal")])


@action
def RevokeGrant(call):
    key = call.key(aliases=False)
    if call.p["GrantId"] not in key.grants:
        raise KmsError("NotFoundException", f"Grant {call.p['GrantId']} does not exist")
    call.dry_run()
    del key.grants[call.p["GrantId"]]


@action
def RetireGrant(call):
    p = call.p
    if ("GrantToken" in p) == ("GrantId" in p and "KeyId" in p):
        raise validation("Specify either a grant token, or a key and a grant id")
    for key in call.keys.keys(call.region):
        for grant in list(key.grants.values()):
            if p.get("GrantToken") == _grant_token(grant) or (
                    p.get("GrantId") == grant["GrantId"] and p.get("KeyId") in (key.arn, key.id)):
                call.dry_run()
                del key.grants[grant["GrantId"]]
                return
    raise KmsError("InvalidGrantTokenException" if "GrantToken" in p else "NotFoundException")
