# SPDX-License-Identifier: Apache-2.0
"""What each KMS action does. A row of ACTIONS is a function of a Call that returns the members
of the answer (bytes become base64), or None for an answer with an empty body.
"""

import base64
import dataclasses
import hmac
import json
import os
import secrets

import attestation
import cms
from kms_errors import KmsError, validation
from kms_keys import CIPHERTEXT_MAX, RSA_SIZES, generate_pair, private_der, public_der

ACTIONS = {}
DATA_KEY_SIZES = {"AES_256": 32, "AES_128": 16}
DAY = 24 * 3600


@dataclasses.dataclass
class Call:
    """One request after its signature and its body were checked."""

    kms: object         # the LocalKms: keys, clock, attestation settings
    region: str
    action: str
    p: dict             # its parameters

    @property
    def keys(self):
        return self.kms.keys

    def key(self, member="KeyId", usage=None, usable=True, aliases=True):
        """The key that a member names; usable: refused when it is disabled or about to go."""
        key = self.keys.find(self.region, self.p[member], self.action, aliases)
        return self.require(key, usage, usable)

    def require(self, key, usage=None, usable=True):
        if usable and key.state == "Disabled":
            raise KmsError("DisabledException", f"{key.arn} is disabled.")
        if usable and key.state != "Enabled":
            raise KmsError("KMSInvalidStateException", f"{key.arn} is pending deletion.")
        if usage and key.usage != usage:
            raise KmsError("InvalidKeyUsageException", f"{key.arn} key usage is {key.usage} which "
                           f"is not valid for {self.action}.")
        return key

    def symmetric(self, member="KeyId"):
        key = self.key(member, "ENCRYPT_DECRYPT")
        if key.spec != "SYMMETRIC_DEFAULT":
            raise KmsError("InvalidKeyUsageException",
                           f"{key.arn} key spec is {key.spec} which is not valid for {self.action}.")
        return key

    def dry_run(self):
        """To be called when nothing can go wrong any more."""
        if self.p.get("DryRun"):
            raise KmsError("DryRunOperationException",
                           "The request would have succeeded, but the DryRun option is set.")

    def secret(self, member, plaintext):
        """A secret of the answer: in clear, or to the recipient's public key alone."""
        recipient = self.p.get("Recipient")
        if recipient is None:
            return {member: plaintext}
        return {"CiphertextForRecipient": cms.seal(self._recipient_key(recipient), plaintext)}

    def _recipient_key(self, recipient):
        if "AttestationDocument" not in recipient or "KeyEncryptionAlgorithm" not in recipient:
            raise validation("Recipient needs AttestationDocument and KeyEncryptionAlgorithm")
        try:
            document = attestation.parse(recipient["AttestationDocument"])
            if self.kms.attestation_root is not None:
                now = self.kms.clock()
                if self.kms.attestation_time == "document":
                    now = document.timestamp / 1000
                attestation.verify(document, self.kms.attestation_root, now)
            return document.rsa_public_key()
        except attestation.AttestationError as error:
            raise validation(f"The attestation document is invalid: {error}") from None


def action(function):
    ACTIONS[function.__name__] = function
    return function


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


# Encryption.

@action
def Encrypt(call):
    key, p = call.key(usage="ENCRYPT_DECRYPT"), call.p
    algorithm = p.get("EncryptionAlgorithm", "SYMMETRIC_DEFAULT")
    blob = _encrypt(key, p["Plaintext"], p.get("EncryptionContext"), algorithm)
    call.dry_run()
    return {"CiphertextBlob": blob, "KeyId": key.arn, "EncryptionAlgorithm": algorithm}


def _encrypt(key, plaintext, context, algorithm):
    key.require_algorithm(algorithm)
    if key.spec == "SYMMETRIC_DEFAULT":
        return key.seal(plaintext, context)
    if context:
        raise validation("EncryptionContext is not supported with an asymmetric key")
    return key.rsa_encrypt(plaintext, algorithm)


