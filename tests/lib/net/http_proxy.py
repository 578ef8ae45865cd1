# SPDX-License-Identifier: Apache-2.0
"""A strict HTTP proxy that knows CONNECT only, as an outbound one does, a thread a connection.

    with HttpProxy({"kms.eu-central-1.amazonaws.com:443": kms.address}, "user:password") as proxy:
        ... proxy: http://{proxy.address} ...
        assert proxy.asked == ["kms.eu-central-1.amazonaws.com:443"]

What isn't the one head that a client should send is answered with 400 and noted in `faults`.
"""

import base64
import re
import select
import socket
import threading

HEAD = re.compile(rb"CONNECT ([a-z0-9.:\[\]-]+) HTTP/1\.1\r\nHost: ([a-z0-9.:\[\]-]+)\r\n"
                  rb"(?:Proxy-Authorization: (Basic [A-Za-z0-9+/]+=*)\r\n)?\r\n")
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class HttpProxy:
    """places: from an authority to where it is; another authority gets 403. credentials:
    "user:password", without which a client gets 407. answer: bytes instead of the 200; None: none at
    all. piece: bytes of the answer that are sent at a time."""

    def __init__(self, places, credentials=None, answer=ESTABLISHED, piece=None):
        self.places, self.credentials = dict(places), credentials
        self.answer, self.piece = answer, piece
        self.closes = False         # behind its answer
        self.asked, self.faults = [], []
        self.to_clients = 0         # bytes of hosts that were passed on
        self.ended = threading.Semaphore(0)     # a connection that was answered has ended
        self._ways = []
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Refuses what comes, and cuts what there is."""
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        self._listener.close()
        for way in self._ways:
            try:
                way.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    @property
    def address(self):
        return "{}:{}".format(*self._listener.getsockname())

    @property
    def url(self):
        return f"http://{self.address}"

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._ways.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client:
            try:
                self._answer(client, read_head(client))
            except OSError:
                pass
        self.ended.release()

    def _status(self, head):
        """The status, and the authority that was asked for."""
        match = HEAD.fullmatch(head)
        if not match or match[1] != match[2]:
            self.faults.append(head)
            return 400, None
        authority = match[1].decode()
        self.asked.append(authority)
        if self.credentials is not None:
            expected = b"Basic " + base64.b64encode(self.credentials.encode())
            if match[3] != expected:
                return 407, authority
        elif match[3]:
            self.faults.append(head)
            return 400, authority
        return (200 if authority in self.places else 403), authority

    def _answer(self, client, head):
        status, authority = self._status(head)
        if status != 200:
            text = f"HTTP/1.1 {status} No\r\nContent-Length: 5\r\nProxy-Authenticate: Basic\r\n\r\nsorry"
            client.sendall(text.encode())
            return
        if self.answer is None:
            client.recv(1)
            return
        host, _, port = self.places[authority].rpartition(":")
        with socket.create_connection((host, int(port))) as server:
            piece = self.piece or len(self.answer) or 1
            for i in range(0, len(self.answer), piece):
                client.sendall(self.answer[i:i + piece])
            if not self.closes:
                self._relay(client, server)

    def _relay(self, client, server):
        """Bytes both ways, until both have ended."""
        open_ends = {client: server, server: client}
        while open_ends:
            for end in select.select(list(open_ends), [], [])[0]:
                data = end.recv(65536)
                if data:
                    open_ends[end].sendall(data)
                    self.to_clients += len(data) if end is server else 0
                    continue
                open_ends.pop(end).shutdown(socket.SHUT_WR)


def read_head(client):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)       # nothing of what comes behind it
        if not byte:
            raise ConnectionResetError
        head += byte
    return head
