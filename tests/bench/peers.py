# SPDX-License-Identifier: Apache-2.0
"""What the daemon is measured beside, and the TLS upstream behind all of them.

TLS 1.2 and 1.3 are allowed on every side, as the daemon has it: nginx before 1.23.4 leaves 1.3 off unless told. What
was agreed on is in the upstream's log, a line for each connection when its first request is over.
"""

import os
import socket

from load import HOST
from servers import ANSWER, Journal, Server

BULK = 8 * 1024 * 1024
PROTOCOLS = "TLSv1.2 TLSv1.3"
SUITE = "TLS_AES_256_GCM_SHA384"  # OpenSSL's first; h2load would ask for another

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
    name = "direct"
    tls = True

    def __init__(self, bench):
        super().__init__(bench)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.status = bench.folder / "upstream-status.sock"
        self.tls_log = bench.folder / "upstream.tls"
        self.asked = 0

    def http(self):
        with open(self.bench.folder / "bulk", "wb") as f:
            f.write(os.urandom(BULK))
        return f"""
	log_format tls "$ssl_protocol $ssl_cipher $ssl_session_reused";
	map $connection_requests $is_first {{ 1 1; default 0; }}
	ssl_protocols {PROTOCOLS}; ssl_conf_command Ciphersuites {SUITE};
	server {{ listen {self.address} ssl; listen unix:{self.socket} ssl; ssl_certificate cert.pem; ssl_certificate_key key.pem;
		access_log {self.tls_log} tls if=$is_first;
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
        self.asked += 1
        return int(text.split("requests\n")[1].split()[0]) - self.asked

    def agreements(self, offset):
        """What the connections agreed on that came after `offset` of the log: [(protocol, suite, resumed)],
        and the new offset."""
        with open(self.tls_log, "rb") as f:
            f.seek(offset)
            text = f.read()
        text = text[:text.rfind(b"\n") + 1]
        lines = [line.split() for line in text.decode().splitlines()]
        return [(protocol, suite, resumed == "r") for protocol, suite, resumed in lines], offset + len(text)


class NginxProxy(Nginx):
    """A reverse proxy to a TLS upstream that it verifies. It signs nothing and writes no log."""
    name = "nginx"

    def access_log(self):
        return ""

    def http(self):
        return f"""
	upstream kms {{ server {self.bench.upstream.address}; keepalive 512; keepalive_requests 100000000; }}
	server {{ listen unix:{self.socket}; {self.access_log()} location / {{
		proxy_pass https://kms; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host {HOST};
		proxy_ssl_protocols {PROTOCOLS}; proxy_ssl_server_name on; proxy_ssl_name {HOST};
		proxy_ssl_verify on; proxy_ssl_trusted_certificate cert.pem; }} }}"""


class Logging:
    """An nginx that records each request as its `combined` format has it, by a datagram of its own to the
    same kind of socket that the daemon's records go to."""

    def __init__(self, bench, name=None, naps=False):
        super().__init__(bench, name)
        self.journal = Journal(bench, self.name, naps=naps)

    def access_log(self):
        return f"access_log syslog:server=unix:{self.journal.socket},nohostname combined;"


class NginxSyslog(Logging, NginxProxy):
    name = "nginx-syslog"


class NginxRefusal(Nginx):
    name = "nginx-403"
    upstream = False

    def access_log(self):
        return ""

    def http(self):
        return f"server {{ listen unix:{self.socket}; {self.access_log()} location / {{ return 403; }} }}"


class NginxRefusalSyslog(Logging, NginxRefusal):
    name = "nginx-403-syslog"


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
	server kms {self.bench.upstream.address} ssl ssl-min-ver TLSv1.2 verify required ca-file {self.bench.folder}/cert.pem sni str({HOST}) verifyhost {HOST} pool-max-conn 1024
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


class Floor(Server):
    """floor.c: what a proxy that signs and records can't do without, and nothing else. It knows beforehand
    what `load` sends."""
    name = "floor"
    keeps = False

    def __init__(self, bench, load, name=None):
        super().__init__(bench, name)
        self.load = load
        self.journal = Journal(bench, self.name)

    def command(self):
        return [self.bench.build / "tests/bench/bench-floor", self.socket, self.bench.upstream.port,
                self.bench.folder / "cert.pem", self.journal.socket, len(self.load.body),
                *(["close"] if self.load.close else ["keep"] if self.keeps else [])]


class FloorKept(Floor):
    """The same, but the hash of what each canonical request begins with is kept, as ours keeps it."""
    name = "kept-floor"
    keeps = True
