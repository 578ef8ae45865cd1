# SPDX-License-Identifier: Apache-2.0
"""The unit's checks before a start and at the end of a reload, in its sandbox and as its user."""

import grp
import json
import pathlib
import re
import socket
import subprocess

import journal
import service
from figures import figure

BROKEN = "enclaves:\n  alpha: {cid: 16, endpoints: [kms], alow: []}\n"
DROP_INS = service.CONFIG.with_suffix(".d")


def reload_fails():
    found = subprocess.run(["systemctl", "reload", service.UNIT], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, check=False)
    print(found.stdout)
    return found.returncode != 0


def test_a_broken_file_fails_the_reload_and_the_status_says_so_until_a_good_one(unit):
    unit.start()
    pid = unit.pid
    unit.write(BROKEN)
    place = journal.cursor()
    assert reload_fails()
    # Of the check, as text, and of the daemon, as a record.
    journal.wait_for(after=place, count=1, _SYSTEMD_UNIT=service.UNIT, PRIORITY="3")
    said = [r["MESSAGE"] for r in journal.records(place, _SYSTEMD_UNIT=service.UNIT)]
    assert any(re.match(rf"{service.CONFIG}:2:\d+: error: .*alow", line) for line in said), said
    service.wait(lambda: re.search(r"the file was refused at \d\d:\d\d: kms-vsock-proxy.yaml:\d+: ",
                                   unit.show("StatusText")), message=lambda: unit.show("StatusText"))
    assert unit.is_active() and unit.pid == pid

    unit.write()
    unit.reload()
    service.wait(lambda: "refused" not in unit.show("StatusText"), message=lambda: unit.show("StatusText"))
    hashed = subprocess.run(f"cd {service.CONFIG.parent} && sha256sum {service.CONFIG.name} | sha256sum", shell=True,
                            stdout=subprocess.PIPE, text=True, check=True).stdout[:64]
    assert unit.show("StatusText").endswith(f"; configuration {hashed}")
    assert unit.is_active() and unit.pid == pid


def test_what_the_file_names_is_opened_before_a_start_and_at_a_reload(unit):
    unit.start()
    good = unit.config["endpoints"]["kms"]["ca_file"]
    unit.config["endpoints"]["kms"]["ca_file"] = "/etc/absent.pem"
    unit.write()
    place = journal.cursor()
    assert reload_fails()
    journal.wait_for(after=place, _SYSTEMD_UNIT=service.UNIT, PRIORITY="3")
    assert unit.is_active()
    place = journal.cursor()
    service.systemctl("restart", "--no-block", service.UNIT)
    service.wait(lambda: [r for r in journal.records(place, _SYSTEMD_UNIT=service.UNIT)
                          if re.search(r": error: ca_file: /etc/absent.pem: No such file", r["MESSAGE"])])
    assert not unit.is_active()
    unit.config["endpoints"]["kms"]["ca_file"] = good
    unit.write()
    service.wait(unit.is_active)        # by itself


def test_a_credential_of_the_unit_and_a_socket_with_a_group(unit):
    """Both commands have $CREDENTIALS_DIRECTORY, the folder of sockets and the groups of the service."""
    keys = pathlib.Path("/root/aws-credentials")
    keys.write_text("[default]\naws_access_key_id = AKIDEXAMPLE000000000\naws_secret_access_key = example\n",
                    encoding="ascii")
    keys.chmod(0o600)
    group = "adm"
    unit.drop_in("keys", f"[Service]\nLoadCredential=aws-credentials:{keys}\n")
    unit.config["credentials"] = {"source": "file", "file": "aws-credentials"}
    unit.config["listen"].append({"unix": "/run/kms-vsock-proxy/dev.sock", "enclave": "alpha", "mode": "0660"})
    unit.start()
    service.systemctl("reload", service.UNIT)
    assert unit.is_active()

    unit.config["listen"][-1]["group"] = group
    unit.write()
    place = journal.cursor()
    assert reload_fails()
    journal.wait_for(after=place, _SYSTEMD_UNIT=service.UNIT)
    said = [r["MESSAGE"] for r in journal.records(place, _SYSTEMD_UNIT=service.UNIT)]
    assert any("error: group: this user" in line and f"not in group {group}" in line for line in said), said
    assert grp.getgrnam(group)


