# SPDX-License-Identifier: Apache-2.0
"""The policy worked out from the man page alone, and what to ask it."""
