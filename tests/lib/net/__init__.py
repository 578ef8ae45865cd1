# SPDX-License-Identifier: Apache-2.0
"""Clients, servers and bytes below HTTP."""