def _decrypt(call, blob, key_member, context, algorithm):
    """The key and the plaintext, for Decrypt and ReEncrypt."""
    if algorithm != "SYMMETRIC_DEFAULT":
        if key_member not in call.p:
            raise validation(f"{key_member} is required with an asymmetric key")
        key = call.key(key_member, "ENCRYPT_DECRYPT")
        if key.spec not in RSA_SIZES:
            raise KmsError("InvalidKeyUsageException", f"{algorithm} needs an RSA key")
        return key, key.rsa_decrypt(blob, algorithm)
    named = call.key(key_member, "ENCRYPT_DECRYPT") if key_member in call.p else None
    if named is not None:
        named.require_algorithm(algorithm)
    key = call.keys.of_ciphertext(call.region, blob)
    if key is None:
        raise KmsError("InvalidCiphertextException")
    if named is not None and named is not key:
        raise KmsError("IncorrectKeyException", "The key ID in the request does not identify a "
                       "CMK that can perform this operation.")
    call.require(key, "ENCRYPT_DECRYPT")
    return key, key.unseal(blob, context)


@action
def Decrypt(call):
    p = call.p
    algorithm = p.get("EncryptionAlgorithm", "SYMMETRIC_DEFAULT")
    if "CiphertextBlob" not in p:
        if not p.get("DryRun") or "IGNORE_CIPHERTEXT" not in p.get("DryRunModifiers", ()) \
                or "KeyId" not in p:
            raise validation("1 validation error detected: Value null at 'ciphertextBlob' failed "
                             "to satisfy constraint: Member must not be null")
        call.key(usage="ENCRYPT_DECRYPT")
        call.dry_run()
    key, plaintext = _decrypt(call, p["CiphertextBlob"], "KeyId", p.get("EncryptionContext"), algorithm)
    answer = {"KeyId": key.arn, **call.secret("Plaintext", plaintext),
              "EncryptionAlgorithm": algorithm}
    call.dry_run()
    return answer


@action
def ReEncrypt(call):
    p = call.p
    if "CiphertextBlob" not in p:
        raise validation("1 validation error detected: Value null at 'ciphertextBlob' failed to "
                         "satisfy constraint: Member must not be null")
    source_algorithm = p.get("SourceEncryptionAlgorithm", "SYMMETRIC_DEFAULT")
    algorithm = p.get("DestinationEncryptionAlgorithm", "SYMMETRIC_DEFAULT")
    source, plaintext = _decrypt(call, p["CiphertextBlob"], "SourceKeyId",
                                 p.get("SourceEncryptionContext"), source_algorithm)
    key = call.key("DestinationKeyId", "ENCRYPT_DECRYPT")
    blob = _encrypt(key, plaintext, p.get("DestinationEncryptionContext"), algorithm)
    call.dry_run()
    return {"CiphertextBlob": blob, "SourceKeyId": source.arn, "KeyId": key.arn,
            "SourceEncryptionAlgorithm": source_algorithm,
            "DestinationEncryptionAlgorithm": algorithm}


def _data_key(call):
    key, p = call.symmetric(), call.p
    if ("NumberOfBytes" in p) == ("KeySpec" in p):
        raise validation("Please specify either number of bytes or key spec.")
    plaintext = os.urandom(p.get("NumberOfBytes") or DATA_KEY_SIZES[p["KeySpec"]])
    return plaintext, {"CiphertextBlob": key.seal(plaintext, p.get("EncryptionContext")),
                       "KeyId": key.arn}


@action
def GenerateDataKey(call):
    plaintext, answer = _data_key(call)
    answer.update(call.secret("Plaintext", plaintext))
    call.dry_run()
    return answer


@action
def GenerateDataKeyWithoutPlaintext(call):
    _, answer = _data_key(call)
    call.dry_run()
    return answer


def _data_key_pair(call):
    key, spec = call.symmetric(), call.p["KeyPairSpec"]
    if spec == "SM2":
        raise KmsError("UnsupportedOperationException", "SM2 is not supported here.")
    pair = generate_pair(spec)
    private = private_der(pair)
    return private, {
        "PrivateKeyCiphertextBlob": key.seal(private, call.p.get("EncryptionContext")),
        "PublicKey": public_der(pair), "KeyId": key.arn, "KeyPairSpec": spec}


