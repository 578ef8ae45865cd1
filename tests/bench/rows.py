# SPDX-License-Identifier: Apache-2.0
"""The rows of the table: one class a mark, in the order of ROWS.

A row starts the programs it compares, hands them to bench.rounds(), and returns a Result. A new
row is a subclass of Row with `name`, `work`, `mark` and measure(), and a place in ROWS.
"""

import contextlib
import dataclasses
import json
import socket
import ssl
import statistics

from load import HOST, Load
from servers import BULK, KEY, Daemon, HaproxyHttp, HaproxyTcp, NginxProxy, NginxRefusal, Socat

IDLE_CONNECTIONS = 1000
SIGV4_PROXY = 5.0  # published: aws-sigv4-proxy's CPU a request over nginx's, its pool mended


class Unmeasured(Exception):
    """The machine can't show it; the text says why."""


@dataclasses.dataclass
class Result:
    unit: str                    # of ours and reference
    ours: float
    reference: float | None      # None: the mark bounds `ours` itself
    ratio: float                 # what the mark bounds
    reference_name: str = ""
    peers: dict = dataclasses.field(default_factory=dict)    # name: value in the same unit
    details: dict = dataclasses.field(default_factory=dict)  # all that was seen, for the JSON
    note: str = ""


class Row:
    name = work = ""
    mark = 1.0
    at_least = False             # the mark is a lower bound

    def measure(self, bench):
        raise NotImplementedError

    def met(self, result):
        return result.ratio >= self.mark if self.at_least else result.ratio <= self.mark


def body(size, key=KEY):
    """A body of Encrypt with just this many bytes."""
    empty = len(json.dumps({"KeyId": key, "Plaintext": ""}))
    return json.dumps({"KeyId": key, "Plaintext": "A" * (size - empty)}).encode()


def ratio_of(rounds, ours, reference, value):
    """The median of the ratios within each round."""
    return statistics.median(value(r[ours]) / value(r[reference]) for r in rounds)


def median_of(rounds, name, value):
    return statistics.median(value(r[name]) for r in rounds)


def cpu(sample):
    return sample.cpu_per_request


def details(rounds):
    """Medians of all that was measured of each program."""
    seen = {}
    for name in rounds[0]:
        seen[name] = {key: round(median_of(rounds, name, lambda s, key=key: s.summary()[key]), 2)
                      for key in rounds[0][name].summary()}
    return seen


def started(stack, *servers):
    return [stack.enter_context(server) for server in servers]


def compare(rounds, ours, reference, value=cpu, unit="CPU us a request", **more):
    """The Result of the rounds: `ours` beside `reference`, all others as peers."""
    return Result(
        unit=unit, ours=median_of(rounds, ours.name, value), reference=median_of(rounds, reference.name, value),
        reference_name=reference.name, ratio=ratio_of(rounds, ours.name, reference.name, value),
        peers={name: median_of(rounds, name, value) for name in rounds[0] if name not in (ours.name, reference.name)},
        details=details(rounds), **more)


class Signed(Row):
    """Signed and recorded by us, only forwarded by the peers."""
    load = Load()

    def measure(self, bench):
        with contextlib.ExitStack() as stack:
            ours, nginx, _ = servers = started(stack, Daemon(bench), NginxProxy(bench), HaproxyHttp(bench))
            return compare(bench.rounds(servers, self.load), ours, nginx)


class Signed5k(Signed):
    name = "signed-5k"
    work = "signed, 5 KB body, 64 keep-alive connections: CPU a request / nginx"
    load = Load(body=body(5000))

    def measure(self, bench):
        result = super().measure(bench)
        bench.signed_5k = result
        seen = result.details["kms-vsock-proxy"]
        result.note = (f"{seen['audit_cpu_per_request']:.1f} us of ours is the audit writer's thread "
                       f"({seen['recorded_percent']:.0f} % of the records were taken); nginx writes no log")
        return result


class Signed200(Signed):
    name = "signed-200"
    work = "the same with 200 B"
    load = Load(body=body(200))


class Sigv4Proxy(Row):
    name = "sigv4-proxy"
    work = "signed: CPU a request / aws-sigv4-proxy's published design"
    mark = 0.2

    def measure(self, bench):
        signed = getattr(bench, "signed_5k", None) or Signed5k().measure(bench)
        return Result(unit=signed.unit, ours=signed.ours, reference=SIGV4_PROXY * signed.reference,
                      reference_name="5.0 x nginx", ratio=signed.ratio / SIGV4_PROXY,
                      note="by the published factor: aws-sigv4-proxy itself was not run")


