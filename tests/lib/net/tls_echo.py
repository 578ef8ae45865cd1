# SPDX-License-Identifier: Apache-2.0
"""A TLS server that sends back what it gets, a thread a connection.

    with TlsEcho(["kms.eu-central-1.amazonaws.com"]) as echo:
        ... connect to echo.address, trust echo.ca_pem() ...
        assert echo.sessions[-1].version == "TLSv1.3"
"""

import dataclasses
import socket
import ssl
import threading

from server.tls_certs import ServerIdentity


@dataclasses.dataclass
class Session:
    version: str
    name: str       # the server name that was asked for
    resumed: bool
    echoed: int = 0


class TlsEcho:
    """version: the only TLS version spoken, "1.2" or "1.3". limit: a connection is closed when so
    many bytes were sent back."""

    def __init__(self, names, version=None, limit=None):
        self.identity = ServerIdentity(names)
        self.limit = limit
        self.sessions = []
        self._context = self.identity.context(version=version)
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def address(self):
        return "{}:{}".format(*self._listener.getsockname())

    def ca_pem(self):
        return self.identity.authority.pem()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with self._context.wrap_socket(client, server_side=True) as tls:
                session = Session(tls.version(), getattr(tls, "sni", None), tls.session_reused)
                self.sessions.append(session)
                while data := tls.recv(65536):
                    tls.sendall(data)
                    session.echoed += len(data)
                    if self.limit and session.echoed >= self.limit:
                        break
                tls.unwrap()
        except (OSError, ssl.SSLError):
            pass
