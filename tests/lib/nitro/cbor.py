# SPDX-License-Identifier: Apache-2.0
"""CBOR (RFC 8949), as much as attestation documents use: definite lengths, integers, byte and
text strings, arrays, maps, tags, null and booleans. The reader is strict: shortest lengths, no
duplicate keys, no bytes left over.
"""

import dataclasses

DEPTH_MAX = 16
SIMPLE = {20: False, 21: True, 22: None}


@dataclasses.dataclass
class Tag:
    number: int
    value: object


def _head(major, value):
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if value < 24:
            return bytes([major << 5 | value])
        if value < 1 << 8 * size:
            return bytes([major << 5 | code]) + value.to_bytes(size, "big")
    raise ValueError("integer too large")


def encode(value):
    """Maps keep their order: it is part of what attestation documents look like."""
    if value is None or isinstance(value, bool):
        return bytes([7 << 5 | {False: 20, True: 21, None: 22}[value]])
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, (list, tuple)):
        return _head(4, len(value)) + b"".join(map(encode, value))
    if isinstance(value, dict):
        return _head(5, len(value)) + b"".join(encode(k) + encode(v) for k, v in value.items())
    if isinstance(value, Tag):
        return _head(6, value.number) + encode(value.value)
    raise TypeError(f"no CBOR for {type(value).__name__}")


class _Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        if count > len(self.data) - self.at:
            raise ValueError("CBOR ends too early")
        self.at += count
        return self.data[self.at - count:self.at]

    def argument(self, info):
        if info < 24:
            return info
        if info > 27:
            raise ValueError("indefinite or reserved CBOR length")
        size = 1 << (info - 24)
        value = int.from_bytes(self.take(size), "big")
        if value < 24 or (size > 1 and value < 1 << 4 * size):
            raise ValueError("CBOR length isn't the shortest")
        return value

    def item(self, depth=0):
        if depth > DEPTH_MAX:
            raise ValueError("CBOR too deep")
        first = self.take(1)[0]
        major, info = first >> 5, first & 31
        if major == 7:
            if info not in SIMPLE:
                raise ValueError("unexpected CBOR simple value")
            return SIMPLE[info]
        value = self.argument(info)
        if major in (0, 1):
            return value if major == 0 else -1 - value
        if major == 2:
            return bytes(self.take(value))
        if major == 3:
            return self.take(value).decode("utf-8")
        if major == 4:
            return [self.item(depth + 1) for _ in range(self._count(value))]
        if major == 5:
            return self._map(value, depth)
        return Tag(value, self.item(depth + 1))

    def _count(self, count):
        if count > len(self.data) - self.at:
            raise ValueError("CBOR array longer than its bytes")
        return count

    def _map(self, count, depth):
        found = {}
        for _ in range(self._count(count)):
            key = self.item(depth + 1)
            if not isinstance(key, (int, str)):
                raise ValueError("CBOR map key is neither integer nor text")
            if key in found:
                raise ValueError("CBOR map key twice")
            found[key] = self.item(depth + 1)
        return found


def decode(data):
    """Raises ValueError."""
    reader = _Reader(data)
    value = reader.item()
    if reader.at != len(data):
        raise ValueError("bytes after the CBOR item")
    return value