class Added(Row):
    """Latency added over a client that speaks TLS to the upstream itself."""
    load = Load()
    p = 50

    def measure(self, bench):
        def added(name, p):
            return statistics.median(r[name].percentile(p) - r["upstream"].percentile(p) for r in rounds)

        with contextlib.ExitStack() as stack:
            ours, nginx, _ = servers = started(stack, Daemon(bench), NginxProxy(bench), HaproxyHttp(bench))
            rounds = bench.rounds([bench.upstream, *servers], self.load)
        names = [s.name for s in servers]
        tails = ", ".join(f"{name} {added(name, 99):.0f}" for name in names)
        spread = [r[ours.name].percentile(50) - r["upstream"].percentile(50) for r in rounds]
        if added(nginx.name, 50) <= 0:
            raise Unmeasured("nginx added nothing over direct: the machine's noise is larger")
        return Result(
            unit="median us added", ours=added(ours.name, 50), reference=added(nginx.name, 50),
            reference_name=nginx.name, ratio=added(ours.name, 50) / added(nginx.name, 50),
            peers={name: added(name, 50) for name in names[2:]},
            details={**details(rounds), "added": {n: {"p50": added(n, 50), "p99": added(n, 99)} for n in names}},
            note=f"99th percentile added: {tails} us; ours went from {min(spread)} to {max(spread)} in the rounds")


class LatencyOne(Added):
    name = "latency"
    work = "one connection: median added latency / nginx's"
    load = Load(clients=1, body=body(5000))


class EachConnection(Signed):
    name = "connection-each"
    work = "a connection for each request, 16 at a time: CPU / nginx"
    load = Load(clients=16, body=body(5000), close=True)


class Refused(Row):
    name = "refused"
    work = "refused by policy: CPU a request / nginx `return 403`"
    mark = 1.5

    def measure(self, bench):
        load = Load(body=body(200, KEY[:-1] + "f"), expect="4xx")
        with contextlib.ExitStack() as stack:
            ours, nginx = servers = started(stack, Daemon(bench), NginxRefusal(bench))
            return compare(bench.rounds(servers, load), ours, nginx,
                           note="of one enclave's refusals 10 a second are recorded, as in production")


class RefusedConnections(Row):
    name = "refused-each"
    work = "connect, one request refused by policy, close; 16 at a time: a second"
    mark = 20000.0
    at_least = True

    def measure(self, bench):
        load = Load(clients=16, body=body(200, KEY[:-1] + "f"), expect="4xx", close=True)
        with contextlib.ExitStack() as stack:
            ours, nginx = servers = started(stack, Daemon(bench), NginxRefusal(bench))
            rounds = bench.rounds(servers, load)
        result = compare(rounds, ours, nginx, value=lambda s: s.rate, unit="connections a second")
        each = median_of(rounds, ours.name, cpu)
        result.note = (f"{result.ratio:.2f} of nginx's rate; CPU a connection {each:.1f} us, "
                       f"{ratio_of(rounds, ours.name, nginx.name, cpu):.2f} of nginx's: a core to itself would do "
                       f"{1e6 / each:.0f}, where other work and the generator leave it less")
        result.ratio = result.ours
        return result


class TwoWorkers(Row):
    name = "two-workers"
    work = "two workers on two cores: requests a second / one worker"
    mark = 1.8
    at_least = True

    def measure(self, bench):
        place = bench.place
        if not place.spare:
            raise Unmeasured(f"{place.cores} cores: two workers, the upstream and the generator want one each, "
                             "so that here the generator would be measured")
        one, two = Daemon(bench), Daemon(bench, "two-workers", workers=2)
        two.cores = lambda: place.proxy + place.spare
        with contextlib.ExitStack() as stack:
            started(stack, one, two)
            rounds = bench.rounds([two, one], Load(body=body(5000)))
        return compare(rounds, two, one, value=lambda s: s.rate, unit="requests a second")


class ManyUpstreams(Row):
    name = "upstream-512"
    work = "512 upstream connections: CPU a request / the same with 64"
    mark = 1.2

    def measure(self, bench):
        many = Daemon(bench, "ours-512")
        many.config["endpoints"]["kms"]["connections"] = 512
        with contextlib.ExitStack() as stack:
            few, nginx, nginx_many = Daemon(bench), NginxProxy(bench), NginxProxy(bench, "nginx-512")
            started(stack, many, few, nginx, nginx_many)
            load = Load(body=body(5000))
            rounds = bench.rounds([many, few, nginx_many, nginx], load,
                                  loads={s: dataclasses.replace(load, clients=512) for s in (many, nginx_many)})
        nginx_ratio = ratio_of(rounds, nginx_many.name, nginx.name, cpu)
        return compare(rounds, many, few, note=f"nginx's own ratio is {nginx_ratio:.2f}")


class TunnelShort(Row):
    name = "tunnel-short"
    work = "tunnel, short: CPU a connection / HAProxy TCP by SNI"
    load = Load(clients=4, body=body(200), close=True)
    unit = "CPU us a connection"

    @staticmethod
    def value(sample):
        return sample.cpu_per_request

    def measure(self, bench):
        with contextlib.ExitStack() as stack:
            ours, haproxy, _ = servers = started(
                stack, Daemon(bench, tunnel=True), HaproxyTcp(bench), Socat(bench))
            return compare(bench.rounds(servers, self.load), ours, haproxy, value=self.value, unit=self.unit)


class TunnelBulk(TunnelShort):
    name = "tunnel-bulk"
    work = "tunnel, bulk downloads, 4 at a time: CPU a byte / HAProxy TCP by SNI"
    load = Load(clients=4, path="/bulk")
    unit = "CPU us a MiB"

    @staticmethod
    def value(sample):
        return sample.cpu_us / (sample.run.requests * BULK / 2**20)


