# SPDX-License-Identifier: Apache-2.0
"""Runs inside the machine. Tells the host of each case as it goes, on descriptor 3, so that a
hang or a crash of the machine loses nothing; keeps each case's log; marks the journal, so that
the host can give each case its part of it."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))

import aws as local_aws     # noqa: E402
import journal              # noqa: E402
import peers                # noqa: E402
import service              # noqa: E402

ARRANGEMENT = os.environ.get("VM_ARRANGEMENT", "vhost")
LOGS = pathlib.Path("/test/out/cases")


def tell_host(*words):
    # pytest may be in the middle of a line of dots.
    os.write(3, ("\n" + " ".join(("CASE",) + words) + "\n").encode())


def pytest_configure(config):
    config.addinivalue_line("markers", "nitro: also run where the machine's own CID is 3")
    config.addinivalue_line("markers", "sanitize: also run with the sanitizers' build")
    LOGS.mkdir(parents=True, exist_ok=True)


def pytest_collection_modifyitems(config, items):
    """Each arrangement but the main one runs the cases that are marked for it."""
    if ARRANGEMENT == "vhost":
        return
    others = [item for item in items if not item.get_closest_marker(ARRANGEMENT)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def pytest_collection_finish(session):
    for item in session.items:
        tell_host("planned", item.nodeid)


def pytest_runtest_logstart(nodeid, location):
    tell_host("started", nodeid)
    journal.send("VM-CASE " + nodeid, SYSLOG_IDENTIFIER="vm-case")


def _tell_result(report):
    if report.when == "call" or report.outcome != "passed":
        tell_host(report.outcome, report.nodeid)


def pytest_runtest_logreport(report):
    with open(LOGS / (report.nodeid.replace("/", "_") + ".log"), "a", encoding="utf-8") as log:
        log.write(f"{report.when}: {report.outcome} in {report.duration:.2f} s\n")
        for title, text in report.sections:
            if title.endswith(report.when):
                log.write(f"--- {title}\n{text}\n")
        if report.longrepr and not report.passed:
            log.write(f"{report.longreprtext}\n")
    _tell_result(report)


@pytest.fixture(scope="session")
def arrangement():
    return ARRANGEMENT


@pytest.fixture(scope="session")
def enclaves():
    """The enclaves by CID: enclaves(16).connect(8000) is a socket from CID 16 to port 8000."""
    pool = peers.Nitro() if ARRANGEMENT == "nitro" else peers.Vhost()
    yield pool.enclave
    pool.stop()


@pytest.fixture(scope="session")
def aws_process(tmp_path_factory):
    service = local_aws.LocalAws(tmp_path_factory.mktemp("aws"))
    yield service
    service.stop()


@pytest.fixture
def aws(aws_process):
    """The local KMS and IMDS; faults end with the case."""
    yield aws_process
    for standin in ("kms", "imds"):
        aws_process.ask(to=standin, clear=True)


@pytest.fixture
def unit(aws):
    """The service on the local KMS, with four enclaves; not started."""
    instance = service.Service({
        "listen": [{"vsock": service.PORT}], "endpoints": {"kms": aws.endpoint()},
        "enclaves": service.four_enclaves()})
    yield instance
    instance.stop()


@pytest.fixture(scope="session")
def fixed_answer(tmp_path_factory):
    """A TLS server that answers everything alike, for traffic that the local KMS is too slow for."""
    server = local_aws.FixedAnswer(tmp_path_factory.mktemp("fixed"))
    yield server
    server.stop()


@pytest.fixture
def fast_unit(unit, fixed_answer):
    """The same on that server."""
    unit.config["endpoints"]["kms"] = fixed_answer.endpoint()
    return unit
