#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""vhost_user_vsock.py SOCKET [CID]: the vsock device of a test machine that stands for a parent
instance, whose own CID is 3 (the default) and whose enclaves have CIDs beside it.

QEMU connects to SOCKET (-device vhost-user-vsock-pci). The enclaves are spoken by the tests in
the machine itself: a stream to the host (CID 2) at COMMAND_PORT takes one line, "CONNECT CID
PORT", and becomes that enclave's end of a new stream from that CID to PORT of the machine: "OK
SOURCE-PORT" and then bytes both ways, half close included, or "ERR refused". Ends when QEMU does.

Protocols: vhost-user (QEMU, docs/interop/vhost-user.rst) and virtio 1.1, 2.6 and 5.10.
"""

import array
import mmap
import os
import selectors
import socket
import struct
import sys

HOST_CID = 2
COMMAND_PORT = 1
WINDOW = 262144
DATA_MAX = 3072     # Linux posts receive buffers of under 4 KiB, and the header goes in too

HEADER = struct.Struct("<QQIIIHHIII")
STREAM_TYPE = 1
REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST = range(1, 8)
SHUT_RECEIVE, SHUT_SEND, SHUT_BOTH = 1, 2, 3

RECEIVE_QUEUE, SEND_QUEUE, EVENT_QUEUE = range(3)


class Memory:
    """The machine's memory, as QEMU shares it."""

    def __init__(self):
        self.regions = []

    def map(self, body, fds):
        self.regions = []
        count, = struct.unpack_from("<I", body)
        for i in range(count):
            guest, size, user, offset = struct.unpack_from("<QQQQ", body, 8 + 32 * i)
            self.regions.append((guest, size, user, offset, mmap.mmap(fds[i], size + offset)))
            os.close(fds[i])

    def at(self, address, size, user=False):
        """The bytes at an address of the machine, or of QEMU."""
        for guest, length, qemu, offset, pages in self.regions:
            base = qemu if user else guest
            if base <= address < base + length:
                start = offset + address - base
                return memoryview(pages)[start:start + size]
        raise ValueError(f"no memory at {address:#x}")


class Queue:
    """One split virtqueue, from the device's side."""

    def __init__(self, memory):
        self.memory = memory
        self.length = 0
        self.taken = 0
        self.kick = self.call = -1
        self.enabled = False
        self.addresses = None
        self.descriptors = self.used = self.available = None

    def bind(self, addresses=None):
        self.addresses = addresses or self.addresses
        if not self.addresses:
            return
        descriptors, used, available = self.addresses
        self.descriptors = self.memory.at(descriptors, 16 * self.length, True)
        self.used = self.memory.at(used, 6 + 8 * self.length, True)
        self.available = self.memory.at(available, 6 + 2 * self.length, True)

    def stop(self):
        self.addresses = self.descriptors = None

    def take(self):
        """The next chain the driver offers: its head and its buffers; or None."""
        if self.descriptors is None or not self.enabled or self.kick < 0:
            return None
        if struct.unpack_from("<H", self.available, 2)[0] == self.taken:
            return None
        head, = struct.unpack_from("<H", self.available, 4 + 2 * (self.taken % self.length))
        self.taken = (self.taken + 1) & 0xFFFF
        buffers, index, more = [], head, 1
        while more:
            address, size, flags, following = struct.unpack_from("<QIHH", self.descriptors,
                                                                 16 * index)
            buffers.append(self.memory.at(address, size))
            index, more = following, flags & 1
        return head, buffers

    def give(self, head, written):
        index, = struct.unpack_from("<H", self.used, 2)
        struct.pack_into("<II", self.used, 4 + 8 * (index % self.length), head, written)
        struct.pack_into("<H", self.used, 2, (index + 1) & 0xFFFF)
        if self.call >= 0:
            os.write(self.call, struct.pack("<Q", 1))


class Device:
    """Packets in and out of the machine."""

    def __init__(self, cid):
        self.cid = cid
        self.memory = Memory()
        self.queues = [Queue(self.memory) for _ in range(3)]
        self.waiting = []           # packets for which the machine has posted no buffer yet
        self.deliver = None         # called with each packet of the machine

    def send(self, stream, op, flags=0, data=b"", window=WINDOW):
        self.waiting.append(HEADER.pack(
            stream.cid, self.cid, stream.port, stream.machine_port, len(data), STREAM_TYPE,
            op, flags, window, stream.forwarded & 0xFFFFFFFF) + data)
        self.fill()

    def fill(self):
        """Puts waiting packets into the buffers that the machine has posted."""
        queue = self.queues[RECEIVE_QUEUE]
        while self.waiting and (chain := queue.take()):
            head, buffers = chain
            packet = self.waiting.pop(0)
            done = 0
            for buffer in buffers:
                part = packet[done:done + len(buffer)]
                buffer[:len(part)] = part
                done += len(part)
            assert done == len(packet), "the machine's receive buffers are too small"
            queue.give(head, done)

    def drain(self):
        """Delivers what the machine has sent."""
        queue = self.queues[SEND_QUEUE]
        while chain := queue.take():
            head, buffers = chain
            packet = b"".join(bytes(buffer) for buffer in buffers)
            queue.give(head, 0)
            self.deliver(packet)


