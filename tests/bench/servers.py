# SPDX-License-Identifier: Apache-2.0
"""The programs that are measured, and the TLS upstream behind them.

Each listens on a Unix socket in the bench's folder and runs on the core of `place.proxy`; the
upstream and the generator have other cores where there are some.
"""

import json
import os
import pathlib
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
BULK = 8 * 1024 * 1024
DEADLINE = 20

# The daemon writes its audit records as it does in production: as datagrams to the journal's
# socket. A drain in the journal's place takes them, in a mount namespace of the daemon's own.
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


class Server:
    """One program: started by `with`, ended and waited for behind it."""
    name = ""
    tls = False  # whether clients speak TLS through it

    def __init__(self, bench, name=None):
        self.bench = bench
        self.name = name or self.name
        self.socket = bench.folder / f"{self.name}.sock"
        self.front = f"unix:{self.socket}"
        self.process = None

    def command(self):
        raise NotImplementedError

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
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*self.bench.place.pin(self.cores()), *map(str, self.command())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(log))

        def look():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {self.log.read_text(errors='replace')[-500:]}")
            return self.is_up()
        wait_for(look, f"{self.name} doesn't listen")
        return self

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.socket.unlink(missing_ok=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


# nginx: the upstream, a reverse proxy, and what answers 403 to all.

NGINX = """
{user} worker_processes 1; daemon off; pid {base}.pid; error_log {base}.err; worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
	access_log off; keepalive_requests 100000000; keepalive_timeout 600;
	client_max_body_size 2m; client_body_buffer_size 1m;
	client_body_temp_path {base}.body; proxy_temp_path {base}.proxy; fastcgi_temp_path {base}.fastcgi;
	uwsgi_temp_path {base}.uwsgi; scgi_temp_path {base}.scgi;
	{http}
}}
"""


class Nginx(Server):
    def http(self):
        raise NotImplementedError

    def command(self):
        base = self.bench.folder / self.name
        path = base.with_suffix(".conf")
        path.write_text(NGINX.format(base=base, http=self.http(), user="user root;" if os.geteuid() == 0 else ""))
        return ["nginx", "-p", self.bench.folder, "-e", f"{base}.err", "-c", path]


class Upstream(Nginx):
    """Answers all with what KMS answers to Encrypt, over TLS: to the proxies on loopback TCP, and on a
    Unix socket to clients that measure what an answer takes without a proxy."""
    name = "upstream"
    tls = True

    def __init__(self, bench):
        super().__init__(bench)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.status = bench.folder / "upstream-status.sock"

    def http(self):
        with open(self.bench.folder / "bulk", "wb") as f:
            f.write(os.urandom(BULK))
        return f"""
	server {{ listen {self.address} ssl; listen unix:{self.socket} ssl; ssl_certificate cert.pem; ssl_certificate_key key.pem;
		location / {{ default_type application/x-amz-json-1.1;
			add_header x-amzn-RequestId 8665cba7-079a-473a-9ce9-4f33e9a056b8; return 200 '{ANSWER}'; }}
		location /bulk {{ root {self.bench.folder}; }} }}
	server {{ listen unix:{self.status}; location / {{ stub_status; }} }}"""

    def cores(self):
        return self.bench.place.upstream

    def connections(self):
        """TLS connections accepted so far: all but those that asked."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.status))
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            text = s.makefile().read()
        self.asked = getattr(self, "asked", 0) + 1
        return int(text.split("requests\n")[1].split()[0]) - self.asked


class NginxProxy(Nginx):
    """The reference: a reverse proxy to a TLS upstream that it verifies. It signs nothing."""
    name = "nginx"

    def http(self):
        return f"""
	upstream kms {{ server {self.bench.upstream.address}; keepalive 512; keepalive_requests 100000000; }}
	server {{ listen unix:{self.socket}; location / {{
		proxy_pass https://kms; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host {HOST};
		proxy_ssl_server_name on; proxy_ssl_name {HOST}; proxy_ssl_verify on; proxy_ssl_trusted_certificate cert.pem; }} }}"""


class NginxRefusal(Nginx):
    name = "nginx-403"

    def http(self):
        return f"server {{ listen unix:{self.socket}; location / {{ return 403; }} }}"


HAPROXY = """
global
	nbthread 1
	maxconn 4096
	stats socket {base}.stats level admin
defaults
	timeout connect 10s
	timeout client 600s
	timeout server 600s
"""


class Haproxy(Server):
    def sections(self):
        raise NotImplementedError

    def command(self):
        path = self.bench.folder / f"{self.name}.conf"
        path.write_text(HAPROXY.format(base=self.bench.folder / self.name) + self.sections())
        return ["haproxy", "-db", "-f", path]


class HaproxyHttp(Haproxy):
    name = "haproxy"

    def sections(self):
        return f"""
listen kms
	mode http
	bind unix@{self.socket}
	http-reuse always
	server kms {self.bench.upstream.address} ssl verify required ca-file {self.bench.folder}/cert.pem sni str({HOST}) verifyhost {HOST} pool-max-conn 1024
"""


class HaproxyTcp(Haproxy):
    """TLS passed through by server name."""
    name = "haproxy-tcp"
    tls = True

    def sections(self):
        return f"""
frontend tls
	mode tcp
	bind unix@{self.socket}
	tcp-request inspect-delay 5s
	tcp-request content accept if {{ req.ssl_hello_type 1 }}
	use_backend kms if {{ req.ssl_sni -i {HOST} }}
backend kms
	mode tcp
	server kms {self.bench.upstream.address}
"""


class Socat(Server):
    """A process for each connection; no server name is looked at."""
    name = "socat"
    tls = True

    def command(self):
        return ["socat", f"UNIX-LISTEN:{self.socket},fork,backlog=1024", f"TCP:{self.bench.upstream.address}"]


class Drain(Server):
    """What stands for the journal: takes its datagrams, counts and drops them."""
    name = "journal"

    def __init__(self, bench):
        super().__init__(bench)
        (bench.folder / "journal").mkdir(exist_ok=True)
        self.socket = bench.folder / "journal" / "socket"
        self.counter = bench.folder / "journal.count"

    def command(self):
        return ["/usr/bin/python3", pathlib.Path(__file__).with_name("drain.py"), self.socket, self.counter]

    def count(self):
        return struct.unpack("=Q", self.counter.read_bytes())[0]

    def is_up(self):
        return self.socket.exists()

    def cores(self):
        return self.bench.place.generator


class Daemon(Server):
    """kms-vsock-proxyd with the configuration config(), which a row may change first."""
    name = "kms-vsock-proxy"

    def __init__(self, bench, name=None, tunnel=False, **changes):
        super().__init__(bench, name)
        self.tls = tunnel
        self.config = self.default_config()
        self.config.update(changes)
        if tunnel:
            self.enclave["tunnel"] = {"connections": 4096,
                                      "hosts": [{"host": HOST, "connect_to": bench.upstream.address}]}

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
        program = [self.bench.build / "daemon" / "kms-vsock-proxyd", "--config", path]
        if not self.bench.journal:
            return program
        return ["unshare", "--mount", "sh", "-c", WITH_JOURNAL, "sh", self.bench.journal.socket.parent, *program]

    def environment(self, log):
        kept = {k: v for k, v in os.environ.items()
                if not k.startswith("AWS_") and k not in ("JOURNAL_STREAM", "NOTIFY_SOCKET")}
        if self.bench.journal:
            stat = os.fstat(log.fileno())
            kept["JOURNAL_STREAM"] = f"{stat.st_dev}:{stat.st_ino}"
        return kept


def can_unshare():
    return os.geteuid() == 0 and \
        subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
