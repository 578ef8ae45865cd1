#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Switches a running stand-in program, over the Unix socket `control.sock` in its folder.

  control.py DIR '{"fault": {"kind": "delay", "seconds": 2, "action": "Decrypt"}}'
  control.py DIR '{"clear": true}'                  all faults, or one by its id
  control.py DIR '{"requests": {"since": 10}}'      what was asked, from number 11 on
  control.py DIR '{"rotate": true}'                 new credentials
  control.py DIR '{"revoke": true}'                 KMS refuses the current ones, or a key id
  control.py DIR '{"to": "imds", "set": {"role": null}}'

One JSON object a line goes in, one comes out; `to` names the stand-in where there are several
(default: the first, which is kms). The commands are the functions of control_server.COMMANDS.
"""

import json
import pathlib
import socket
import sys


class Control:
    """A connection to a stand-in program."""

    def __init__(self, folder):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(pathlib.Path(folder, "control.sock")))
        self._file = self._socket.makefile("rwb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._socket.close()

    def ask(self, command):
        """Sends one command; raises ValueError when it is refused."""
        self._file.write(json.dumps(command).encode() + b"\n")
        self._file.flush()
        answer = json.loads(self._file.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with Control(sys.argv[1]) as control:
        try:
            print(json.dumps(control.ask(json.loads(sys.argv[2])), indent=1))
        except ValueError as error:
            sys.exit(f"control.py: {error}")


if __name__ == "__main__":
    main()
