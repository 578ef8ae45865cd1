# SPDX-License-Identifier: Apache-2.0
"""The parent's credentials: where they come from, and what happens when they don't."""

import json
import os
import time

import pytest

from daemon import ROOT, wait_for
from daemon.journal_help import can_unshare
from kms.client import request
from net.bridge import Bridge
from standins import LocalContainer

DESCRIBE = request("DescribeKey", {"KeyId": "alias/payments"})


def used(kms):
    return kms.requests[-1].access_key_id


def test_imds_is_asked_as_version_2_wants_it(daemon, imds):
    with daemon:
        asked = [r.action for r in imds.requests]
        assert asked == ["PutToken", "ListRoles", "GetCredentials"]
        assert all(r.verdict == "ok" for r in imds.requests)


NO_CREDENTIALS = [
    ("no role", lambda imds: setattr(imds, "role", None), r"no IAM role"),
    ("a Code that is no success", lambda imds: imds.fault("code", count=None), r"AssumeRoleUnauthorizedAccess"),
    ("a role with a path in it", lambda imds: setattr(imds, "role", "../../user-data"), r"role"),
    ("no token allowed", lambda imds: imds.fault("status", status=403, action="PutToken", count=None), r"403|disabled|not allowed"),
    ("errors", lambda imds: imds.fault("status", status=500, count=None), r"500"),
    ("no JSON", lambda imds: imds.fault("body", text="{", action="GetCredentials", count=None), r"JSON"),
    ("a member missing", lambda imds: imds.fault("fields", drop=["Token"], count=None), r"Token"),
    ("a huge answer", lambda imds: imds.fault("huge_body", action="GetCredentials", count=None), r"16|large|bytes"),
    ("silence", lambda imds: imds.fault("hang", count=None), r"hop limit|time"),
    ("nobody there", lambda imds: imds.stop(), r"connect"),
]


@pytest.mark.parametrize("break_it, said", [n[1:] for n in NO_CREDENTIALS], ids=[n[0] for n in NO_CREDENTIALS])
def test_without_credentials_it_runs_and_says_why(daemon, kms, imds, break_it, said):
    break_it(imds)
    daemon.start(wait=True)
    with daemon, daemon.client() as enclave:
        answer = enclave.ask(DESCRIBE)
        assert (answer.status, answer.error) == (503, "ServiceUnavailableException")
        daemon.record(REASON="no-credentials")
        daemon.wait_log(rf"(?i)credentials.*({said})")
        assert not kms.requests
        # and goes on once they are there
        imds.clear()
        imds.role = "enclave-parent"
        if said == "connect":
            imds.start()
        wait_for(lambda: enclave.ask(DESCRIBE).status == 200, 90)


# The daemon's own network: a loopback interface with these addresses, on which the instance's IMDS answers. The bridge
# ends with the daemon, which this shell becomes.
ALONE = """
ip link set lo up
for address in $1; do
	ip address add "$address" dev lo
	setpriv --pdeathsig KILL /usr/bin/python3 "$2" --listen "$3" --to "unix:$4" &
	until /usr/bin/python3 -c "import socket, sys; socket.create_connection(('${address%/*}', 80)).close()" 2>/dev/null; do
		sleep 0.05
	done
done
shift 4
exec "$@"
"""
BRIDGE = ROOT / "tests" / "lib" / "net" / "bridge.py"


@pytest.mark.parametrize("address, listen, said", [
    ("169.254.169.254/32", "169.254.169.254:80", "credentials valid"),
    ("fd00:ec2::254/128", "[fd00:ec2::254]:80", "credentials valid"),
    ("", "", r"no credentials: IMDS at http://\[fd00:ec2::254\], asked for a token: can't connect: .*; its other "
             "address has no route either"),
], ids=["IPv4", "IPv6 alone", "neither"])
def test_imds_is_asked_by_ipv6_where_ipv4_has_no_route(daemon, imds, tmp_path, address, listen, said):
    if not can_unshare("--net"):
        pytest.skip("a network namespace can't be made here")
    daemon.config["credentials"] = {"source": "imds"}
    daemon.wrapper = ["unshare", "--net", "sh", "-ec", ALONE, "sh", address, BRIDGE, listen, tmp_path / "imds"]
    with Bridge(f"127.0.0.1:{imds.port}", listen=f"unix:{tmp_path}/imds"):
        daemon.start(wait=False)
        with daemon:
            daemon.wait_log(said)
    assert [r.action for r in imds.requests] == (["PutToken", "ListRoles", "GetCredentials"] if address else [])


