# SPDX-License-Identifier: Apache-2.0
"""The rows of the table: one class a piece of work, in the order of ROWS.

A new row is a subclass of Row with `name`, `work`, `marks` and measure(), and a place in ROWS. Most are a
Compare: the programs (the first is ours), the load, and what is compared of a sample.
"""

import contextlib
import dataclasses
import json
import math
import statistics

import tls
from load import Load
from peers import (BULK, Floor, FloorKept, HaproxyHttp, HaproxyTcp, NginxProxy, NginxRefusal, NginxRefusalSyslog,
                   NginxSyslog, Socat)
from result import Mark, Ratio, Result, Unfair, Unmeasured
from servers import KEY, Daemon

FLOOR_AT_MOST = 1.03  # of silent nginx; what is dearer is no floor


class Row:
    name = work = ""
    marks = ()
    needs_journal = True
    journal_naps = False         # what stands for the journal is never woken

    def measure(self, bench):
        raise NotImplementedError


def body(size, key=KEY):
    """A body of Encrypt with just this many bytes."""
    empty = len(json.dumps({"KeyId": key, "Plaintext": ""}))
    return json.dumps({"KeyId": key, "Plaintext": "A" * (size - empty)}).encode()


def median(rounds, name, value):
    return statistics.median(value(r[name]) for r in rounds)


def details(rounds):
    """Medians of all that was measured of each program."""
    return {name: {key: round(median(rounds, name, lambda s, key=key: s.summary()[key]), 2)
                   for key in rounds[0][name].summary()} for name in rounds[0]}


def check_tls(servers):
    """What each agreed on; raises where they differ."""
    agreed = {s.name: s.agreed for s in servers if s.upstream}
    found = tls.differences(agreed, [s.name for s in servers if s.upstream and not s.tls])
    if found:
        raise Unfair("; ".join(found))
    return {name: str(a) for name, a in agreed.items()}


def check_floor(result):
    """The floor's mark holds only if it is one, in the same run."""
    floors = [name for name in result.ratios if name.startswith(Floor.name)]
    for name in floors:
        silent = name.replace(Floor.name, NginxProxy.name)
        values = [[r[n]["cpu_per_request"] for r in result.rounds] for n in (name, silent)]
        beside = Ratio.of(*values).median
        result.details[name]["beside_silent_nginx"] = round(beside, 3)
        if beside > FLOOR_AT_MOST:
            result.unsound[name] = f"the floor is {beside:.2f} x {silent}, more than {FLOOR_AT_MOST}"


class Compare(Row):
    """CPU a request of ours beside that of others, which only forward."""
    load = Load()
    unit = "CPU us a request"
    best = min
    stretch = 1                  # times the seconds of a round
    against = None               # the other build, beside which ours is set instead

    def servers(self, bench):
        """Ours first."""
        return [Daemon(bench), NginxSyslog(bench), Floor(bench, self.load), NginxProxy(bench), HaproxyHttp(bench)]

    def loads(self, _servers):
        """{server: load} of those that get another."""
        return {}

    def value(self, taken, name):
        """What is compared, of one round's samples."""
        return taken[name].cpu_per_request

    def note(self, _rounds):
        return ""

    def measure(self, bench):
        with contextlib.ExitStack() as stack:
            servers = self.servers(bench)
            if self.against:
                servers = [servers[0], servers[0].of_build(self.against)]
            for server in servers:
                if server is not bench.upstream:  # which runs already
                    stack.enter_context(server)
            rounds = bench.rounds(servers, self.load, self.loads(servers), self.stretch)
        return self.result(servers, rounds)

    def result(self, servers, rounds):
        values = {s.name: [self.value(taken, s.name) for taken in rounds] for s in servers}
        ours, *peers = values
        result = Result(
            unit=self.unit, ours=statistics.median(values[ours]),
            peers={name: statistics.median(values[name]) for name in peers},
            ratios={name: Ratio.of(values[ours], values[name], self.best) for name in peers},
            tls=check_tls(servers), details=details(rounds),
            rounds=[{name: sample.summary() for name, sample in taken.items()} for taken in rounds])
        for s in servers:
            if s.upstream:
                result.details[s.name].update(tls_connections=s.agreed.n, tls_resumed=s.agreed.n_resumed)
        check_floor(result)
        if not self.against:
            result.note = self.note(rounds)
        return result


