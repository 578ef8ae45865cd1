# SPDX-License-Identifier: Apache-2.0
"""What tests import: every stand-in by name.

    with LocalKms() as kms, LocalImds(kms.credentials) as imds:
        kms.fault("delay", seconds=2, action="Decrypt")
        ...
        assert kms.requests[-1].verdict == "ok"
"""

from enclave import Enclave
from kms.client import Client
from local_container import LocalContainer
from local_imds import LocalImds
from local_kms import DEFAULT_KEYS, LocalKms, endpoint_host
from net.bridge import Bridge
from nitro.attestation import AttestationAuthority, open_ciphertext_for_recipient, spki
from server.credential_store import CredentialStore, Credentials, make_credentials, make_user_key
from server.tls_certs import Authority, VARIANTS

__all__ = [
    "AttestationAuthority", "Authority", "Bridge", "Client", "CredentialStore", "Credentials",
    "DEFAULT_KEYS", "Enclave", "LocalContainer", "LocalImds", "LocalKms", "VARIANTS",
    "endpoint_host", "make_credentials", "make_user_key", "open_ciphertext_for_recipient", "spki",
]
