# SPDX-License-Identifier: Apache-2.0
"""`region: instance`: asked of IMDS before the start, until it is known, and never again."""

import re
import signal
import subprocess

import pytest

from daemon import program, wait_for
from daemon.help import DESCRIBE, KEY
from daemon.manager_help import heard
from kms.client import request


@pytest.fixture
def daemon(daemon):
    daemon.config["endpoints"]["kms"]["region"] = "instance"
    return daemon


def asked(imds):
    return len([r for r in imds.requests if r.action == "Region"])


def test_the_region_is_known_before_the_first_request(daemon, imds):
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200       # signed for it
        log = daemon.log()
        assert log.index("this instance is in region eu-central-1") < log.index("started: ")
        assert asked(imds) == 1
        daemon.reload()
        assert client.ask(DESCRIBE).status == 200
        assert asked(imds) == 1


@pytest.mark.parametrize("fault, said", [
    ({"kind": "status", "status": 503}, "it is busy; status 503"),
    ({"kind": "reset"}, "is this an EC2 instance?"),
])
def test_it_waits_and_says_why_until_it_has_it(daemon, imds, manager, fault, said):
    number = imds.fault(**fault, count=None).number
    daemon.start(wait=False)
    try:
        heard(manager, "STATUS=Asking IMDS for the region of this instance")
        heard(manager, "EXTEND_TIMEOUT_USEC=")      # systemd must not give up meanwhile
        assert said in heard(manager, "STATUS=Waiting for the region of this instance: ")[-1]
        heard(manager, "EXTEND_TIMEOUT_USEC=")
        daemon.wait_log(rf"error: the region of this instance isn't known yet: .*{re.escape(said)}")
        heard(manager, "STATUS=Waiting for the region")        # the second attempt, with its reason once in the journal
        assert len(re.findall("isn't known yet", daemon.log())) == 1
        assert "started: " not in daemon.log()
        imds.clear(number)
        assert not any("READY=1" in one for one in heard(manager, "STATUS=Serving")[:-1])
        daemon.wait_log("started: ")
        with daemon.client() as client:
            assert client.ask(DESCRIBE).status == 200
    finally:
        assert daemon.stop() == 0


@pytest.mark.parametrize("region", ["mars-north-1", "eu-central-1a", ""])
def test_what_is_no_region_is_waited_out(daemon, imds, region):
    imds.region = region
    daemon.start(wait=False)
    daemon.wait_log(rf'isn\'t known yet: .*the answer "{region}" is no region of a partition that is known')
    imds.region = "eu-central-1"
    daemon.wait_log("started: ")
    assert daemon.stop() == 0


def test_a_signal_ends_the_wait(daemon, imds):
    imds.fault("status", status=503, count=None)
    for number in (signal.SIGTERM, signal.SIGINT):
        start = daemon.log_size() if daemon.log_path.exists() else 0
        daemon.start(wait=False)
        wait_for(lambda at=start: "isn't known yet" in daemon.log(at))
        assert daemon.stop(number) == 0


def test_a_file_that_changes_meanwhile_counts(daemon, imds):
    """SIGHUP reads it again: a broken one changes nothing, one that names the region ends the wait."""
    imds.fault("status", status=503, count=None, action="Region")
    daemon.start(wait=False)
    daemon.wait_log("isn't known yet")
    good = daemon.config
    daemon.config = {"wrong": 1}
    daemon.reload(expect='has no option "wrong"')
    assert daemon.process.poll() is None
    daemon.config = {**good, "endpoints": {"kms": {**good["endpoints"]["kms"], "region": "eu-central-1"}}}
    daemon.reload(expect="started: ")
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200