class Signed5k(Compare):
    name = "signed-5k"
    work = "signed, 5 KB body, 64 keep-alive connections"
    marks = (Mark(0.95, "nginx-syslog"), Mark(1.12, "floor"))
    load = Load(body=body(5000))

    def servers(self, bench):
        return [*super().servers(bench), NginxSyslog(bench, "nginx-syslog-awake", naps=True),
                FloorKept(bench, self.load)]

    def note(self, rounds):
        audit = median(rounds, Daemon.name, lambda s: s.audit_cpu_per_request)
        lengths = ", ".join(f"{name} {median(rounds, name, lambda s: s.record_bytes):.0f}"
                            for name in (Daemon.name, "nginx-syslog", "floor"))
        return f"{audit:.1f} us of ours is the audit writer's thread; bytes a record: {lengths}"


class Signed200(Signed5k):
    name = "signed-200"
    work = "the same with 200 B"
    load = Load(body=body(200))


class Added(Compare):
    """Latency added over a client that speaks TLS to the upstream itself."""
    unit = "us added to direct's median"
    journal_naps = True          # it would wake on the generator's core, each time an answer comes

    def servers(self, bench):
        return [*super().servers(bench), bench.upstream]

    def value(self, taken, name):
        return self.added(taken, name, 50)

    @staticmethod
    def added(taken, name, p):
        return taken[name].percentile(p) - taken["direct"].percentile(p)

    def result(self, servers, rounds):
        result = super().result(servers, rounds)
        del result.peers["direct"], result.ratios["direct"]
        least = {s.name: min(taken[s.name].percentile(50) for taken in rounds) for s in servers}
        for name, ratio in result.ratios.items():  # of the fastest each, direct's included
            ours, theirs = (least[n] - least["direct"] for n in (servers[0].name, name))
            result.ratios[name] = dataclasses.replace(ratio, fastest=ours / theirs if theirs > 0 else math.inf)
        for name, value in result.peers.items():
            if value <= 0:
                result.unsound[name] = f"{name} added nothing over direct: the machine's noise is larger"
        return result

    def note(self, rounds):
        said = [f"{name} {median(rounds, name, lambda s: s.percentile(99)):.0f}" for name in rounds[0]]
        return f"99th percentile of all, not only what is added: {', '.join(said)} us"


class LatencyOne(Added):
    name = "latency"
    work = "one connection: median latency added"
    marks = (Mark(1.0, "nginx-syslog"),)
    load = Load(clients=1, body=body(5000))


class OpenLoop(Added):
    name = "open-loop"
    work = "open loop, 2,000 a second: median latency added"
    marks = (Mark(1.2, "nginx-syslog"),)
    load = Load(clients=21, body=body(5000), rate=2000)
    stretch = 3


class EachConnection(Compare):
    name = "connection-each"
    work = "a connection for each request, 16 at a time"
    marks = (Mark(1.0, "nginx-syslog"),)
    load = Load(clients=16, body=body(5000), close=True)


class Unrecorded(Daemon):
    """Of one enclave's refusals 10 a second are recorded, as in production."""

    def records(self, load, n):
        return None


class Refused(Compare):
    journal_naps = True          # else nginx-403-syslog, at 60,000 a second, loses records
    name = "refused"
    work = "refused by policy / nginx `return 403`"
    marks = (Mark(1.2, "nginx-403"),)
    load = Load(body=body(200, KEY[:-1] + "f"), expect="4xx")

    def servers(self, bench):
        ours = Unrecorded(bench)
        ours.upstream = False
        return [ours, NginxRefusal(bench), NginxRefusalSyslog(bench)]

    def note(self, rounds):
        return "of one enclave's refusals 10 a second are recorded, as in production; nginx-403-syslog records all"


class RefusedConnections(Refused):
    name = "refused-each"
    work = "connect, one request refused by policy, close; 16 at a time"
    marks = (Mark(20000.0, at_least=True),)
    load = Load(clients=16, body=body(200, KEY[:-1] + "f"), expect="4xx", close=True)
    unit = "connections a second"
    best = max

    def value(self, taken, name):
        return taken[name].rate

    def note(self, rounds):
        each = median(rounds, Daemon.name, lambda s: s.cpu_per_request)
        return (f"CPU a connection {each:.1f} us: a core to itself would do {1e6 / each:.0f}, where other work and the "
                "generator leave it less")


