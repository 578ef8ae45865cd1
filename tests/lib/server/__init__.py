# SPDX-License-Identifier: Apache-2.0
"""What every stand-in is made of: HTTP, TLS, faults, credentials, control."""
