# SPDX-License-Identifier: Apache-2.0
"""The local KMS and IMDS in the machine, in a process of their own: with the clients' they share
the machine's two processors. The IMDS has the real address; KMS is on loopback, where the
configuration's connect_to finds it."""

import json
import pathlib
import socket
import subprocess
import sys
import time

from control import Control

LIBRARY = pathlib.Path(__file__).resolve().parents[2] / "lib"
IMDS_ADDRESS = "169.254.169.254"


class LocalAws:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        subprocess.run(["ip", "address", "replace", f"{IMDS_ADDRESS}/32", "dev", "lo"], check=True)
        self.process = subprocess.Popen(
            [sys.executable, LIBRARY / "local_aws.py", "--dir", self.folder, "--attestation",
             "--imds-listen", f"{IMDS_ADDRESS}:80"], stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()      # the first of the lines that say all is ready
        self.state = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        self.control = Control(self.folder)

    def endpoint(self):
        """The local KMS as an entry of the configuration's `endpoints`."""
        kms = self.state["kms"]
        ca = pathlib.Path("/etc/kms-vsock-proxy-local.pem")     # where the service's user can read it
        ca.write_bytes((self.folder / "ca.pem").read_bytes())
        return {"host": next(iter(kms["hosts"])), "region": kms["region"],
                "connect_to": f"127.0.0.1:{kms['port']}", "ca_file": str(ca)}

    def ask(self, **command):
        """One command of tests/lib/control.py, such as ask(fault={"kind": "delay", ...})."""
        return self.control.ask(command)

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
    location / {{
      default_type application/x-amz-json-1.1;
      return 200 '{{"KeyMetadata":{{"KeyId":"1234abcd-12ab-34cd-56ef-1234567890ab"}}}}';
    }}
  }}
}}
"""


class FixedAnswer:
    """nginx with TLS and one answer."""

    HOST = "kms.eu-central-1.amazonaws.com"
    PORT = 9443

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-keyout", self.folder / "server.key", "-out", self.folder / "server.pem", "-subj", f"/CN={self.HOST}",
             "-addext", f"subjectAltName=DNS:{self.HOST}"], check=True, stderr=subprocess.DEVNULL)
        config = self.folder / "nginx.conf"
        config.write_text(NGINX.format(folder=self.folder, port=self.PORT), encoding="ascii")
        self.folder.chmod(0o755)
        self.folder.parent.chmod(0o755)
        self.process = subprocess.Popen(["nginx", "-c", config])
        deadline = time.monotonic() + 60
        while not self._listens():
            assert time.monotonic() < deadline and self.process.poll() is None, "nginx did not start"
            time.sleep(0.1)

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.PORT)) == 0

    def endpoint(self):
        ca = pathlib.Path("/etc/kms-vsock-proxy-fixed.pem")     # where the service's user can read it
        ca.write_bytes((self.folder / "server.pem").read_bytes())
        return {"host": self.HOST, "region": "eu-central-1", "connect_to": f"127.0.0.1:{self.PORT}", "ca_file": str(ca)}

    def stop(self):
        self.process.terminate()
        self.process.wait()
