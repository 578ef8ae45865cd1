# SPDX-License-Identifier: Apache-2.0
"""Nitro attestation documents, and the answers to them."""