def test_where_no_enclave_has_an_endpoint_nobody_is_asked(daemon, imds):
    payments = daemon.config["enclaves"]["payments"]
    endpoints, rules = payments.pop("endpoints"), payments.pop("allow")
    payments["tunnel"] = {"hosts": ["kms.eu-central-1.amazonaws.com:443"]}
    daemon.start(wait=False)
    with daemon:
        daemon.wait_log("started")
        payments.update(endpoints=endpoints, allow=rules)
        assert not imds.requests
        daemon.reload()
        daemon.wait_log("credentials valid")
    assert "no credentials" not in daemon.log()


def test_new_credentials_are_taken_and_the_old_ones_not_asked_twice(daemon, kms, imds):
    with daemon, daemon.client() as enclave:
        assert enclave.ask(DESCRIBE).status == 200
        first = used(kms)
        fresh = imds.rotate()
        kms.credentials.revoke(first)
        assert enclave.ask(DESCRIBE).status == 200    # rejected, refreshed, sent once more
        assert used(kms) == fresh.access_key_id
        assert len(daemon.records(REASON="allowed")) <= 2
        # the session token is cached, the role is listed anew
        assert [r.action for r in imds.requests][3:] == ["ListRoles", "GetCredentials"]


def test_an_unknown_key_is_refreshed_like_an_expired_one(daemon, kms, imds):
    with daemon, daemon.client() as enclave:
        assert enclave.ask(DESCRIBE).status == 200
        first = used(kms)
        imds.rotate()
        kms.credentials.forget(first)
        assert enclave.ask(DESCRIBE).status == 200


def test_rejected_without_new_ones_is_said_without_the_tokens(daemon, kms, imds):
    with daemon, daemon.client() as enclave:
        assert enclave.ask(DESCRIBE).status == 200
        kms.credentials.revoke()
        answer = enclave.ask(DESCRIBE)
        assert (answer.status, answer.error) == (503, "ServiceUnavailableException")
        record = daemon.record(REASON="bad-credentials")
        token = kms.credentials.current.token
        assert token[:40] not in answer.body.decode() + str(record) + daemon.log()


def test_many_that_are_rejected_cause_one_refresh(daemon, kms, imds):
    daemon.config["enclaves"]["payments"]["limits"].update(connections=40, in_flight=40)
    with daemon:
        clients = [daemon.client() for _ in range(30)]
        assert clients[0].ask(DESCRIBE).status == 200
        before = len(imds.requests)
        first = used(kms)
        imds.rotate()
        kms.credentials.revoke(first)
        for client in clients:
            client.send(DESCRIBE)
        for client in clients:
            assert client.read().status == 200
            client.close()
        assert [r.action for r in imds.requests[before:]] == ["ListRoles", "GetCredentials"]


def test_a_lost_imds_token_is_fetched_again(daemon, kms, imds):
    with daemon, daemon.client() as enclave:
        assert enclave.ask(DESCRIBE).status == 200
        first = used(kms)
        imds.invalidate_tokens()
        imds.rotate()
        kms.credentials.revoke(first)
        assert enclave.ask(DESCRIBE).status == 200
        assert "PutToken" in [r.action for r in imds.requests][3:]


def test_short_lived_ones_are_refreshed_ahead(daemon, kms, imds):
    kms.credentials.rotate(lifetime=20)
    with daemon, daemon.client() as enclave:
        first = kms.credentials.current.access_key_id
        fresh = imds.rotate()
        wait_for(lambda: any(r.action == "GetCredentials" for r in imds.requests[3:]), 30)
        wait_for(lambda: enclave.ask(DESCRIBE).status == 200 and used(kms) == fresh.access_key_id)
        assert first != fresh.access_key_id