@action
def GenerateDataKeyPair(call):
    private, answer = _data_key_pair(call)
    answer.update(call.secret("PrivateKeyPlaintext", private))
    call.dry_run()
    return answer


@action
def GenerateDataKeyPairWithoutPlaintext(call):
    _, answer = _data_key_pair(call)
    call.dry_run()
    return answer


@action
def GenerateRandom(call):
    if "CustomKeyStoreId" in call.p:
        raise KmsError("CustomKeyStoreNotFoundException")
    if "NumberOfBytes" not in call.p:
        raise validation("NumberOfBytes is required.")
    return call.secret("Plaintext", os.urandom(call.p["NumberOfBytes"]))


# Signatures, MACs, key agreement.

@action
def Sign(call):
    key, p = call.key(usage="SIGN_VERIFY"), call.p
    signature = key.sign(p["Message"], p["SigningAlgorithm"], p.get("MessageType", "RAW"))
    call.dry_run()
    return {"KeyId": key.arn, "Signature": signature, "SigningAlgorithm": p["SigningAlgorithm"]}


@action
def Verify(call):
    key, p = call.key(usage="SIGN_VERIFY"), call.p
    key.verify(p["Message"], p["Signature"], p["SigningAlgorithm"], p.get("MessageType", "RAW"))
    call.dry_run()
    return {"KeyId": key.arn, "SignatureValid": True, "SigningAlgorithm": p["SigningAlgorithm"]}


@action
def GetPublicKey(call):
    key = call.key()
    if isinstance(key.material, bytes):
        raise KmsError("UnsupportedOperationException", f"{key.arn} key spec is {key.spec} which "
                       "is not valid for GetPublicKey.")
    member, algorithms = key.algorithms()
    return {"KeyId": key.arn, "PublicKey": public_der(key.material), "CustomerMasterKeySpec": key.spec,
            "KeySpec": key.spec, "KeyUsage": key.usage, member: algorithms}


@action
def GenerateMac(call):
    key, p = call.key(usage="GENERATE_VERIFY_MAC"), call.p
    mac = key.mac(p["Message"], p["MacAlgorithm"])
    call.dry_run()
    return {"Mac": mac, "MacAlgorithm": p["MacAlgorithm"], "KeyId": key.arn}


@action
def VerifyMac(call):
    key, p = call.key(usage="GENERATE_VERIFY_MAC"), call.p
    if not hmac.compare_digest(key.mac(p["Message"], p["MacAlgorithm"]), p["Mac"]):
        raise KmsError("KMSInvalidMacException")
    call.dry_run()
    return {"KeyId": key.arn, "MacValid": True, "MacAlgorithm": p["MacAlgorithm"]}


@action
def DeriveSharedSecret(call):
    key = call.key(usage="KEY_AGREEMENT")
    answer = {"KeyId": key.arn, **call.secret("SharedSecret", key.agree(call.p["PublicKey"])),
              "KeyAgreementAlgorithm": "ECDH", "KeyOrigin": "AWS_KMS"}
    call.dry_run()
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
    return _page(call, "Keys", [{"KeyId": k.id, "KeyArn": k.arn} for k in call.keys.keys(call.region)])


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
    return {"Policy": key.policy or json.dumps({"Version": "2012-10-17", "Id": "key-default-1", "Statement": [{
        "Sid": "Enable IAM User Permissions", "Effect": "Allow",
        "Principal": {"AWS": f"arn:{call.keys.partition}:iam::{key.account}:root"},
        "Action": "kms:*", "Resource": "*"}]}, indent=2), "PolicyName": "default"}


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


def wire(answer):
    """The body of an answer: compact JSON, bytes as base64, times as seconds."""
    if answer is None:
        return b""
    if len(answer.get("CiphertextForRecipient") or b"") > CIPHERTEXT_MAX:
        raise KmsError("KMSInternalException", "CiphertextForRecipient too long")
    blobs = {n: base64.b64encode(v).decode() if isinstance(v, bytes) else v
             for n, v in answer.items()}
    return json.dumps(blobs, separators=(",", ":")).encode()
