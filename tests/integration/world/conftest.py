# SPDX-License-Identifier: Apache-2.0
"""What the tests of the world's faults share."""

import pytest

from world_help import Tally


@pytest.fixture(scope="session")
def tally():
    """The faults of the world that were survived, and what other enclaves saw of them."""
    counted = Tally()
    yield counted
    counted.print()