def test_drop_ins_of_root_are_read_and_those_of_others_refused(unit):
    """In the unit's user namespace all but root and the service's user look alike."""
    DROP_INS.mkdir(mode=0o755)
    try:
        found = DROP_INS / "10-more.yaml"
        found.write_text(json.dumps({"enclaves": {"more": service.enclave(40)}}), encoding="ascii")
        found.chmod(0o644)
        unit.start()
        service.wait(lambda: "Serving 5 enclaves" in unit.show("StatusText"))
        for path in (found, DROP_INS):
            subprocess.run(["chown", "nobody", path], check=True)
            assert reload_fails()
            service.wait(lambda: re.search(r"refused at .*its owner can't be told", unit.show("StatusText")),
                         message=lambda: unit.show("StatusText"))
            subprocess.run(["chown", "daemon", path], check=True)
            assert reload_fails()
            subprocess.run(["chown", "root", path], check=True)
            unit.reload()
    finally:
        subprocess.run(["rm", "-rf", DROP_INS], check=True)


def largest_file(config):
    """As many values as a file may have, and nearly as many bytes."""
    rules = config["enclaves"]["alpha"]["allow"]
    room = 131072 - 1000
    number = 0
    while room > 1100:
        keys = [f"{number + i:08x}-0000-0000-0000-000000000000" for i in range(1022)]
        rules.append(service.rule(f"rule-{number}", "Decrypt", **{}) | {"keys": keys})
        number += len(keys)
        room -= len(keys) + 10
        if number >= 104000:        # 39 bytes each
            break
    text = json.dumps(config, separators=(",", ":"))
    assert 4_000_000 < len(text) <= 4 * 1024 * 1024
    return text


def cgroup(name):
    return pathlib.Path(f"/sys/fs/cgroup/system.slice/{service.UNIT}/{name}").read_text(encoding="ascii")


BODY = b'{"KeyId":"alias/x","Plaintext":"' + b"A" * 1_040_000 + b'"}'
REQUEST = ("POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: TrentService.Encrypt\r\n"
           f"Content-Type: application/x-amz-json-1.1\r\nContent-Length: {len(BODY)}\r\n\r\n").encode() + BODY


def test_the_largest_file_is_checked_beside_a_full_daemon(unit, enclaves):
    """Reloads of it, each with the daemon's own tree and the check's, while its buffers are full: of requests
    that wait for a connection to an endpoint that never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        unit.config["enclaves"] = {"alpha": service.enclave(16, limits={
            "requests": "10000/s", "burst": 10000, "in_flight": 1000, "connections": 1000, "body": "1MiB"})}
        unit.config["endpoints"]["kms"].update({
            "connections": 1, "connect_to": f"127.0.0.1:{mute.getsockname()[1]}", "connect_timeout": "60s",
            "queue_timeout": "60s"})
        text = largest_file(unit.config)
        unit.start_socket()
        unit.write(text)
        service.systemctl("start", service.UNIT)
        pid = unit.pid
        place = journal.cursor()
        held = [enclaves(16).connect(service.PORT) for _ in range(100)]
        for stream in held:         # 96 MiB
            stream.sendall(REQUEST)
        journal.wait_for(after=place, ENCLAVE="alpha", REASON="memory")
        before = int(cgroup("memory.current"))
        place = journal.cursor()
        service.systemctl("reload", service.UNIT)
        service.wait(lambda: [r for r in journal.records(place, _SYSTEMD_UNIT=service.UNIT)
                              if "loaded, 1 enclave" in r["MESSAGE"]])
    peak = int(cgroup("memory.peak"))
    events = dict(line.split() for line in cgroup("memory.events").splitlines())
    figure("largest file checked beside a full daemon: memory before and at most, MiB",
           f"{before >> 20} and {peak >> 20}")
    print(f"{len(held)} bodies; before {before >> 20} MiB, peak {peak >> 20} MiB; {events}")
    assert unit.pid == pid and events["oom_kill"] == "0" and events["max"] == "0", events
    assert peak < 256 << 20     # the rest of the unit's is for connections
