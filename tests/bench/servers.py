# SPDX-License-Identifier: Apache-2.0
"""What the programs that are measured share, and the daemon itself; peers.py has the others.

Each listens on a Unix socket in the bench's folder and runs on the core of `place.proxy`; the
upstream, the generator and what stands for the journal have other cores where there are some.
"""

import copy
import json
import os
import socket
import struct
import subprocess
import time

import proc
from load import HOST

REGION = "eu-central-1"
KEY = f"arn:aws:kms:{REGION}:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
CIPHERTEXT = "AQICACQx" + "MjM0YWJjZC0x" * 16
ANSWER = json.dumps({"CiphertextBlob": CIPHERTEXT, "KeyId": KEY, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"},
                    separators=(",", ":"))  # what KMS answers to Encrypt: about 350 bytes
DEADLINE = 20

# The daemon writes its audit records as it does in production: as datagrams to the journal's
# socket. What stands there takes them, in a mount namespace of the daemon's own.
WITH_JOURNAL = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal
mount --bind "$1" /run/systemd/journal
shift
exec "$@"
"""


class Place:
    """Which core has what."""

    def __init__(self):
        cores = sorted(os.sched_getaffinity(0))
        self.cores = len(cores)
        self.proxy = cores[:1]
        self.upstream = cores[1:2] or cores[:1]
        self.generator = cores[2:3] or self.upstream
        self.spare = cores[3:4]  # a second worker's

    def pin(self, cores):
        return ["taskset", "-c", ",".join(map(str, cores))]

    def __str__(self):
        if self.cores == 1:
            return "one core for everything: the generator steals from the proxies"
        together = "the generator and the upstream share core" if self.generator == self.upstream \
            else f"the generator has core {self.generator[0]}, the upstream core"
        return f"the proxy has core {self.proxy[0]}; {together} {self.upstream[0]}"


def wait_for(what, message):
    end = time.monotonic() + DEADLINE
    while not what():
        if time.monotonic() > end:
            raise RuntimeError(message)
        time.sleep(0.01)


def accepts(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        return s.connect_ex(address) == 0


def make_certificate(folder):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "30", "-subj", "/CN=bench", "-addext", f"subjectAltName=DNS:{HOST}",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    (folder / "both.pem").write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())


class Journal:
    """Stands for the journal of one program: journal.c, which takes records, counts and drops them."""

    def __init__(self, bench, name, text=False, naps=False):
        self.bench = bench
        self.name = name
        self.text = text             # lines on its standard input
        self.naps = naps             # nobody pays for waking it
        self.folder = bench.folder / f"{name}.journal"
        self.socket = self.folder / "socket"
        self.counts = self.folder / "counts"
        self.process = None

    def arguments(self):
        if self.text:
            return []
        return [self.socket, "nap"] if self.naps or self.bench.journal_naps else [self.socket]

    def start(self):
        self.folder.mkdir(exist_ok=True)
        self.counts.unlink(missing_ok=True)
        log = self.folder / "log"
        with open(log, "wb") as errors:
            self.process = subprocess.Popen(
                [*self.bench.place.pin(self.bench.place.generator), self.bench.build / "tests/bench/bench-journal",
                 self.counts, *self.arguments()],
                stdin=subprocess.PIPE if self.text else subprocess.DEVNULL, stderr=errors)

        def look():
            if self.process.poll() is not None:
                raise RuntimeError(log.read_text(errors="replace").strip())
            return self.counts.exists() and self.counts.stat().st_size if self.text else self.socket.exists()
        wait_for(look, f"what stands for the journal of {self.name} doesn't start")

    def stop(self):
        if self.process:
            if self.text:
                self.process.stdin.close()
            self.process.terminate()
            self.process.wait()
        self.socket.unlink(missing_ok=True)

    def count(self):
        """How many records it took, and their bytes."""
        return struct.unpack("=QQ", self.counts.read_bytes())


def journal_trouble(bench):
    """Why nothing can stand for the journal here; empty if it can."""
    if os.geteuid() != 0:
        return "not root: nothing can stand in the journal's place"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        return "no mount namespaces: nothing can stand in the journal's place"
    journal = Journal(bench, "trial")
    try:
        journal.start()
    except RuntimeError as e:
        return f"nothing can stand for the journal: {e}"
    finally:
        journal.stop()
    return ""


class Server:
    """One program: started by `with`, ended and waited for at its end."""
    name = ""
    tls = False      # whether clients speak TLS through it
    upstream = True  # whether it connects to one
    journal = None   # where it records what it does

    def __init__(self, bench, name=None):
        self.bench = bench
        self.name = name or self.name
        self.socket = bench.folder / f"{self.name}.sock"
        self.front = f"unix:{self.socket}"
        self.process = None

    def command(self):
        raise NotImplementedError

    def records(self, _load, n):
        """How many records n requests make; None: not one each."""
        return n if self.journal else 0

    def is_up(self):
        return accepts(socket.AF_UNIX, str(self.socket))

    def cores(self):
        return self.bench.place.proxy

    def environment(self, _log):
        return os.environ

    @property
    def pid(self):
        return self.process.pid

    def memory(self):
        return proc.memory(self.pid)

    def start(self):
        self.log = self.bench.folder / f"{self.name}.log"
        if self.journal:
            self.journal.start()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*self.bench.place.pin(self.cores()), *map(str, self.command())], stdin=subprocess.DEVNULL, stdout=log,
                stderr=self.journal.process.stdin if self.journal and self.journal.text else log,
                env=self.environment(log))

        def look():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {self.log.read_text(errors='replace')[-500:]}")
            return self.is_up()
        wait_for(look, f"{self.name} doesn't listen")
        return self

    def stop(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.journal:
            self.journal.stop()
        self.socket.unlink(missing_ok=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()


class Daemon(Server):
    """kms-vsock-proxyd with the configuration config(), which a row may change first."""
    name = "kms-vsock-proxy"

    def __init__(self, bench, name=None, tunnel=False, text=False, **changes):
        super().__init__(bench, name)
        self.tls = tunnel
        self.build = bench.build
        if text or not bench.no_journal:
            self.journal = Journal(bench, self.name, text)
        self.config = self.default_config()
        self.config.update(changes)
        if tunnel:
            self.enclave["tunnel"] = {"connections": 4096,
                                      "hosts": [{"host": HOST, "connect_to": bench.upstream.address}]}

    def of_build(self, build):
        """The same daemon of another build."""
        other = type(self)(self.bench, "other-build", self.tls, bool(self.journal and self.journal.text))
        other.config = {**copy.deepcopy(self.config), "listen": other.config["listen"]}
        other.build, other.upstream = build, self.upstream
        return other

    def records(self, load, n):
        """Of a tunnel two: when it opens and when it ends."""
        if self.config.get("audit") == "refusals":
            return 0
        if self.tls:
            return 2 * n if load.close else 2 * load.clients
        return n

    @property
    def enclave(self):
        return self.config["enclaves"]["payments"]

    def default_config(self):
        folder = self.bench.folder
        (folder / "credentials.json").write_text(json.dumps({
            "AccessKeyId": "ASIAEXAMPLEEXAMPLE77", "SecretAccessKey": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY12",
            "SessionToken": "IQoJb3JpZ2luX2Vj" + "A" * 1008}))  # tokens of roles are about 1 KiB
        os.chmod(folder / "credentials.json", 0o600)
        return {
            "listen": [{"unix": str(self.socket), "enclave": "payments"}],
            "endpoints": {"kms": {"region": REGION, "connect_to": self.bench.upstream.address,
                                  "ca_file": str(folder / "cert.pem"), "connections": 128}},
            "credentials": {"source": "file", "file": str(folder / "credentials.json")},
            "limits": {"requests": "100000/s", "burst": 200000, "in_flight": 1024, "connections": 2048},
            "enclaves": {"payments": {"endpoints": ["kms"], "allow": [
                {"name": "use", "actions": ["Encrypt"], "keys": [KEY], "plaintext": "allow"}]}},
        }

    def command(self):
        path = self.bench.folder / f"{self.name}.yaml"
        path.write_text(json.dumps(self.config, separators=(",", ":")))
        program = [self.build / "daemon" / "kms-vsock-proxyd", "--config", path]
        if not self.journal or self.journal.text:
            return program
        return ["unshare", "--mount", "sh", "-c", WITH_JOURNAL, "sh", self.journal.folder, *program]

    def environment(self, log):
        kept = {k: v for k, v in os.environ.items()
                if not k.startswith("AWS_") and k not in ("JOURNAL_STREAM", "NOTIFY_SOCKET")}
        if self.journal and not self.journal.text:
            stat = os.fstat(log.fileno())
            kept["JOURNAL_STREAM"] = f"{stat.st_dev}:{stat.st_ino}"
        return kept
