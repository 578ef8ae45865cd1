# SPDX-License-Identifier: Apache-2.0
"""The KMS actions that do cryptography."""

import hmac
import os

from kms.call import action
from kms.errors import KmsError, validation
from kms.keys import RSA_SIZES, generate_pair, private_der, public_der

DATA_KEY_SIZES = {"AES_256": 32, "AES_128": 16}


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
    key, plaintext = _decrypt(call, p["CiphertextBlob"], "KeyId", p.get("EncryptionContext"),
                              algorithm)
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
    return {"KeyId": key.arn, "PublicKey": public_der(key.material),
            "CustomerMasterKeySpec": key.spec, "KeySpec": key.spec, "KeyUsage": key.usage,
            member: algorithms}


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
