# SPDX-License-Identifier: Apache-2.0
"""Each allocation fails once: the daemon's, libcurl's, OpenSSL's, libevent's and glibc's."""

import pytest

import scenarios
from subject import sweep_in_lanes

# So many each scenario has at least: else the library counts nothing.
AT_ONCE = {"Signed": 20, "Refused": 5, "RefusedHead": 3, "InPieces": 20, "Pipelined": 30,
           "BigReply": 20, "BigChunkedReply": 20}
IN_LANES = {"Cold": 100, "Stale": 100, "Tunnel": 30, "Connect": 30, "Reload": 100, "Refresh": 100,
            "Container": 100}


@pytest.mark.parametrize("name", AT_ONCE)
def test_each_allocation(subject, name):
    scenario = getattr(scenarios, name)()
    scenario.configure(subject)
    with subject:
        points = subject.sweep(scenario, "allocation", ["ENOMEM"])
    assert points >= AT_ONCE[name]


@pytest.mark.parametrize("name", IN_LANES)
def test_each_allocation_where_the_daemon_waits_after_it(lanes, name):
    scenario = getattr(scenarios, name)()
    for lane in lanes:
        scenario.configure(lane)
    points = sweep_in_lanes(lanes, scenario, "allocation", ["ENOMEM"])
    assert points >= IN_LANES[name]
