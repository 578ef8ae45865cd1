#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""extract_vmlinux.py VMLINUZ VMLINUX: unpacks the kernel that a bzImage holds.

QEMU starts an unpacked kernel directly (PVH), which spares the emulated decompression.
The header is that of Documentation/x86/boot.rst: payload_offset, payload_length.
"""

import struct
import subprocess
import sys

DECOMPRESSORS = {b"\x02\x21\x4c\x18": ["lz4", "-dc", "-"], b"\x28\xb5\x2f\xfd": ["zstd", "-dc", "-"]}


def extract(image):
    if image[0x202:0x206] != b"HdrS":
        sys.exit("extract_vmlinux: not a bzImage")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start:start + length]
    command = DECOMPRESSORS.get(payload[:4])
    if command is None:
        sys.exit(f"extract_vmlinux: unknown compression {payload[:4].hex()}")
    # The last four bytes aren't compressed data but the size of what comes out.
    size, = struct.unpack("<I", payload[-4:])
    # The exit status is no help: a decompressor may complain of what follows the last frame.
    kernel = subprocess.run(command, input=payload[:-4], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, check=False).stdout
    if kernel[:4] != b"\x7fELF" or len(kernel) != size:
        sys.exit("extract_vmlinux: the payload is not a kernel of the stated size")
    return kernel


def main():
    with open(sys.argv[1], "rb") as file:
        kernel = extract(file.read())
    with open(sys.argv[2], "wb") as file:
        file.write(kernel)


if __name__ == "__main__":
    main()