def test_expired_ones_are_kept_and_used_while_imds_is_out(daemon, kms, imds):
    kms.credentials.rotate(lifetime=4)
    kms.credentials.honour_expired = True
    with daemon, daemon.client() as enclave:
        assert enclave.ask(DESCRIBE).status == 200
        imds.stop()
        expiry = kms.credentials.current.expiration
        wait_for(lambda: time.time() > expiry + 1, 10)
        assert enclave.ask(DESCRIBE).status == 200
        daemon.wait_log(r"(?i)credentials")
        imds.start()


def test_a_wrong_clock_is_learned_from_kms(daemon, kms):
    kms.clock_offset = 3600
    with daemon, daemon.client() as enclave:
        assert enclave.ask(DESCRIBE).status == 200
        assert [r.verdict for r in kms.requests] == ["InvalidSignatureException", "ok"]
        assert enclave.ask(DESCRIBE).status == 200
        assert len(kms.requests) == 3
        kms.clock_offset = 0
        assert enclave.ask(DESCRIBE).status == 200


def test_container_credentials(daemon, kms, tmp_path):
    with LocalContainer(kms.credentials) as container:
        token = tmp_path / "token"
        token.write_text(container.token)
        daemon.config["credentials"] = {"source": "container", "container": {
            "uri": container.credentials_url, "token_file": str(token)}}
        with daemon, daemon.client() as enclave:
            assert enclave.ask(DESCRIBE).status == 200
            # the token file is read again at each refresh
            container.token = "another"
            token.write_text("another")
            first = used(kms)
            container.rotate()
            kms.credentials.revoke(first)
            assert enclave.ask(DESCRIBE).status == 200


def test_container_credentials_named_by_the_environment(daemon, kms, tmp_path):
    with LocalContainer(kms.credentials) as container:
        token = tmp_path / "token"
        token.write_text(container.token)
        daemon.config["credentials"] = {"source": "container"}
        daemon.environment = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": container.credentials_url,
                              "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token)}
        with daemon, daemon.client() as enclave:
            assert enclave.ask(DESCRIBE).status == 200


@pytest.mark.parametrize("form", ["json", "ini"])
def test_a_credentials_file_of_systemd_is_read_again_when_it_changes(daemon, kms, tmp_path, form):
    folder = tmp_path / "credentials"
    folder.mkdir()

    def write(c):
        new = folder / "new"
        if form == "json":
            new.write_text(json.dumps({"AccessKeyId": c.access_key_id, "SecretAccessKey": c.secret_access_key,
                                       "SessionToken": c.token}))
        else:
            new.write_text(f"[default]\naws_access_key_id = {c.access_key_id}\n"
                           f"aws_secret_access_key = {c.secret_access_key}\naws_session_token = {c.token}\n")
        new.chmod(0o600)
        os.replace(new, folder / "aws")

    write(kms.credentials.current)
    daemon.config["credentials"] = {"source": "file", "file": "aws"}
    daemon.environment = {"CREDENTIALS_DIRECTORY": str(folder)}
    with daemon, daemon.client() as enclave:
        assert enclave.ask(DESCRIBE).status == 200
        fresh = kms.credentials.rotate()
        write(fresh)
        wait_for(lambda: enclave.ask(DESCRIBE).status == 200 and used(kms) == fresh.access_key_id, 30)


def test_another_source_after_a_reload(daemon, kms, imds, tmp_path):
    with daemon, daemon.client() as enclave:
        assert enclave.ask(DESCRIBE).status == 200
        own = kms.credentials.rotate()
        (tmp_path / "own.json").write_text(json.dumps({
            "AccessKeyId": own.access_key_id, "SecretAccessKey": own.secret_access_key, "SessionToken": own.token}))
        daemon.config["credentials"] = {"source": "file", "file": str(tmp_path / "own.json")}
        daemon.reload()
        wait_for(lambda: enclave.ask(DESCRIBE).status == 200 and used(kms) == own.access_key_id)
