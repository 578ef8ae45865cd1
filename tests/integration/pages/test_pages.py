# SPDX-License-Identifier: Apache-2.0
"""The other blocks of README.md and docs/: each does what its page says."""

import os
import pathlib
import re
import subprocess

import pytest

import snippets
from daemon import program

ROOT = snippets.ROOT
BUILD = pathlib.Path(os.environ.get("KMS_VSOCK_PROXY_BUILD", ROOT / "build")).absolute()


def named(found):
    """With ids that stay when a page grows."""
    return [pytest.param(snippet, id=f"{pathlib.Path(snippet.page).stem}-{number}")
            for number, snippet in enumerate(found, 1)]


def run(*command, **how):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **how)


# ./quickstart

VARYING = ((r"(?<=127\.0\.0\.1:)\d+", "PORT"), (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID"),
           (r"(?<=_USEC=)\d+", "N"), (r"(?<=BYTES_IN=)\d+", "N"), (r"(?<=BYTES_OUT=)\d+", "N"), (r"\s+", " "))


def without_what_varies(text):
    """Without ports, ids and times, and where lines are broken because of them."""
    for pattern, instead in VARYING:
        text = re.sub(pattern, instead, text)
    return text.strip()


@pytest.fixture(scope="module")
def tour():
    """What ./quickstart prints, with the build that is there."""
    done = run(ROOT / "quickstart", env={**os.environ, "KMS_VSOCK_PROXY_BUILD": str(BUILD)}, timeout=300)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("snippet", named(snippets.of("quickstart", "console")))
def test_what_a_page_shows_of_quickstart_is_what_it_prints(tour, snippet):
    step = re.search(r"^7\. .*?^  ok\n", re.sub(r"\x1b\[\d*m", "", tour), re.M | re.S)[0]
    step = re.sub(r"^ +\n", "", step, flags=re.M).replace("/usr/bin/aws", "aws")
    snippets.same(snippet, step, without_what_varies)


def test_quickstart_prints_a_record_for_a_person(tour):
    records = re.findall(r"^  journal: (.*)\n((?: {9,}.*\n)+)", tour, re.M)
    assert len(records) == 8
    for message, fields in records:
        assert re.match(r"(info|warning): payments: \w+ (allowed|refused)", message) and "ENCLAVE=" not in message
        assert fields.split()[0] == "ENCLAVE=payments"
        assert all(len(line) <= 100 for line in fields.splitlines())
        assert all(re.fullmatch(r"[A-Z_]+=\S+", field) for field in fields.split())


@pytest.mark.parametrize("snippet", named(snippets.of("tour", "sh")))
def test_the_commands_to_try_are_there(tour, snippet):
    assert tour
    commands = [line.split("#")[0].split() for line in snippet.text.splitlines()]
    assert commands == [["./quickstart"], ["./test"]]   # a test can't run all tests
    assert run(ROOT / "test", "--list").returncode == 0


# To build and install.

@pytest.mark.parametrize("snippet", named(snippets.of("install", "sh")))
def test_the_commands_to_install(snippet, tmp_path):
    if os.environ.get("KMS_VSOCK_PROXY_SLOW"):
        pytest.skip("the same with a sanitizer elsewhere")
    text = re.sub(r"\bsetup build\b", f"setup {tmp_path}/build", snippet.text)
    text = re.sub(r"-C build\b", f"-C {tmp_path}/build", text)
    assert text.count(str(tmp_path)) == 2
    done = run("bash", "-e", "-c", text, cwd=ROOT, env={**os.environ, "DESTDIR": str(tmp_path / "root")})
    assert done.returncode == 0, done.stdout[-4000:]
    for name in ("usr/sbin/kms-vsock-proxyd", "usr/lib/systemd/system/kms-vsock-proxy.socket",
                 "etc/nitro_enclaves/kms-vsock-proxy.yaml", "usr/share/doc/kms-vsock-proxy/examples/minimal.yaml",
                 "usr/share/doc/kms-vsock-proxy/docs/troubleshooting.md"):
        assert (tmp_path / "root" / name).is_file(), name


# Configurations.

@pytest.mark.parametrize("snippet", named(snippets.of("config", "yaml")))
def test_a_configuration_has_no_mistake(snippet, tmp_path):
    (tmp_path / "file.yaml").write_text(snippet.text)
    done = run(program(), "--config", tmp_path / "file.yaml", "--check-config")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("snippet", named(snippets.of("warned", "yaml")))
def test_a_configuration_has_warnings_only(snippet, tmp_path):
    (tmp_path / "file.yaml").write_text(snippet.text)
    done = run(program(), "--config", tmp_path / "file.yaml", "--check-config")
    assert done.returncode == 0 and done.stdout, done.stdout
    assert all(": warning: " in line for line in done.stdout.splitlines()), done.stdout


def first_hour():
    """The configuration of the first hour."""
    config, = [s.text for s in snippets.of("first-hour", "sh", "yaml") if s.language == "yaml"]
    return config


@pytest.mark.parametrize("snippet", named(snippets.of("dropped-in", "yaml")))
def test_a_drop_in_has_no_mistake(snippet, tmp_path):
    """Beside the configuration of the first hour, in place of its enclaves."""
    name = re.match(r"# /etc/nitro_enclaves/(kms-vsock-proxy\.d/\S+)\n", snippet.text)[1]
    path, dropped = tmp_path / "kms-vsock-proxy.yaml", tmp_path / name
    path.write_text(first_hour().partition("enclaves:\n")[0])
    assert run(program(), "--config", path, "--check-config").returncode == 1     # it lacks enclaves
    dropped.parent.mkdir(mode=0o750)
    dropped.write_text(snippet.text)
    dropped.chmod(0o640)
    done = run(program(), "--config", path, "--check-config")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("snippet", named(snippets.of("explain", "console")))
def test_what_a_page_shows_of_explain_is_what_it_prints(snippet, tmp_path):
    """About the configuration of the first hour, as if it were where it is installed."""
    path = tmp_path / "kms-vsock-proxy.yaml"
    path.write_text(first_hour())
    command = snippet.text.splitlines()[0]
    name, *arguments = command.removeprefix("$ ").split()
    assert name == "kms-vsock-proxyd"
    done = run(program(), "--config", path, *arguments, cwd=tmp_path)
    printed = done.stdout.replace(str(path), "/etc/nitro_enclaves/kms-vsock-proxy.yaml")
    snippets.same(snippet, f"{command}\n{printed}")


def test_what_the_importer_makes_of_a_list(tmp_path):
    given, = snippets.of("import", "yaml")
    made, = snippets.of("imported", "yaml")
    (tmp_path / "vsock-proxy.yaml").write_text(given.text)
    done = subprocess.run([program(), "--import-vsock-proxy", tmp_path / "vsock-proxy.yaml"],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    enclaves = done.stdout[done.stdout.index("enclaves:\n"):]
    snippets.same(made, "".join(re.sub("^#", "", line) for line in enclaves.splitlines(True)))


# Units.

@pytest.mark.parametrize("snippet", named(snippets.of("drop-in", "ini")))
def test_systemd_takes_a_unit(snippet, tmp_path):
    path = re.match(r"# /etc/systemd/system/(\S+)\n", snippet.text)[1]
    for unit in ("kms-vsock-proxy.socket", "kms-vsock-proxy.service.in"):
        text = (ROOT / "systemd" / unit).read_text(encoding="utf-8")
        text = text.replace("@sbindir@/kms-vsock-proxyd", "/bin/true").replace("User=kms-vsock-proxy", "User=root")
        (tmp_path / unit.removesuffix(".in")).write_text(text)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(snippet.text)
    unit = path.split("/")[0].removesuffix(".d")
    done = run("systemd-analyze", "verify", "--man=no", "--generators=no", f"./{unit}", cwd=tmp_path,
               env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"})
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
    # and it is read: with a mistake in it systemd has something to say
    (tmp_path / path).write_text(snippet.text + "NoSuchOption=1\n")
    done = run("systemd-analyze", "verify", "--man=no", "--generators=no", f"./{unit}", cwd=tmp_path,
               env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"})
    assert "NoSuchOption" in done.stdout
