# SPDX-License-Identifier: Apache-2.0
"""The operator's pages, followed literally, so that they can't rot: first the first hour, then what may be asked of a
machine that runs."""

import contextlib
import pathlib
import re
import subprocess

import journal
import service
import snippets
from kms.client import request


def shell(text):
    done = subprocess.run(["bash", "-e", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    print(f"$ {text}\n{done.stdout}")
    assert done.returncode == 0, done.stdout


def test_the_first_hour(unit, enclaves, aws):
    found = snippets.of("first-hour", "sh", "yaml")
    assert len({snippet.page for snippet in found}) == 1
    assert [snippet.language for snippet in found].count("yaml") == 1
    assert len(found) >= 5
    for snippet in found:
        if snippet.language == "sh":
            shell(snippet.text)
            continue
        # The one thing that is not as on AWS: where KMS is, and whose certificate it has.
        endpoint = aws.endpoint()
        unit.write(snippet.text.replace(
            "    region: eu-central-1", "    region: eu-central-1\n"
            f"    connect_to: {endpoint['connect_to']}\n    ca_file: {endpoint['ca_file']}"))
    assert unit.is_active()
    place = journal.cursor()
    with enclaves(16).client(service.PORT) as client:
        answer = client.ask(request("Decrypt", {"KeyId": "alias/payments", "CiphertextBlob": b"x"}))
        assert answer.status == 400     # an alias isn't the key that the page's rule names
    assert journal.wait_for(after=place, ENCLAVE="payments", VERDICT="refuse")
    for snippet in snippets.of("machine", "sh"):
        shell(snippet.text)


@contextlib.contextmanager
def unit_file(snippet):
    """Written where its first line says, for as long as it is needed."""
    path = pathlib.Path(re.match(r"# (/etc/systemd/system/\S+)\n", snippet.text)[1])
    path.parent.mkdir(exist_ok=True)
    path.write_text(snippet.text, encoding="utf-8")
    try:
        yield path
    finally:
        path.unlink()
        service.systemctl("daemon-reload")


def drop_ins(page):
    return [snippet for snippet in snippets.of("drop-in", "ini") if snippet.page == page]


def test_other_ports(unit, enclaves):
    unit.start()
    config, = [snippet for snippet in snippets.of("config", "yaml") if "vsock: 8141" in snippet.text]
    commands, = snippets.of("ports", "sh")
    several, another = drop_ins("docs/operating.md")
    for snippet, ports, text in ((several, (8000, 8141, 8142), config.text),
                                 (another, (8141,), re.sub(r"  - vsock: (?!8141).*\n", "", config.text))):
        unit.write(text)
        with unit_file(snippet):
            shell(commands.text)
            assert unit.is_active()
            for port in ports:
                with enclaves(16).client(port) as client:
                    assert client.ask(request("ListKeys", {})).error == "AccessDeniedException"
            shell("systemctl stop kms-vsock-proxy.socket kms-vsock-proxy.service")


def test_what_acms_agent_restarts():
    name = "nitro-enclaves-vsock-proxy"
    restart = f"systemctl restart {name}"
    stand_in, = drop_ins("docs/moving.md")
    with unit_file(stand_in) as path:
        assert path.stem == name
        shell(f"systemctl daemon-reload\n{restart}\n{restart}")
        shell(f"systemctl stop {name}")
    shell(f"systemctl mask --runtime {name}")     # what the page advises against
    assert subprocess.run(restart.split(), check=False).returncode != 0
    shell(f"systemctl unmask --runtime {name}")
