# SPDX-License-Identifier: Apache-2.0
"""What the local KMS is made of, and a raw client of it."""
