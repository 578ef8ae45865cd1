# SPDX-License-Identifier: Apache-2.0
"""What the daemon tells the service manager."""


def heard(manager, *wanted):
    """Receives until each of these came, and in this order; returns all."""
    said = []
    for want in wanted:
        while not (said and want in said[-1]):
            said.append(manager.recv(4096).decode())
    return said