class ManyRules(Row):
    name = "many-rules"
    work = "4 enclaves of 1,000 rules of 10 keys: CPU a request / one rule"
    mark = 1.1

    def config(self, daemon):
        """The key that is asked for stands last of all."""
        keys = [f"{KEY[:-12]}{i:012x}" for i in range(10000)]
        rules = [{"name": f"r{i}", "actions": ["Encrypt"], "plaintext": "allow",
                  "keys": keys[10 * i:10 * i + 10]} for i in range(1000)]
        for i in range(3):
            daemon.config["enclaves"][f"other-{i}"] = {"cid": 16 + i, "endpoints": ["kms"], "allow": rules}
        daemon.enclave["allow"] = rules[:-1] + [{**rules[-1], "keys": rules[-1]["keys"][:-1] + [KEY]}]

    def measure(self, bench):
        many, one = Daemon(bench, "many-rules"), Daemon(bench)
        self.config(many)
        with contextlib.ExitStack() as stack:
            started(stack, many, one)
            rounds = bench.rounds([many, one], Load(body=body(5000)))
        return compare(rounds, many, one, note="the request's key is the last of the last rule")


class Audit(Row):
    name = "audit"
    work = "audit on / audit off, CPU a request of the workers"
    mark = 1.15

    def measure(self, bench):
        on, off = Daemon(bench), Daemon(bench, "audit-off", audit="refusals")
        with contextlib.ExitStack() as stack:
            started(stack, on, off)
            rounds = bench.rounds([on, off], Load(body=body(5000)))
        whole = ratio_of(rounds, on.name, off.name, cpu)
        taken = median_of(rounds, on.name, lambda s: s.recorded_percent)
        return compare(rounds, on, off, value=lambda s: s.cpu_per_request - s.audit_cpu_per_request,
                       note=f"with the writer's thread {whole:.2f}; {taken:.0f} % of the records were taken, "
                            "the others counted as lost")


# Memory. One figure each: it doesn't depend on the load of the machine.

def used(bench, server):
    """Has it serve some requests first, so that what is made on first use is there."""
    bench.load(server, Load(clients=1, body=body(5000)), 50)


class MemoryRest(Row):
    name = "memory-rest"
    work = "anonymous memory at rest (Pss_Anon), MiB"
    mark = 4.0

    def measure(self, bench):
        seen = {}
        for server in (Daemon(bench), NginxProxy(bench), HaproxyHttp(bench)):
            with server:
                seen[server.name] = server.memory()
        ours = seen["kms-vsock-proxy"]["Pss_Anon"] / 2**20
        whole = ", ".join(f"{name} {m['Pss'] / 2**20:.1f}" for name, m in seen.items())
        return Result(unit="MiB", ours=ours, reference=None, ratio=ours, details=seen,
                      peers={n: m["Pss_Anon"] / 2**20 for n, m in seen.items() if n != "kms-vsock-proxy"},
                      note=f"whole proportional set size: {whole} MiB")


class MemoryEach(Row):
    """Memory of many connections that have carried something and now are idle."""
    mark = 1.0

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
        seen = {server.name: self.each(bench, server) for server in self.servers(bench)}
        ours = seen.pop("kms-vsock-proxy")
        return Result(unit="KiB", ours=ours, reference=None, ratio=ours, peers=seen,
                      details={"kms-vsock-proxy": ours, **seen},
                      note=f"{IDLE_CONNECTIONS} connections; memory of the kernel's sockets is not in it")


class MemoryConnection(MemoryEach):
    name = "memory-connection"
    work = "one idle enclave connection, after a request, KiB"

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
    work = "one idle tunnel, after a TLS handshake, KiB (no mark)"
    mark = None

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
    mark = 0.01

    def measure(self, bench):
        n, seen = 10000, {}
        with Daemon(bench) as ours, NginxProxy(bench) as nginx, HaproxyHttp(bench) as haproxy:
            for server in (ours, nginx, haproxy):
                before = bench.upstream.connections()
                for close in (False, True):
                    bench.load(server, Load(body=body(5000), close=close), n)
                seen[server.name] = (bench.upstream.connections() - before) / (2 * n)
        ours = seen.pop("kms-vsock-proxy")
        return Result(unit="connections a request", ours=ours, reference=None, ratio=ours, peers=seen,
                      details={"kms-vsock-proxy": ours, **seen},
                      note=f"{2 * n} requests from a cold start, the first connections counted")


class OpenLoop(Added):
    name = "open-loop"
    work = "open loop, 2,000 a second: median added / nginx's"
    mark = 1.5
    load = Load(clients=8, body=body(5000), rate=2000)


ROWS = [Signed5k, Signed200, Sigv4Proxy, LatencyOne, EachConnection, Refused, RefusedConnections, TwoWorkers,
        ManyUpstreams, TunnelShort, TunnelBulk, ManyRules, Audit, MemoryRest, MemoryConnection, MemoryTunnel,
        NewConnections, OpenLoop]
