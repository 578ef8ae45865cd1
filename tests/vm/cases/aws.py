# SPDX-License-Identifier: Apache-2.0
"""The local KMS and IMDS in the machine, in a process of their own: with the clients' they share
the machine's two processors. The IMDS has the real address; KMS is on loopback, where the
configuration's connect_to finds it."""

import json
import pathlib
import subprocess
import sys

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
        return {"host": next(iter(kms["hosts"])), "region": kms["region"],
                "connect_to": f"127.0.0.1:{kms['port']}", "ca_file": str(self.folder / "ca.pem")}

    def ask(self, **command):
        """One command of tests/lib/control.py, such as ask(fault={"kind": "delay", ...})."""
        return self.control.ask(command)

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