class Stream:
    """One vsock stream of the machine; `cid` and `port` are the end on our side."""

    def __init__(self, device, cid, port, machine_port):
        self.device = device
        self.cid = cid
        self.port = port
        self.machine_port = machine_port
        self.other = None           # the stream that its bytes go to and come from
        self.line = b""             # of a command stream: what it has said so far
        self.pending = b""          # bytes for the machine that its credit doesn't allow yet
        self.sent = self.machine_window = self.machine_read = 0
        self.forwarded = self.announced = 0
        self.shut = 0               # what the machine has shut down
        self.ended = False          # we have said that no more bytes come
        self.closing = False        # ends when what is pending has gone out

    def send(self, op, flags=0, data=b""):
        self.announced = self.forwarded
        self.device.send(self, op, flags, data)

    def credit(self):
        return self.machine_window - ((self.sent - self.machine_read) & 0xFFFFFFFF)

    def say(self, data):
        """Sends a line of our own; a new stream has credit for it."""
        self.sent += len(data)
        self.send(RW, data=data)

    def push(self):
        """Sends what is pending and allowed; the other stream, where it came from, has room
        for as much again."""
        while self.pending and self.credit() > 0:
            data = self.pending[:min(DATA_MAX, self.credit())]
            self.pending = self.pending[len(data):]
            self.sent += len(data)
            self.send(RW, data=data)
            if self.other:
                self.other.read(len(data))

    def read(self, count):
        self.forwarded += count
        if self.forwarded - self.announced >= WINDOW // 4:
            self.send(CREDIT_UPDATE)


class Switch:
    """Knows the streams, and joins a command stream with the enclave's stream it asked for."""

    def __init__(self, device):
        self.device = device
        self.streams = {}           # by (our CID, our port, the machine's port)
        self.next_port = 49152
        device.deliver = self.packet

    def open(self, cid, port, machine_port):
        stream = Stream(self.device, cid, port, machine_port)
        self.streams[cid, port, machine_port] = stream
        return stream

    def close(self, stream):
        self.streams.pop((stream.cid, stream.port, stream.machine_port), None)

    def packet(self, packet):
        (_, cid, machine_port, port, size, _, op, flags, window,
         machine_read) = HEADER.unpack_from(packet)
        stream = self.streams.get((cid, port, machine_port))
        if stream is None:
            stream = Stream(self.device, cid, port, machine_port)
            if op == REQUEST and cid == HOST_CID and port == COMMAND_PORT:
                self.streams[cid, port, machine_port] = stream
                stream.machine_window = window
                stream.send(RESPONSE)
            elif op != RST:
                stream.send(RST)
            return
        other = stream.other
        stream.machine_window, stream.machine_read = window, machine_read
        if op == RESPONSE and other:
            other.say(b"OK %d\n" % stream.port)
        elif op == RST:
            self.reset(stream)
        elif op == RW:
            self.data(stream, packet[HEADER.size:HEADER.size + size])
        elif op == SHUTDOWN:
            stream.shut |= flags
        elif op == CREDIT_REQUEST:
            stream.send(CREDIT_UPDATE)
        self.settle(stream)
        if other := other or stream.other:
            self.settle(other)

    def data(self, stream, data):
        if stream.other:
            stream.other.pending += data
            return
        # The line, and nothing after it: a test waits for the answer before it goes on.
        stream.line += data
        stream.read(len(data))
        if stream.line.endswith(b"\n"):
            _, cid, machine_port = stream.line.split()
            self.next_port += 1
            enclave = self.open(int(cid), self.next_port, int(machine_port))
            enclave.other, stream.other = stream, enclave
            enclave.send(REQUEST)

    def reset(self, stream):
        """The machine reset or refused a stream: the other one ends."""
        self.close(stream)
        other, stream.other = stream.other, None
        if other:
            if other.cid == HOST_CID and not other.sent:
                other.say(b"ERR refused\n")
            other.other = None
            other.closing = True

    def settle(self, stream):
        """Sends what can be sent, and passes a shutdown on once all bytes before it are out."""
        stream.push()
        if stream.pending:
            return
        if stream.other is None:
            if stream.closing or stream.shut == SHUT_BOTH:
                stream.send(SHUTDOWN if stream.closing else RST, SHUT_BOTH)
                self.close(stream)
        elif stream.other.shut == SHUT_BOTH:
            stream.send(SHUTDOWN, SHUT_BOTH)
            stream.other.send(RST)
            self.close(stream.other)
            self.close(stream)
        elif stream.other.shut & SHUT_SEND and not stream.ended:
            stream.ended = True
            stream.send(SHUTDOWN, SHUT_SEND)


