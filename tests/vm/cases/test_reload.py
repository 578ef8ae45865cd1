# SPDX-License-Identifier: Apache-2.0
"""A reload is a swap: during traffic nobody is refused but who the new configuration refuses."""

import journal
import pytest
import service
from traffic import Traffic

CIDS = (16, 17, 18, 19)


@pytest.mark.sanitize
def test_good_broken_and_narrowing_configurations_during_traffic(unit, enclaves):
    unit.start()
    with Traffic(enclaves, CIDS, 20) as traffic:
        traffic.wait_answers(10)

        unit.config["enclaves"]["alpha"]["limits"]["in_flight"] = 32
        unit.write()
        unit.reload()
        traffic.wait_answers(10)

        place = journal.cursor()
        unit.write("enclaves:\n  alpha: {cid: 16, endpoints: [kms], alow: []}\n")
        service.systemctl("reload", service.UNIT, check=False)      # which fails: see test_check.py
        refused = journal.wait_for(after=place, count=2, _SYSTEMD_UNIT=service.UNIT, PRIORITY="3")
        assert any(f"{service.CONFIG.name}:2:" in r["MESSAGE"] and "alow" in r["MESSAGE"] for r in refused)
        assert any("the configuration in force stays" in r["MESSAGE"] for r in refused)
        traffic.wait_answers(10)

        before = traffic.callers[19].statuses.get(200, 0)
        unit.config["enclaves"]["delta"]["allow"] = [service.rule("seal", "Encrypt")]
        unit.write()
        unit.reload()
        service.wait(lambda: traffic.callers[19].statuses.get(400, 0) >= 3)
        traffic.wait_answers(10)
    traffic.report("reloads")
    assert traffic.failed() == []
    assert before > 0
    for cid in (16, 17, 18):
        assert set(traffic.callers[cid].statuses) == {200}, traffic.callers[cid].statuses
    assert set(traffic.callers[19].statuses) == {200, 400}
