# SPDX-License-Identifier: Apache-2.0
"""Rows that count: memory and upstream connections. One figure each: it doesn't depend on the machine's load,
so that there are no rounds."""

import contextlib
import socket
import ssl

from load import HOST, Load
from peers import HaproxyHttp, HaproxyTcp, NginxProxy
from result import Mark, Ratio, Result
from rows import Row, body
from servers import Daemon

IDLE_CONNECTIONS = 1000
REQUESTS = 10000


def counted(unit, seen, note, **more):
    """The Result of {name: figure}, ours among them."""
    ours = seen[Daemon.name]
    peers = {name: value for name, value in seen.items() if name != Daemon.name}
    return Result(unit=unit, ours=ours, peers=peers, note=note,
                  ratios={name: Ratio.of([ours], [value]) for name, value in peers.items()}, **more)


def used(bench, server):
    """Has it serve some requests first, so that what is made on first use is there."""
    bench.load(server, Load(clients=1, body=body(5000)), 50)


class MemoryRest(Row):
    name = "memory-rest"
    work = "anonymous memory at rest (Pss_Anon)"
    marks = (Mark(4.0),)
    needs_journal = False

    def measure(self, bench):
        seen = {}
        for server in (Daemon(bench), NginxProxy(bench), HaproxyHttp(bench)):
            with server:
                seen[server.name] = server.memory()
        whole = ", ".join(f"{name} {m['Pss'] / 2**20:.1f}" for name, m in seen.items())
        return counted("MiB", {name: m["Pss_Anon"] / 2**20 for name, m in seen.items()},
                       f"whole proportional set size: {whole} MiB", details=seen)


class MemoryEach(Row):
    """Memory of many connections that have carried something and now are idle."""
    needs_journal = False

    def servers(self, bench):
        raise NotImplementedError

    def open(self, server):
        """One connection in the state that is measured."""
        raise NotImplementedError

    def each(self, bench, server):
        with server, contextlib.ExitStack() as stack:
            used(bench, server)
            before = server.memory()["Pss_Anon"]
            for _ in range(IDLE_CONNECTIONS):
                stack.enter_context(self.open(server))
            return (server.memory()["Pss_Anon"] - before) / IDLE_CONNECTIONS / 1024

    def measure(self, bench):
        return counted("KiB", {server.name: self.each(bench, server) for server in self.servers(bench)},
                       f"{IDLE_CONNECTIONS} connections; memory of the kernel's sockets is not in it")


class MemoryConnection(MemoryEach):
    name = "memory-connection"
    work = "one idle enclave connection, after a request"
    marks = (Mark(1.0),)

    def servers(self, bench):
        return Daemon(bench), NginxProxy(bench), HaproxyHttp(bench)

    def open(self, server):
        sent = body(5000)
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(server.socket))
        s.sendall(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nX-Amz-Target: TrentService.Encrypt\r\nContent-Type: "
                  f"application/x-amz-json-1.1\r\nContent-Length: {len(sent)}\r\n\r\n".encode() + sent)
        answer = s.recv(65536)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"{server.name} answered {answer[:60]}")
        return s


class MemoryTunnel(MemoryEach):
    name = "memory-tunnel"
    work = "one idle tunnel, after a TLS handshake"

    def servers(self, bench):
        return Daemon(bench, tunnel=True), HaproxyTcp(bench)

    def open(self, server):
        context = ssl.create_default_context(cafile=str(server.bench.folder / "cert.pem"))
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(server.socket))
        return context.wrap_socket(s, server_hostname=HOST)


class NewConnections(Row):
    name = "new-upstreams"
    work = "new upstream connections a request, 64 in flight, keep-alive and Connection: close"
    marks = (Mark(0.01),)
    needs_journal = False

    def measure(self, bench):
        seen = {}
        with Daemon(bench) as ours, NginxProxy(bench) as nginx, HaproxyHttp(bench) as haproxy:
            for server in (ours, nginx, haproxy):
                before = bench.upstream.connections()
                for close in (False, True):
                    bench.load(server, Load(body=body(5000), close=close), REQUESTS)
                seen[server.name] = (bench.upstream.connections() - before) / (2 * REQUESTS)
        return counted("connections a request", seen,
                       f"{2 * REQUESTS} requests from a cold start, the first connections counted")
