# SPDX-License-Identifier: Apache-2.0
"""ClientHellos as OpenSSL makes them, to be sent as raw bytes, and the alerts that answer them."""

import ssl
import struct

UNRECOGNIZED_NAME, DECODE_ERROR, PROTOCOL_VERSION, INTERNAL_ERROR = 112, 50, 70, 80
HEADER = 5      # of a record: type, version, length


def client_hello(name, size=None):
    """One record with the ClientHello for that server name (None: without any); size: padded with
    ALPN names to exactly so many bytes (1500 or more), record header included."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if size is None:
        return _first_flight(context, name)
    names = ["n" * 99] * 10         # 100 bytes each, as every name has one byte of length
    context.set_alpn_protocols(names)
    missing = size - len(_first_flight(context, name))
    names += ["n" * 99] * (missing // 100 - 1)
    rest = missing - missing // 100 * 100 + 100
    names += ["n" * (rest // 2 - 1), "n" * (rest - rest // 2 - 1)]
    context.set_alpn_protocols(names)
    hello = _first_flight(context, name)
    assert len(hello) == size, (len(hello), size)
    return hello


def _first_flight(context, name):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def in_records(hello, size):
    """The same hello in records of at most so many bytes of it each."""
    body = hello[HEADER:]
    pieces = [body[i:i + size] for i in range(0, len(body), size)]
    return b"".join(hello[:3] + struct.pack(">H", len(p)) + p for p in pieces)


def alert(data):
    """The code of the fatal alert that `data` is, and is nothing but."""
    assert len(data) == 7 and data[:6] == b"\x15\x03\x03\x00\x02\x02", data
    return data[6]
