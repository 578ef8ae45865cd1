# SPDX-License-Identifier: Apache-2.0
"""The stand-ins as programs: local_kms.py, local_imds.py, local_container.py, or all in one
process with local_aws.py. Each writes into its --dir:

  state.json         where everything listens, and the keys; written when all is ready
  NAME.port          each stand-in's port
  ca.pem             the CA of the KMS's certificate
  credentials.json   the access keys that are valid (shared by programs with --credentials)
  control.sock       for control.py
  attestation/       with --attestation: a root and chain for `python3 -m nitro.attestation make`
  container-token    what LocalContainer wants in Authorization
"""

import argparse
import json
import os
import pathlib
import signal
import socket

from local_container import LocalContainer
from local_imds import LocalImds
from local_kms import DEFAULT_ACCOUNT, DEFAULT_KEYS, DEFAULT_REGION, LocalKms
from net.bridge import Bridge
from nitro.attestation import AttestationAuthority
from server.control_server import ControlServer
from server.credential_store import CredentialStore


def _parser(names):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--dir", required=True, type=pathlib.Path, help="folder for all that is listed above")
    add("--credentials", type=pathlib.Path,
        help="file of the access keys (default: DIR/credentials.json)")
    add("--account", default=DEFAULT_ACCOUNT)
    add("--region", action="append",
        help=f"may be repeated; the first is that of `localhost` (default: {DEFAULT_REGION})")
    for name in names:
        add("--listen" if len(names) == 1 else f"--{name}-listen", dest=f"{name}_listen",
            default="127.0.0.1:0", metavar="HOST:PORT", help=f"where {name} listens")
    if "kms" in names:
        add("--host", action="append", default=[], metavar="NAME=REGION",
            help="another name of the KMS")
        add("--keys", type=pathlib.Path, help="JSON file: a list of keys as LocalKms takes them")
        add("--tls", choices=("1.2", "1.3"), help="the only TLS version (default: both)")
        add("--attestation", action="store_true",
            help="verify attestation documents: only those of DIR/attestation are taken")
    if "imds" in names:
        add("--role", default="enclave-parent")
    if len(names) > 1:
        add("--bridge", action="append", default=[], metavar="LISTEN=TARGET",
            help="a byte bridge, such as 127.0.0.1:8000=unix:/run/dev.sock")
    return parser


def _split(address):
    host, _, port = address.rpartition(":")
    return {"listen": host.strip("[]"), "port": int(port)}


def _make_kms(options, credentials):
    root = None
    if options.attestation:
        folder = options.dir / "attestation"
        if not (folder / "chain.pem").exists():
            AttestationAuthority().save(folder)
        root = (folder / "root.der").read_bytes()
    keys = json.loads(options.keys.read_text(encoding="utf-8")) if options.keys else DEFAULT_KEYS
    kms = LocalKms(credentials, account=options.account, regions=options.region, keys=keys,
                   hosts=dict(h.split("=", 1) for h in options.host), tls=options.tls,
                   attestation_root=root, **_split(options.kms_listen))
    (options.dir / "ca.pem").write_bytes(kms.ca_pem())
    return kms


def _make_imds(options, credentials):
    # A program may run for days: like the real one, it renews ahead of expiry.
    return LocalImds(credentials, role=options.role, region=options.region[0],
                     account=options.account, rotate_ahead=600, **_split(options.imds_listen))


def _make_container(options, credentials):
    container = LocalContainer(credentials, account=options.account,
                               **_split(options.container_listen))
    _write_private(options.dir / "container-token", container.token)
    return container


MAKERS = {"kms": _make_kms, "imds": _make_imds, "container": _make_container}


def _write_private(path, text):
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _write_state(folder, standins, bridges):
    state = {"pid": os.getpid(), **{name: s.state() for name, s in standins.items()}}
    if bridges:
        state["bridges"] = [b.state() for b in bridges]
    for name, standin in standins.items():
        (folder / f"{name}.port").write_text(f"{standin.port}\n", encoding="ascii")
    new = folder / "state.json.new"
    new.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    os.replace(new, folder / "state.json")


def _tell_systemd():
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"READY=1", address.replace("@", "\0", 1))


def main(names, arguments=None):
    """Runs the named stand-ins until SIGTERM or SIGINT."""
    options = _parser(names).parse_args(arguments)
    options.region = options.region or [DEFAULT_REGION]
    options.dir.mkdir(parents=True, exist_ok=True)
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)       # before any thread: all inherit it
    credentials = CredentialStore(options.credentials or options.dir / "credentials.json")
    standins = {name: MAKERS[name](options, credentials).start() for name in names}
    bridges = [Bridge(b.split("=", 1)[1], listen=b.split("=", 1)[0]).start()
               for b in getattr(options, "bridge", [])]
    control = ControlServer(options.dir, standins)
    _write_state(options.dir, standins, bridges)
    _tell_systemd()
    print(*(f"{name} {s.url}" for name, s in standins.items()), sep="\n", flush=True)
    signal.sigwait(signals)
    control.stop()
    for one in (*bridges, *standins.values()):
        one.stop()
