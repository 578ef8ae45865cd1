# SPDX-License-Identifier: Apache-2.0
"""The socket unit starts the service at the first connection, and the journal has it all."""

import pathlib
import re
import subprocess

import journal
import pytest
import service
from kms.client import request

DESCRIBE = request("DescribeKey", {"KeyId": "alias/payments"})

# Of kms-vsock-proxyd(8): what the record of an allowed and answered request holds.
FIELDS = {"MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "ENCLAVE", "ENCLAVE_CID", "REQUEST_ID",
          "KMS_ACTION", "KMS_KEY", "ENDPOINT", "VERDICT", "RULE", "REASON", "HTTP_STATUS", "AWS_REQUEST_ID",
          "RECIPIENT", "DURATION_USEC", "UPSTREAM_USEC", "BYTES_IN", "BYTES_OUT"}


@pytest.mark.nitro
@pytest.mark.sanitize
def test_the_first_connection_starts_the_service(unit, enclaves):
    unit.start_socket()
    assert not unit.is_active()
    place = journal.cursor()
    with enclaves(16).client(service.PORT) as client:
        answer = client.ask(DESCRIBE)
        assert answer.status == 200, answer
    assert unit.is_active()
    record, = journal.wait_for(after=place, KMS_ACTION="DescribeKey", _SYSTEMD_UNIT=service.UNIT)
    assert FIELDS <= set(record), FIELDS - set(record)
    assert record["ENCLAVE_CID"] == "16"
    assert record["ENCLAVE"] == "alpha"
    assert record["HTTP_STATUS"] == "200"
    assert record["AWS_REQUEST_ID"] == answer.header("x-amzn-RequestId")
    assert record["REASON"] == "allowed"
    # it runs as its own user, without a capability
    status = pathlib.Path(f"/proc/{unit.pid}/status").read_text(encoding="ascii")
    assert not re.search(r"^Uid:\s+0\b", status, re.M)
    assert re.search(r"^CapEff:\s+0+$", status, re.M)


@pytest.mark.nitro
def test_the_catalog_explains_a_record(unit, enclaves):
    unit.start()
    place = journal.cursor()
    with enclaves(16).client(service.PORT) as client:
        assert client.ask(request("ListKeys", {})).status == 400
    journal.wait_for(after=place, REASON="action")
    shown = subprocess.run(["journalctl", "-x", "--no-pager", "-n", "1", "REASON=action"], check=True,
                           stdout=subprocess.PIPE, text=True).stdout
    assert "Documentation: man:kms-vsock-proxyd(8)" in shown
    assert "What to do" in shown


def test_what_is_documented_is_what_is_written(unit, enclaves):
    page = pathlib.Path("/usr/share/man/man8/kms-vsock-proxyd.8").read_text(encoding="utf-8")
    for field in FIELDS - {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "MESSAGE_ID"}:
        assert field in page, field


def test_status_says_what_an_operator_wants_to_know(unit, enclaves):
    unit.start()
    service.wait(lambda: "credentials valid until" in unit.show("StatusText"),
                 message=lambda: unit.show("StatusText"))
    assert re.match(r"Serving 4 enclaves, \d+ connections; credentials valid until .*", unit.show("StatusText"))


def test_imds_away_at_the_start(unit, enclaves, aws):
    aws.ask(to="imds", fault={"kind": "status", "status": 500, "count": None})
    unit.start()
    assert unit.is_active()
    service.wait(lambda: "no credentials" in unit.show("StatusText"), message=lambda: unit.show("StatusText"))
    with enclaves(16).client(service.PORT) as client:
        assert client.ask(DESCRIBE).status == 503
        aws.ask(to="imds", clear=True)
        service.wait(lambda: client.ask(DESCRIBE).status == 200, 150)
    service.wait(lambda: "credentials valid" in unit.show("StatusText"))
