# SPDX-License-Identifier: Apache-2.0
"""--check-config --here: what the file names and this machine must have."""

import grp
import os
import re
import socket
import subprocess

import pytest

from daemon import program
from standins import Authority

SECRET = "kPq2ExampleSecretAccessKey00000000000000"
KEYS = f"[default]\naws_access_key_id = AKIDEXAMPLE000000000\naws_secret_access_key = {SECRET}\n"
TEXT = """\
listen: [{unix: FOLDER/run/x.sock, enclave: payments, group: GROUP}]
endpoints:
  eu: {region: eu-central-1, ca_file: FOLDER/ca.pem}
credentials: {source: file, file: FOLDER/keys}
enclaves:
  payments:
    endpoints: [eu]
    allow: [{name: first, actions: [DescribeKey], keys: any}]
"""


@pytest.fixture
def path(tmp_path):
    """A file whose machine has all it names."""
    (tmp_path / "run").mkdir()
    (tmp_path / "ca.pem").write_bytes(Authority().pem())
    (tmp_path / "keys").write_text(KEYS)
    found = tmp_path / "x.yaml"
    found.write_text(TEXT.replace("FOLDER", str(tmp_path)).replace("GROUP", grp.getgrgid(os.getegid()).gr_name))
    return found


def check(path, *arguments, environment=None):
    """(exit status, what is said, without the path)"""
    found = subprocess.run([program(), "--config", path, "--check-config", *arguments], capture_output=True, text=True,
                           timeout=60, env={**os.environ, **(environment or {})})
    assert found.stdout == ""
    return found.returncode, found.stderr.replace(str(path.parent), "DIR")


def test_a_machine_that_has_all_is_silent(path):
    assert check(path, "--here") == (0, "")
    assert check(path) == (0, "")


def test_what_comes_through_a_pipe_is_read_once(path):
    found = subprocess.run([program(), "--config", "-", "--check-config", "--here"], input=path.read_text(),
                           capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def no_ca(folder):
    (folder / "ca.pem").unlink()


def bad_ca(folder):
    (folder / "ca.pem").write_text("no certificate\n")


def no_folder(folder):
    (folder / "run").rmdir()


def no_socket(folder):
    (folder / "run" / "x.sock").write_text("")


def no_keys(folder):
    (folder / "keys").unlink()


def bad_keys(folder):
    (folder / "keys").write_text(KEYS + f"{SECRET}\n")


def pipe_of_keys(folder):
    no_keys(folder)
    os.mkfifo(folder / "keys")


@pytest.mark.parametrize("spoil, said", [
    (no_ca, "DIR/x.yaml:3:36: error: ca_file: DIR/ca.pem: No such file or directory\n"),
    (bad_ca, "DIR/x.yaml:3:36: error: ca_file: DIR/ca.pem: no CA certificate can be read from this file\n"),
    (no_folder, "DIR/x.yaml:1:16: error: unix: no socket can be made in the folder DIR/run/: "
                "No such file or directory\n"),
    (no_socket, "DIR/x.yaml:1:16: error: unix: DIR/run/x.sock is there and is no socket\n"),
    (no_keys, "DIR/x.yaml:4:35: error: file: credentials file DIR/keys: No such file or directory\n"),
    (bad_keys, "DIR/x.yaml:4:35: error: file: credentials file DIR/keys has neither a [section] nor `name = value` "
               "in line 4\n"),
    (pipe_of_keys, "DIR/x.yaml:4:35: error: file: credentials file DIR/keys: not a regular file\n"),
])
def test_what_is_missing_is_an_error_with_its_place(path, spoil, said):
    spoil(path.parent)
    status, found = check(path, "--here")
    assert SECRET not in found
    assert status == 1 and re.sub(r":\d+:\d+:", ":", found) == re.sub(r":\d+:\d+:", ":", said)
    assert re.match(r"DIR/x.yaml:[134]:\d+: error: ", found)


@pytest.mark.parametrize("spoil", [no_ca, bad_ca])
def test_without_here_a_ca_file_is_only_warned_about(path, spoil):
    spoil(path.parent)
    status, found = check(path)
    assert status == 0 and re.fullmatch(r"DIR/x.yaml:3:\d+: warning: ca_file: DIR/ca.pem: .*\n", found), found


@pytest.mark.parametrize("spoil", [no_folder, no_socket, no_keys, bad_keys])
def test_without_here_nothing_is_said_of_what_only_the_service_has(path, spoil):
    spoil(path.parent)
    assert check(path) == (0, "")


def test_a_group_that_is_not_there(path):
    path.write_text(re.sub(r"group: [^}]*", "group: no-such-group", path.read_text()))
    said = "group: there is no group no-such-group\n"
    status, found = check(path)
    assert status == 0 and re.fullmatch(rf"DIR/x.yaml:1:\d+: warning: {said}", found), found
    status, found = check(path, "--here")
    assert status == 1 and re.fullmatch(rf"DIR/x.yaml:1:\d+: error: {said}", found), found


def test_a_socket_that_a_dead_daemon_left_is_no_fault(path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path.parent / "run" / "x.sock"))
    assert check(path, "--here") == (0, "")


def test_a_credential_of_the_unit(path):
    """Its name says nothing outside of the unit."""
    path.write_text(path.read_text().replace(f"file: {path.parent}/keys", "file: keys"))
    status, found = check(path, "--here")
    assert status == 0 and "warning: file: credentials file keys: $CREDENTIALS_DIRECTORY is not set" in found
    assert check(path, "--here", environment={"CREDENTIALS_DIRECTORY": str(path.parent)}) == (0, "")
    no_keys(path.parent)
    status, found = check(path, "--here", environment={"CREDENTIALS_DIRECTORY": str(path.parent)})
    assert status == 1 and "error: file: credentials file DIR/keys: No such file" in found


def test_a_token_file_of_a_container(path):
    path.write_text(re.sub("credentials: .*", f"credentials: {{source: container, container: {{token_file: "
                           f"{path.parent}/keys}}}}", path.read_text()))
    assert check(path, "--here") == (0, "")
    no_keys(path.parent)
    status, found = check(path, "--here")
    assert status == 1 and "error: token_file: DIR/keys: No such file or directory\n" in found


def test_here_goes_with_a_check(path):
    for mode in ([], ["--print-config"]):
        found = subprocess.run([program(), "--config", path, "--here", *mode], capture_output=True, text=True,
                               timeout=60, check=False)
        assert (found.returncode, found.stdout) == (2, "") and "--here goes with --check-config" in found.stderr
