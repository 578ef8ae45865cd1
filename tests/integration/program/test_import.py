# SPDX-License-Identifier: Apache-2.0
"""--import-vsock-proxy, from the command line to a daemon that serves what it printed."""

import subprocess

from daemon import program
from daemon.tunnel_help import Host, ask, running
from net.tls_hello import client_hello

ALLOWLIST = """\
allowlist:
- {address: kms.us-east-2.amazonaws.com, port: 443}
- {address: 169.254.169.254, port: 80}
- {address: kms-fips.us-east-2.amazonaws.com, port: 443}
"""


def run(*arguments, text=None):
    return subprocess.run([program(), *arguments], input=text, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)


def test_a_file_and_standard_input_give_the_same(tmp_path):
    file = tmp_path / "vsock-proxy.yaml"
    file.write_text(ALLOWLIST)
    by_name, by_input = run("--import-vsock-proxy", file), run("--import-vsock-proxy", "-", text=ALLOWLIST)
    assert (by_name.returncode, by_input.returncode) == (0, 0)
    assert by_name.stdout.splitlines()[1:] == by_input.stdout.splitlines()[1:]
    assert by_name.stderr.startswith(f"{file}:3:3: warning: address: 169.254.169.254 is an IP address")
    assert by_input.stderr.startswith("-:3:3: warning: ")


def test_errors_name_their_place_and_nothing_is_printed(tmp_path):
    file = tmp_path / "vsock-proxy.yaml"
    file.write_text("allowlist:\n- {address: kms.us-east-2.amazonaws.com, port: https}\n")
    done = run("--import-vsock-proxy", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{file}:2:48: error: port: ")
    missing = run("--import-vsock-proxy", tmp_path / "none")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "No such file" in missing.stderr
    assert run("--import-vsock-proxy").returncode == 2


def test_what_is_printed_serves_once_the_enclaves_are_filled_in(daemon):
    printed = run("--import-vsock-proxy", "-", text=ALLOWLIST).stdout
    head, _, enclaves = printed.partition("enclaves:\n")
    filled = head + "enclaves:\n" + "".join(line.removeprefix("#") for line in enclaves.splitlines(True))
    file = daemon.folder / "imported.yaml"
    file.write_text(filled)
    checked = run("--config", file, "--check-config")
    assert (checked.returncode, checked.stderr) == (0, "")
    with Host() as host:
        # As it is, but for the place: a Unix socket here, and hosts that are on this machine.
        path = daemon.folder / "my-enclave.sock"
        daemon.config = filled.replace(
            "  - vsock: 8000", f"  - {{unix: {path}, enclave: my-enclave}}").replace(
            "- kms.us-east-2.amazonaws.com:443",
            f'- {{host: kms.us-east-2.amazonaws.com, connect_to: "{host.address}"}}')
        daemon.socket_path = lambda _: str(path)
        daemon.start(wait=True)
        with running(daemon):
            hello = client_hello("kms.us-east-2.amazonaws.com")
            ask(daemon, hello)
            assert host.accept().receive(len(hello)) == hello


def test_each_old_port_is_a_listener_and_a_line_for_the_socket_unit():
    printed = run("--import-vsock-proxy", "-", "--port", "8141", "--port", "8000", "--port", "8141", text=ALLOWLIST)
    assert printed.returncode == 0
    lines = printed.stdout.splitlines()
    assert [line for line in lines if "vsock: " in line] == ["  - vsock: 8141", "  - vsock: 8000"]
    assert [line for line in lines if "ListenStream" in line] == ["#      ListenStream=vsock::8141"]
    assert "ListenStream" not in run("--import-vsock-proxy", "-", "--port", "8000", text=ALLOWLIST).stdout


def test_an_endpoint_of_a_vpc_is_reached_by_the_name_that_an_sdk_asks_for(daemon):
    text = "allowlist:\n- {address: VPCE-0a-1b.kms.eu-central-1.vpce.amazonaws.com., port: 443}\n"
    printed = run("--import-vsock-proxy", "-", text=text).stdout
    head, _, enclaves = printed.partition("enclaves:\n")
    filled = head + "enclaves:\n" + "".join(line.removeprefix("#") for line in enclaves.splitlines(True))
    place = '"vpce-0a-1b.kms.eu-central-1.vpce.amazonaws.com:443"'
    assert f"{{host: kms.eu-central-1.amazonaws.com, port: 443, connect_to: {place}}}" in filled
    with Host() as host:
        path = daemon.folder / "my-enclave.sock"
        daemon.config = filled.replace(
            "  - vsock: 8000", f"  - {{unix: {path}, enclave: my-enclave}}").replace(place, f'"{host.address}"')
        daemon.socket_path = lambda _: str(path)
        daemon.start(wait=True)
        with running(daemon):
            hello = client_hello("kms.eu-central-1.amazonaws.com")
            ask(daemon, hello)
            assert host.accept().receive(len(hello)) == hello