def test_a_reload_that_needs_it_first_is_refused(daemon, imds):
    daemon.config["endpoints"]["kms"]["region"] = "eu-central-1"
    with daemon, daemon.client() as client:
        daemon.config["endpoints"] = {"kms": {**daemon.config["endpoints"]["kms"], "region": "instance"}}
        daemon.reload(expect="not loaded")
        assert "region: instance is asked for at the start only, and nothing needed it then; restart the service" \
            in daemon.log()
        assert client.ask(DESCRIBE).status == 200
        assert asked(imds) == 0


def test_keys_of_other_regions_match_nothing_and_are_no_fault(daemon, kms):
    here = kms.keys.arn("eu-central-1", KEY)
    elsewhere = kms.keys.arn("us-east-1", KEY)
    daemon.config["enclaves"]["payments"]["allow"][0]["keys"] = [elsewhere, here]
    with daemon, daemon.client() as client:
        assert client.ask(request("DescribeKey", {"KeyId": elsewhere})).error == "AccessDeniedException"
        assert client.ask(request("DescribeKey", {"KeyId": here})).status == 200
        assert "keys:" not in daemon.log()
        daemon.config["enclaves"]["payments"]["allow"][0]["keys"] = [elsewhere]
        daemon.reload(expect=r"warning: \S+: keys: none is in eu-central-1, the region of this instance")
        daemon.wait_log("loaded, ")


def test_the_credentials_may_come_from_elsewhere(daemon, imds, kms):
    keys = daemon.folder / "keys"
    current = imds.credentials.current
    keys.write_text(f"[default]\naws_access_key_id = {current.access_key_id}\n"
                    f"aws_secret_access_key = {current.secret_access_key}\naws_session_token = {current.token}\n")
    daemon.config["credentials"] = {**daemon.config["credentials"], "source": "file", "file": str(keys)}
    with daemon, daemon.client() as client:
        assert client.ask(DESCRIBE).status == 200
        assert {r.action for r in imds.requests} == {"PutToken", "Region"}


# The command line.

def run(daemon, *arguments, stdin=""):
    daemon.write_config()
    found = subprocess.run([program(), "--config", daemon.config_path, *arguments], input=stdin, capture_output=True,
                           text=True, timeout=60, check=False)
    return found.returncode, found.stdout, found.stderr


def test_a_check_asks_with_here_only(daemon, imds):
    status, _, said = run(daemon, "--check-config")
    assert status == 0 and "warning: region: instance isn't known here, and nothing that follows" in said
    assert asked(imds) == 0
    assert run(daemon, "--check-config", "--here") == (0, "", "")
    assert asked(imds) == 1
    daemon.config["enclaves"]["payments"]["allow"][0]["keys"] = ["arn:aws:kms:us-east-1:111122223333:alias/x"]
    status, _, said = run(daemon, "--check-config", "--here")
    assert status == 0 and "warning: keys: none is in eu-central-1, the region of this instance" in said


def test_a_check_whose_question_fails_says_what_it_leaves_out(daemon, imds):
    """No error: the daemon waits for it."""
    imds.fault("status", status=503, count=None)
    status, _, said = run(daemon, "--check-config", "--here")
    assert status == 0
    assert re.search(r"warning: region: instance isn't known, and nothing that follows from it is checked: IMDS at "
                     r"\S+, asked for a token: it is busy; status 503\n", said), said


def test_print_config_shows_it_as_it_is_written(daemon, imds):
    del daemon.config["endpoints"]["kms"]["host"]
    status, printed, said = run(daemon, "--print-config")
    assert (status, said) == (0, "") and re.search(r'(?m)^    region: "?instance"?$', printed)
    assert "host:" not in printed and asked(imds) == 0


def test_explain_needs_it(daemon, imds):
    body = '{"KeyId": "alias/x"}'
    status, _, said = run(daemon, "--explain", "payments", "DescribeKey", "-", stdin=body)
    assert status == 1 and "error: region: instance isn't known here" in said and "--here" in said
    status, said, _ = run(daemon, "--explain", "payments", "DescribeKey", "--here", "-", stdin=body)
    assert status == 0 and "region eu-central-1)" in said
