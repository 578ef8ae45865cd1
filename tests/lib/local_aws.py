#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The local KMS, IMDS and container endpoint (and bridges) in one process: see server/program.py."""

from server import program

if __name__ == "__main__":
    program.main(["kms", "imds", "container"])
