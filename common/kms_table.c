/* SPDX-License-Identifier: Apache-2.0 */

/* The table of KMS actions: data. One row an action, in alphabetical order; the members as in
 * the Smithy schema of API version 2014-11-01 (tests/data/kms-actions.txt holds it, and a test
 * compares). */

#include "kms.h"

#include "limit.h"

#include <assert.h>
#include <string.h>

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NONE ((const char *const[]){NULL})
#define KEY_ID LIST("KeyId")
#define CONTEXT LIST("EncryptionContext")

/* name, members, keys, contexts, secrets of the reply, flags, and what few have */
static const struct kms_action actions[] = {
	{"CancelKeyDeletion", KEY_ID, KEY_ID, NONE, NONE, KMS_PRIVILEGE},
	{"ConnectCustomKeyStore", LIST("CustomKeyStoreId"), NONE, NONE, NONE, KMS_PRIVILEGE},
	{"CreateAlias", LIST("AliasName", "TargetKeyId"), LIST("AliasName", "TargetKeyId"),
	 NONE, NONE, KMS_LABEL},
	{"CreateCustomKeyStore",
	 LIST("CustomKeyStoreName", "CloudHsmClusterId", "TrustAnchorCertificate",
	      "KeyStorePassword", "CustomKeyStoreType", "XksProxyUriEndpoint",
	      "XksProxyUriPath", "XksProxyVpcEndpointServiceName",
	      "XksProxyVpcEndpointServiceOwner", "XksProxyAuthenticationCredential",
	      "XksProxyConnectivity"),
	 NONE, NONE, NONE, KMS_PRIVILEGE},
	{"CreateGrant",
	 LIST("KeyId", "Operations", "GranteePrincipal", "RetiringPrincipal", "Constraints",
	      "GrantTokens", "Name", "DryRun", "GranteeServicePrincipal",
	      "RetiringServicePrincipal"),
	 KEY_ID, NONE, NONE, KMS_DELEGATION,
	 .grantees = {"GranteePrincipal", "GranteeServicePrincipal"}},
	{"CreateKey",
	 LIST("Policy", "Description", "KeyUsage", "CustomerMasterKeySpec", "KeySpec", "Origin",
	      "CustomKeyStoreId", "BypassPolicyLockoutSafetyCheck", "Tags", "MultiRegion",
	      "XksKeyId"),
	 NONE, NONE, NONE, KMS_DELEGATION, .policy = "Policy"},
	{"Decapsulate",
	 LIST("KeyId", "SharedSecretCiphertextBlob", "EncapsulationAlgorithm", "GrantTokens",
	      "DryRun"),
	 KEY_ID, NONE, LIST("SharedSecret"), KMS_SECRET_REPLY | KMS_REPEATABLE},
	{"Decrypt",
	 LIST("CiphertextBlob", "EncryptionContext", "GrantTokens", "KeyId",
	      "EncryptionAlgorithm", "Recipient", "DryRun", "DryRunModifiers"),
	 KEY_ID, CONTEXT, LIST("Plaintext"),
	 KMS_RECIPIENT | KMS_SECRET_REPLY | KMS_REPEATABLE | KMS_KEY_IMPLIED},
	{"DeleteAlias", LIST("AliasName"), LIST("AliasName"), NONE, NONE,
	 KMS_DESTRUCTIVE | KMS_LABEL},
	{"DeleteCustomKeyStore", LIST("CustomKeyStoreId"), NONE, NONE, NONE, KMS_DESTRUCTIVE},
	{"DeleteImportedKeyMaterial", LIST("KeyId", "KeyMaterialId"), KEY_ID, NONE, NONE,
	 KMS_DESTRUCTIVE},
	{"DeriveSharedSecret",
	 LIST("KeyId", "KeyAgreementAlgorithm", "PublicKey", "GrantTokens", "DryRun",
	      "Recipient"),
	 KEY_ID, NONE, LIST("SharedSecret"), KMS_RECIPIENT | KMS_SECRET_REPLY | KMS_REPEATABLE},
	{"DescribeCustomKeyStores",
	 LIST("CustomKeyStoreId", "CustomKeyStoreName", "Limit", "Marker"), NONE, NONE, NONE,
	 KMS_REPEATABLE},
	{"DescribeKey", LIST("KeyId", "GrantTokens"), KEY_ID, NONE, NONE, KMS_REPEATABLE},
	{"DisableKey", KEY_ID, KEY_ID, NONE, NONE, KMS_DESTRUCTIVE},
	{"DisableKeyRotation", KEY_ID, KEY_ID, NONE, NONE, 0},
	{"DisconnectCustomKeyStore", LIST("CustomKeyStoreId"), NONE, NONE, NONE,
	 KMS_DESTRUCTIVE},
	{"EnableKey", KEY_ID, KEY_ID, NONE, NONE, KMS_PRIVILEGE},
	{"EnableKeyRotation", LIST("KeyId", "RotationPeriodInDays"), KEY_ID, NONE, NONE, 0},
	{"Encapsulate", LIST("KeyId", "EncapsulationAlgorithm", "GrantTokens", "DryRun"),
	 KEY_ID, NONE, LIST("SharedSecret"), KMS_SECRET_REPLY | KMS_REPEATABLE},
	{"Encrypt",
	 LIST("KeyId", "Plaintext", "EncryptionContext", "GrantTokens", "EncryptionAlgorithm",
	      "DryRun"),
	 KEY_ID, CONTEXT, NONE, KMS_REPEATABLE},
	{"GenerateDataKey",
	 LIST("KeyId", "EncryptionContext", "NumberOfBytes", "KeySpec", "GrantTokens",
	      "Recipient", "DryRun"),
	 KEY_ID, CONTEXT, LIST("Plaintext"), KMS_RECIPIENT | KMS_SECRET_REPLY | KMS_REPEATABLE},
	{"GenerateDataKeyPair",
	 LIST("KeyId", "KeyPairSpec", "EncryptionContext", "GrantTokens", "Recipient",
	      "DryRun"),
	 KEY_ID, CONTEXT, LIST("PrivateKeyPlaintext"),
	 KMS_RECIPIENT | KMS_SECRET_REPLY | KMS_REPEATABLE},
	{"GenerateDataKeyPairWithoutPlaintext",
	 LIST("KeyId", "KeyPairSpec", "EncryptionContext", "GrantTokens", "DryRun"), KEY_ID,
	 CONTEXT, NONE, KMS_REPEATABLE},
	{"GenerateDataKeyWithoutPlaintext",
	 LIST("KeyId", "EncryptionContext", "KeySpec", "NumberOfBytes", "GrantTokens",
	      "DryRun"),
	 KEY_ID, CONTEXT, NONE, KMS_REPEATABLE},
	{"GenerateMac", LIST("Message", "KeyId", "MacAlgorithm", "GrantTokens", "DryRun"),
	 KEY_ID, NONE, NONE, KMS_REPEATABLE},
	{"GenerateRandom", LIST("NumberOfBytes", "CustomKeyStoreId", "Recipient"), NONE, NONE,
	 LIST("Plaintext"), KMS_RECIPIENT | KMS_SECRET_REPLY | KMS_REPEATABLE},
	{"GetKeyLastUsage", KEY_ID, KEY_ID, NONE, NONE, KMS_REPEATABLE},
	{"GetKeyPolicy", LIST("KeyId", "PolicyName"), KEY_ID, NONE, NONE, KMS_REPEATABLE},
	{"GetKeyRotationStatus", KEY_ID, KEY_ID, NONE, NONE, KMS_REPEATABLE},
	{"GetParametersForImport", LIST("KeyId", "WrappingAlgorithm", "WrappingKeySpec"),
	 KEY_ID, NONE, NONE, 0},
	{"GetPublicKey", LIST("KeyId", "GrantTokens"), KEY_ID, NONE, NONE, KMS_REPEATABLE},
	{"ImportKeyMaterial",
	 LIST("KeyId", "ImportToken", "EncryptedKeyMaterial", "ValidTo", "ExpirationModel",
	      "ImportType", "KeyMaterialDescription", "KeyMaterialId"),
	 KEY_ID, NONE, NONE, KMS_PRIVILEGE},
	{"ListAliases", LIST("KeyId", "Limit", "Marker"), KEY_ID, NONE, NONE, KMS_REPEATABLE},
	{"ListGrants",
	 LIST("KeyId", "Limit", "Marker", "GrantId", "GranteePrincipal",
	      "GranteeServicePrincipal"),
	 KEY_ID, NONE, NONE, KMS_REPEATABLE},
	{"ListKeyPolicies", LIST("KeyId", "Limit", "Marker"), KEY_ID, NONE, NONE,
	 KMS_REPEATABLE},
	{"ListKeyRotations", LIST("KeyId", "IncludeKeyMaterial", "Limit", "Marker"), KEY_ID,
	 NONE, NONE, KMS_REPEATABLE},
	{"ListKeys", LIST("Limit", "Marker"), NONE, NONE, NONE, KMS_REPEATABLE},
	{"ListResourceTags", LIST("KeyId", "Limit", "Marker"), KEY_ID, NONE, NONE,
	 KMS_REPEATABLE},
	{"ListRetirableGrants",
	 LIST("Limit", "Marker", "RetiringPrincipal", "RetiringServicePrincipal"), NONE, NONE,
	 NONE, KMS_REPEATABLE},
	{"PutKeyPolicy",
	 LIST("KeyId", "Policy", "PolicyName", "BypassPolicyLockoutSafetyCheck"), KEY_ID, NONE,
	 NONE, KMS_DELEGATION, .policy = "Policy"},
	{"ReEncrypt",
	 LIST("DestinationKeyId", "CiphertextBlob", "SourceEncryptionContext", "SourceKeyId",
	      "DestinationEncryptionContext", "SourceEncryptionAlgorithm",
	      "DestinationEncryptionAlgorithm", "GrantTokens", "DryRun", "DryRunModifiers"),
	 LIST("SourceKeyId", "DestinationKeyId"),
	 LIST("SourceEncryptionContext", "DestinationEncryptionContext"), NONE,
	 KMS_REPEATABLE | KMS_REWRAP | KMS_KEY_IMPLIED},
	{"ReplicateKey",
	 LIST("KeyId", "ReplicaRegion", "Policy", "BypassPolicyLockoutSafetyCheck",
	      "Description", "Tags"),
	 KEY_ID, NONE, NONE, KMS_DELEGATION, .policy = "Policy"},
	{"RetireGrant", LIST("GrantToken", "KeyId", "GrantId", "DryRun"), KEY_ID, NONE, NONE,
	 KMS_DESTRUCTIVE, .token = "GrantToken"},
	{"RevokeGrant", LIST("KeyId", "GrantId", "DryRun"), KEY_ID, NONE, NONE,
	 KMS_DESTRUCTIVE},
	{"RotateKeyOnDemand", KEY_ID, KEY_ID, NONE, NONE, 0},
	{"ScheduleKeyDeletion", LIST("KeyId", "PendingWindowInDays"), KEY_ID, NONE, NONE,
	 KMS_DESTRUCTIVE},
	{"Sign",
	 LIST("KeyId", "Message", "SigningAlgorithm", "MessageType", "GrantTokens", "DryRun"),
	 KEY_ID, NONE, NONE, KMS_REPEATABLE},
	{"TagResource", LIST("KeyId", "Tags"), KEY_ID, NONE, NONE, KMS_LABEL},
	{"UntagResource", LIST("KeyId", "TagKeys"), KEY_ID, NONE, NONE, KMS_LABEL},
	{"UpdateAlias", LIST("AliasName", "TargetKeyId"), LIST("AliasName", "TargetKeyId"),
	 NONE, NONE, KMS_LABEL},
	{"UpdateCustomKeyStore",
	 LIST("CustomKeyStoreId", "NewCustomKeyStoreName", "KeyStorePassword",
	      "CloudHsmClusterId", "XksProxyUriEndpoint", "XksProxyUriPath",
	      "XksProxyVpcEndpointServiceName", "XksProxyVpcEndpointServiceOwner",
	      "XksProxyAuthenticationCredential", "XksProxyConnectivity"),
	 NONE, NONE, NONE, KMS_PRIVILEGE},
	{"UpdateKeyDescription", LIST("KeyId", "Description"), KEY_ID, NONE, NONE, 0},
	{"UpdatePrimaryRegion", LIST("KeyId", "PrimaryRegion"), KEY_ID, NONE, NONE,
	 KMS_PRIVILEGE},
	{"Verify",
	 LIST("KeyId", "Message", "Signature", "SigningAlgorithm", "MessageType", "GrantTokens",
	      "DryRun"),
	 KEY_ID, NONE, NONE, KMS_REPEATABLE},
	{"VerifyMac", LIST("Message", "KeyId", "MacAlgorithm", "Mac", "GrantTokens", "DryRun"),
	 KEY_ID, NONE, NONE, KMS_REPEATABLE},
};

