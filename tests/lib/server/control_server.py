# SPDX-License-Identifier: Apache-2.0
"""The other end of control.py: commands as JSON lines on a Unix socket."""

import base64
import json
import pathlib
import socketserver
import threading

COMMANDS = {}
SETTABLE = ("clock_offset", "role", "region", "rotate_ahead", "token", "attestation_time")


def command(function):
    COMMANDS[function.__name__] = function
    return function


@command
def fault(standin, how):
    """{"kind": ..., "count": n or null, "action", "path", "body_contains", and its parameters}"""
    return {"id": standin.fault(**how).number}


@command
def clear(standin, which):
    return {"cleared": standin.clear(None if which is True else which)}


@command
def faults(standin, _):
    return {"faults": standin.server.faults.listing()}


@command
def requests(standin, which):
    since = which.get("since", 0) if isinstance(which, dict) else 0
    found = [r.as_dict() for r in standin.requests if r.number > since]
    return {"requests": found, "last": max([since, *(r["number"] for r in found)])}


@command
def connections(standin, _):
    return {"connections": [c.as_dict() for c in standin.connections],
            "resumptions": standin.resumptions}


@command
def wait(standin, how):
    """{"requests": n, "action": ..., "timeout": s}: until so many requests were read."""
    found = standin.wait_for_requests(how.get("requests", 1), how.get("action"),
                                      how.get("timeout", 10))
    return {"requests": [r.as_dict() for r in found]}


@command
def rotate(standin, how):
    """true, or {"lifetime": s, "revoke_old": true, "token_length": n}"""
    fresh = standin.credentials.rotate(**(how if isinstance(how, dict) else {}))
    return {"access_key_id": fresh.access_key_id}


@command
def revoke(standin, which):
    """true (the current credentials) or an access key id: ExpiredTokenException from now on."""
    standin.credentials.revoke(None if which is True else which)
    return {}


@command
def forget(standin, which):
    """true or an access key id: UnrecognizedClientException from now on."""
    standin.credentials.forget(None if which is True else which)
    return {}


@command
def invalidate_tokens(standin, _):
    """The tokens of IMDS."""
    standin.invalidate_tokens()
    return {}


@command
def stop(standin, _):
    """Refuses connections, until start."""
    standin.stop()
    return {}


@command
def start(standin, _):
    standin.start()
    return {}


@command
def drop_connections(standin, _):
    standin.drop_connections()
    return {}


@command
def ciphertext(standin, how):
    """{"key", "plaintext": base64, "context": {...}, "size": n}: a blob as Encrypt makes it."""
    blob = standin.make_ciphertext(how["key"], base64.b64decode(how["plaintext"]),
                                   how.get("context"), how.get("size"))
    return {"ciphertext": base64.b64encode(blob).decode()}


@command
def state(standin, _):
    return standin.state()


def _perform(standins, line):
    request = json.loads(line)
    standin = standins[request.pop("to", next(iter(standins)))]
    settings = request.pop("set", {})
    for name, value in settings.items():
        if name not in SETTABLE or not hasattr(standin, name):
            raise ValueError(f"no setting {name!r} here")
        setattr(standin, name, value)
    if not request and settings:
        return {}
    (name, argument), = request.items()
    if name not in COMMANDS:
        raise ValueError(f"no command {name!r}; there are: {', '.join(COMMANDS)}, set")
    return COMMANDS[name](standin, argument)


class _Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            try:
                answer = _perform(self.server.standins, line)
            except Exception as error:      # whatever it is, the caller must see it
                answer = {"error": f"{type(error).__name__}: {error}"}
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class ControlServer(socketserver.ThreadingUnixStreamServer):
    """standins: by name; the first is the one that commands without `to` are for."""

    daemon_threads = True

    def __init__(self, folder, standins):
        self.standins = standins
        self._path = pathlib.Path(folder, "control.sock")
        self._path.unlink(missing_ok=True)
        super().__init__(str(self._path), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()
        self._path.unlink(missing_ok=True)