class TwoWorkers(Compare):
    name = "two-workers"
    work = "two workers on two cores / one worker"
    marks = (Mark(1.8, "kms-vsock-proxy", at_least=True),)
    load = Load(body=body(5000))
    unit = "requests a second"
    best = max

    def value(self, taken, name):
        return taken[name].rate

    def servers(self, bench):
        place = bench.place
        if not place.spare:
            raise Unmeasured(f"{place.cores} cores: two workers, the upstream and the generator want one each, "
                             "so that here the generator would be measured")
        two = Daemon(bench, "two-workers", workers=2)
        two.cores = lambda: place.proxy + place.spare
        return [two, Daemon(bench)]


class TwoWorkersCpu(Compare):
    name = "two-workers-cpu"
    work = "two workers on one core / one worker"
    load = Load(body=body(5000))

    def servers(self, bench):
        return [Daemon(bench, "two-workers", workers=2), Daemon(bench)]


class ManyUpstreams(Compare):
    journal_naps = True          # else nginx loses records: it sends 512 at once, and a socket holds 277 unread
    name = "upstream-512"
    work = "the same as signed-5k with 512 connections on either side"
    marks = (Mark(1.0, "nginx-syslog-512"),)
    load = Load(body=body(5000), clients=512)

    def servers(self, bench):
        many = Daemon(bench, "ours-512")
        many.config["endpoints"]["kms"]["connections"] = 512
        return [many, NginxSyslog(bench, "nginx-syslog-512"), Floor(bench, self.load, "floor-512"),
                NginxProxy(bench, "nginx-512"), HaproxyHttp(bench, "haproxy-512"), Daemon(bench)]

    def loads(self, servers):
        return {servers[-1]: dataclasses.replace(self.load, clients=64)}

    def note(self, rounds):
        return "kms-vsock-proxy is ours with 64"


class TunnelShort(Compare):
    name = "tunnel-short"
    work = "tunnel, short, 4 at a time / HAProxy TCP by SNI"
    marks = (Mark(1.0, "haproxy-tcp"),)
    load = Load(clients=4, body=body(200), close=True)
    unit = "CPU us a connection"

    def servers(self, bench):
        return [Daemon(bench, tunnel=True), HaproxyTcp(bench), Socat(bench)]


class TunnelBulk(TunnelShort):
    name = "tunnel-bulk"
    work = "tunnel, bulk downloads, 4 at a time / HAProxy TCP by SNI"
    load = Load(clients=4, path="/bulk")
    unit = "CPU us a MiB"

    def value(self, taken, name):
        return taken[name].cpu_us / (taken[name].run.requests * BULK / 2**20)


class ManyRules(Compare):
    name = "many-rules"
    work = "4 enclaves of 1,000 rules of 10 keys / one rule"
    marks = (Mark(1.1, "kms-vsock-proxy"),)
    load = Load(body=body(5000))

    def servers(self, bench):
        many = Daemon(bench, "many-rules")
        self.config(many)
        return [many, Daemon(bench)]

    @staticmethod
    def config(daemon):
        """The key that is asked for stands last of all."""
        keys = [f"{KEY[:-12]}{i:012x}" for i in range(10000)]
        rules = [{"name": f"r{i}", "actions": ["Encrypt"], "plaintext": "allow",
                  "keys": keys[10 * i:10 * i + 10]} for i in range(1000)]
        for i in range(3):
            daemon.config["enclaves"][f"other-{i}"] = {"cid": 16 + i, "endpoints": ["kms"], "allow": rules}
        daemon.enclave["allow"] = rules[:-1] + [{**rules[-1], "keys": rules[-1]["keys"][:-1] + [KEY]}]

    def note(self, rounds):
        return "the request's key is the last of the last rule"


class Audit(Compare):
    name = "audit"
    work = "audit on / audit off, the workers' CPU"
    marks = (Mark(1.15, "audit-off"),)
    load = Load(body=body(5000))

    def servers(self, bench):
        return [Daemon(bench), Daemon(bench, "audit-off", audit="refusals")]

    def value(self, taken, name):
        return taken[name].cpu_per_request - taken[name].audit_cpu_per_request

    def note(self, rounds):
        on, off = ([taken[name].cpu_per_request for taken in rounds] for name in (Daemon.name, "audit-off"))
        return f"with the writer's thread {Ratio.of(on, off).median:.2f}"


class TextMode(Compare):
    name = "text-mode"
    work = "records as text on a pipe / to the journal"
    load = Load(body=body(5000))

    def servers(self, bench):
        return [Daemon(bench, "text", text=True), Daemon(bench)]
