# SPDX-License-Identifier: Apache-2.0
"""docs/enclave.md, block after block as in an enclave: a bridge, the environment, a key, SDKs.

Not as there: the port, the other end of the bridge, and who signs the attestation document.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization

import npm
import snippets
from daemon import DEADLINE, wait_for
from daemon.help import ARN
from nitro.attestation import AttestationAuthority
from standins import LocalKms

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"
SECRET = b"the data key"
BLOCKS = snippets.of("enclave", "sh", "python", "javascript")


def block(part):
    """The block that has this in it."""
    found = [snippet for snippet in BLOCKS if part in snippet.text]
    assert len(found) == 1, f"{part!r} is in {[str(snippet) for snippet in found]}"
    return found[0].text


BRIDGE, EXPORTS, KEYS = block("socat "), block("export AWS_ENDPOINT_URL_KMS="), block("openssl genpkey ")
CURL, PYTHON_BLOCK, JAVASCRIPT = block("curl "), block("boto3.client("), block("KMSClient(")


def test_each_block_of_the_page_is_run_below():
    assert len(BLOCKS) == len({BRIDGE, EXPORTS, KEYS, CURL, PYTHON_BLOCK, JAVASCRIPT})


@pytest.fixture(scope="module")
def authority():
    return AttestationAuthority()


@pytest.fixture
def kms(authority):
    with LocalKms(attestation_root=authority.root) as service:
        yield service


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Inside:
    """An enclave's folder and environment, and the way to the daemon."""

    def __init__(self, folder, daemon):
        self.folder, self.port, self.path = folder, free_port(), daemon.socket_path()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.environment.update(HOME=str(folder), LC_ALL="C.UTF-8")

    def text(self, text):
        return text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}").replace(
            "TCP-LISTEN:8000", f"TCP-LISTEN:{self.port}").replace("VSOCK-CONNECT:3:8000", f"UNIX-CONNECT:{self.path}")

    def run(self, *command, **more):
        done = subprocess.run(command, cwd=self.folder, env={**self.environment, **more}, timeout=4 * DEADLINE,
                              capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def shell(self, text):
        return self.run("bash", "-e", "-c", self.text(text))

    def export(self, text):
        """Takes over what a block exports."""
        said = self.shell(text + "env -0\n").decode()
        self.environment.update(line.split("=", 1) for line in said.split("\0") if line.startswith("AWS_"))

    @contextlib.contextmanager
    def bridge(self):
        process = subprocess.Popen(["bash", "-c", self.text(BRIDGE) + "wait\n"], start_new_session=True)
        try:
            wait_for(self.reached, message="the bridge does not listen")
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()

    def reached(self):
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def inside(daemon, kms, authority, tmp_path):
    """An enclave with its bridge, its key, a document and something to decrypt."""
    rule = daemon.config["enclaves"]["payments"]["allow"][0]
    rule.update(keys=[ARN], actions=["Decrypt", "DescribeKey"], plaintext="refuse")
    folder = tmp_path / "enclave"
    folder.mkdir()
    (folder / "data-key.encrypted").write_bytes(kms.make_ciphertext(ARN, SECRET, {"app": "payments"}))
    with daemon:
        found = Inside(folder, daemon)
        with found.bridge():
            found.shell(KEYS)
            key = serialization.load_pem_private_key((folder / "private.pem").read_bytes(), None)
            public = (folder / "public.der").read_bytes()
            assert public == key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            (folder / "document.bin").write_bytes(authority.document(public))
            yield found


def python(inside, text):
    return inside.run(PYTHON, "-B", "-c", inside.text(text))


def know_recipient(inside):
    """Debian's botocore is older than Recipient: this is what a newer one has of it."""
    folder = inside.folder / "models/kms/2014-11-01"
    folder.mkdir(parents=True)
    shutil.copy(HERE / "recipient-sdk-extras.json", folder / "service-2.sdk-extras.json")
    inside.environment["AWS_DATA_PATH"] = str(inside.folder / "models")


def test_python_opens_what_only_the_enclave_can(inside, daemon):
    inside.export(EXPORTS)
    know_recipient(inside)
    said = python(inside, PYTHON_BLOCK + "import sys\nsys.stdout.buffer.write(data_key)\n")
    assert said == SECRET
    assert daemon.record(KMS_ACTION="Decrypt", VERDICT="allow")["RECIPIENT"] == "present"


def test_javascript_needs_nothing_but_the_environment(inside, daemon):
    (inside.folder / "node_modules").symlink_to(npm.installed(npm.SDK))
    (inside.folder / "open.mjs").write_text(inside.text(JAVASCRIPT) + "process.stdout.write(dataKey);\n")
    inside.export(EXPORTS)
    assert inside.run("node", "open.mjs") == SECRET
    assert daemon.record(KMS_ACTION="Decrypt", VERDICT="allow")["RECIPIENT"] == "present"


def test_curl_needs_no_credentials(inside, daemon):
    assert b"KeyMetadata" in inside.shell(CURL)
    daemon.record(KMS_ACTION="DescribeKey", VERDICT="allow")


# What the page says of versions.

ENDPOINT = "import boto3; print(boto3.client('kms').meta.endpoint_url)"


def test_an_older_boto3_ignores_the_variable(inside):
    version = python(inside, "import boto3; print(boto3.__version__)").decode()
    if tuple(map(int, version.split(".")[:2])) >= (1, 28):
        pytest.skip(f"boto3 {version} knows it")
    assert f"Debian 12's {'.'.join(version.split('.')[:2])} ignores it" in page()
    inside.export(EXPORTS)
    assert python(inside, ENDPOINT).decode().strip() == "https://kms.eu-central-1.amazonaws.com"
    # and that it goes by the other
    said = python(inside, ENDPOINT.replace("'kms'", "'kms', endpoint_url='http://127.0.0.1:8000'"))
    assert said.decode().strip() == f"http://127.0.0.1:{inside.port}"


def test_python_wants_the_default_region(inside):
    inside.export(EXPORTS)
    del inside.environment["AWS_DEFAULT_REGION"]
    assert inside.environment["AWS_REGION"]
    said = python(inside, "import boto3, botocore.exceptions as e\n"
                  "try:\n boto3.client('kms')\nexcept e.NoRegionError:\n print('none')\n")
    assert said == b"none\n"


def page():
    return (snippets.ROOT / "docs/enclave.md").read_text(encoding="utf-8")


def test_the_page_names_the_version_of_javascript_that_was_tried():
    version = re.search(r"@(\d+\.\d+)\.\d+$", npm.SDK)[1]
    assert f"`@aws-sdk/client-kms` | tried: {version} |" in page()
