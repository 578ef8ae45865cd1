# SPDX-License-Identifier: Apache-2.0
"""The load generator: nghttp2's h2load with --h1, which speaks over Unix sockets and TLS."""

import dataclasses
import pathlib
import re
import subprocess

HOST = "kms.eu-central-1.amazonaws.com"


class LoadError(Exception):
    """A run that measured something else than it should have."""


@dataclasses.dataclass(frozen=True)
class Load:
    """What to send."""
    clients: int = 64
    body: bytes = b""            # POST if not empty, else GET
    path: str = "/"
    close: bool = False          # a connection for each request
    rate: int = 0                # open loop: requests a second in all, 100 a client at most (h2load's clock of a
                                 # client ticks each 10 ms, and what is due by then goes at once); 0: as fast as it goes
    expect: str = "2xx"


@dataclasses.dataclass
class Run:
    requests: int
    seconds: float
    bytes: int
    latencies: list              # us, sorted

    @property
    def rate(self):
        return self.requests / self.seconds

    def percentile(self, p):
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * p / 100))]


_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def _seconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", text).groups()
    return float(number) * _UNITS[unit]


def _command(front, tls, load, n, folder):
    scheme = "https" if tls else "http"
    command = ["h2load", "--h1", "-t1", f"-n{n}", f"-c{load.clients}", "-B", front,
               f"--log-file={folder / 'latency'}",
               "-H", "X-Amz-Target: TrentService.Encrypt",
               "-H", "Content-Type: application/x-amz-json-1.1"]
    if load.body:
        (folder / "body").write_bytes(load.body)
        command += ["-d", folder / "body"]
    if load.close:
        command += ["-H", "Connection: close"]
    if load.rate:
        # Started a millisecond apart: else all clients send at the same instant, each time.
        command += ["--rps", str(load.rate / load.clients), "--rate=1", "--rate-period=1ms"]
    return [*command, f"{scheme}://{HOST}{load.path}"]


def run(front, tls, load, n, folder, prefix=()):
    """Sends n requests to a front (`unix:PATH` or HOST:PORT) and checks each answer's status."""
    folder = pathlib.Path(folder)
    (folder / "latency").unlink(missing_ok=True)  # h2load appends
    command = [*prefix, *_command(front, tls, load, n, folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    found = re.search(rf"status codes:.*?(\d+) {load.expect}", done.stdout)
    if done.returncode or not found or int(found[1]) != n:
        said = [line for line in done.stdout.splitlines() if line.startswith(("requests", "status"))]
        raise LoadError(f"not {n} answers {load.expect}: {'; '.join(said) or done.stderr.strip()}")
    data = re.search(r"\((\d+)\) data", done.stdout)
    lines = (folder / "latency").read_text().splitlines()
    return Run(requests=n, bytes=int(data[1]),
               seconds=_seconds(re.search(r"finished in ([\d.]+\w+)", done.stdout)[1]),
               latencies=sorted(int(line.split("\t")[2]) for line in lines))