class Control:
    """The vhost-user protocol: QEMU hands over memory and queues."""

    FEATURES = 1 << 32 | 1 << 30            # VIRTIO_F_VERSION_1, VHOST_USER_F_PROTOCOL_FEATURES
    PROTOCOL_FEATURES = 1 << 9 | 1 << 3     # CONFIG, REPLY_ACK
    VERSION, REPLY, NEED_REPLY = 1, 4, 8

    def __init__(self, connection, device, selector):
        self.connection = connection
        self.device = device
        self.selector = selector
        self.requests = {
            1: self.get_features, 5: self.set_memory, 8: self.set_length, 9: self.set_addresses,
            10: self.set_base, 11: self.get_base, 12: self.set_kick, 13: self.set_call,
            15: self.get_protocol_features, 17: self.get_queues, 18: self.set_enabled,
            24: self.get_config,
        }

    def readable(self):
        head, ancillary, *_ = self.connection.recvmsg(12, socket.CMSG_SPACE(32))
        if not head:
            sys.exit(0)
        fds = array.array("i")
        for _, kind, data in ancillary:
            if kind == socket.SCM_RIGHTS:
                fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
        request, flags, size = struct.unpack("<III", head)
        body = self.connection.recv(size, socket.MSG_WAITALL) if size else b""
        handler = self.requests.get(request)
        answer = handler(body, fds) if handler else None
        if answer is None and flags & self.NEED_REPLY:
            answer = struct.pack("<Q", 0)
        if answer is not None:
            self.connection.sendall(
                struct.pack("<III", request, self.VERSION | self.REPLY, len(answer)) + answer)

    def get_features(self, _body, _fds):
        return struct.pack("<Q", self.FEATURES)

    def get_protocol_features(self, _body, _fds):
        return struct.pack("<Q", self.PROTOCOL_FEATURES)

    def get_queues(self, _body, _fds):
        return struct.pack("<Q", len(self.device.queues))

    def get_config(self, body, _fds):
        offset, size, _ = struct.unpack_from("<III", body)
        config = struct.pack("<Q", self.device.cid)
        return body[:12] + config[offset:offset + size].ljust(size, b"\0")

    def set_memory(self, body, fds):
        self.device.memory.map(body, fds)
        for queue in self.device.queues:
            queue.bind()

    def state(self, body):
        index, value = struct.unpack_from("<II", body)
        return self.device.queues[index], value

    def set_length(self, body, _fds):
        queue, value = self.state(body)
        queue.length = value

    def set_base(self, body, _fds):
        queue, value = self.state(body)
        queue.taken = value

    def set_enabled(self, body, _fds):
        queue, enabled = self.state(body)
        queue.enabled = bool(enabled)
        self.device.fill()

    def set_addresses(self, body, _fds):
        index, _, descriptors, used, available, _ = struct.unpack("<IIQQQQ", body[:40])
        self.device.queues[index].bind((descriptors, used, available))

    def get_base(self, body, _fds):
        """Stops the queue."""
        queue, _ = self.state(body)
        if queue.kick >= 0:
            if queue is not self.device.queues[EVENT_QUEUE]:
                self.selector.unregister(queue.kick)
            os.close(queue.kick)
            queue.kick = -1
        queue.stop()
        return struct.pack("<II", self.device.queues.index(queue), queue.taken)

    def set_call(self, body, fds):
        self.device.queues[body[0]].call = fds[0] if fds else -1

    def set_kick(self, body, fds):
        index = body[0]
        queue = self.device.queues[index]
        queue.kick = fds[0] if fds else -1
        if queue.kick >= 0 and index != EVENT_QUEUE:
            work = self.device.fill if index == RECEIVE_QUEUE else self.device.drain
            self.selector.register(queue.kick, selectors.EVENT_READ,
                                   lambda: self.kicked(queue, work))

    def kicked(self, queue, work):
        try:
            os.read(queue.kick, 8)
        except BlockingIOError:
            pass
        work()


def main():
    path = sys.argv[1]
    device = Device(int(sys.argv[2]) if len(sys.argv) > 2 else 3)
    Switch(device)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    print("ready", flush=True)
    connection, _ = listener.accept()
    selector = selectors.DefaultSelector()
    selector.register(connection, selectors.EVENT_READ,
                      Control(connection, device, selector).readable)
    while True:
        for key, _ in selector.select():
            key.data()


if __name__ == "__main__":
    main()