_Static_assert(ELEMENTSOF(actions) == KMS_ACTIONS, "KMS_ACTIONS counts the rows");
_Static_assert(KMS_ACTIONS <= 64, "struct rule holds a bit an action");

const struct kms_action *kms_action(unsigned index)
{
	assert(index < KMS_ACTIONS);
	return &actions[index];
}

/* Negative, zero or positive, as the slice stands before, at or after `s`. */
static int compare(struct slice a, const char *s)
{
	size_t n = strlen(s);
	int r = memcmp(a.p, s, MIN(a.n, n));

	return r ? r : (a.n > n) - (a.n < n);
}

int kms_action_index(struct slice name)
{
	int low = 0, high = KMS_ACTIONS - 1;

	if (name.n == 0)
		return -1;
	while (low <= high) {
		int middle = (low + high) / 2;
		int r = compare(name, actions[middle].name);

		if (r == 0)
			return middle;
		if (r < 0)
			high = middle - 1;
		else
			low = middle + 1;
	}
	return -1;
}

const struct kms_action *kms_action_named(struct slice name)
{
	int i = kms_action_index(name);

	return i < 0 ? NULL : &actions[i];
}

uint64_t kms_action_bit(const struct kms_action *action)
{
	return action->flags & KMS_EXTRA ? 0 : UINT64_C(1) << (action - actions);
}

struct kms_action kms_extra_action(const char *name)
{
	static const char *const key_id[] = {"KeyId", NULL}, *const none[] = {NULL};

	return (struct kms_action){name, key_id, key_id,
				   none, none,   KMS_EXTRA | KMS_SECRET_REPLY | KMS_DELEGATION};
}
