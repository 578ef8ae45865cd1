# SPDX-License-Identifier: Apache-2.0
"""The frame around every fault of the world: what must be true of each, whatever it is.

    with world.fault(reason="too-slow", at_least=4.9, within=8):
        client.send(DESCRIBE[:20])
        assert client.read().status == 408

The frame checks what isn't the fault's own: how long it took, the record it leaves, that the enclave
it happened to is served again, that no descriptor is left over - and that the witness noticed
nothing. The witness is another enclave: it holds a connection open, asks all the time, and each of
its requests must be answered, rightly and soon.
"""

import contextlib
import dataclasses
import os
import statistics
import threading
import time

from daemon import DEADLINE, Daemon, parse_line, wait_for
from daemon.help import add_enclave, DESCRIBE
from daemon.tunnel_help import NAME, SLOW
from figures import figure
from kms.client import request
from standins import LocalImds, LocalKms

PACE = 0.03             # seconds between two requests of a lane
BOUND = 2 * SLOW        # seconds in which each must be answered
MEDIAN = 0.25 * SLOW    # and half of them: so that a loop that blocks for a while at a time is seen
SPARE = 2               # descriptors that may be on their way out
POOLED = 1              # descriptors of a connection to KMS
OWN = "kms.own.test"    # the witness's own endpoint


@dataclasses.dataclass
class Tally:
    """All faults of a session, and what the witnesses saw."""

    faults: set = dataclasses.field(default_factory=set)    # names of the tests
    requests: int = 0
    failures: int = 0
    slowest: float = 0

    def print(self):
        if self.faults:
            figure("faults of the world survived", len(self.faults))
            figure("requests of other enclaves meanwhile", self.requests)
            figure("of those lost, wrong or late", self.failures)
            figure("the slowest of those", f"{self.slowest * 1000:.0f} ms")


class Lane:
    """One connection of the witness that asks the same all the time. It is never opened anew: that
    it was closed is a failure."""

    def __init__(self, daemon, enclave, host, key):
        self.client = daemon.client(enclave)
        self.question = request("DescribeKey", {"KeyId": key}, host=host)
        self.answer = self.client.ask(self.question)
        assert self.answer.status == 200, self.answer
        self.times, self.failures = [], []
        self.slowest = 0
        self._pause, self._paused = threading.Event(), threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(PACE):
            if self._pause.is_set():
                self._paused.set()
                continue
            self._paused.clear()
            start = time.monotonic()
            try:
                answer = self.client.ask(self.question)
            except (OSError, EOFError) as error:
                self.failures.append(repr(error))
                return
            self.times.append(time.monotonic() - start)
            if (answer.status, answer.body) != (200, self.answer.body):
                self.failures.append(repr(answer))

    def pause(self, pause=True):
        """Returns when none of its requests is on the way."""
        if pause:
            self._paused.clear()
            self._pause.set()
            wait_for(lambda: self._paused.is_set() or not self._thread.is_alive())
        else:
            self._pause.clear()

    def mark(self):
        return len(self.times), len(self.failures)

    def look(self, mark, bound=BOUND):
        """Checks all requests since the mark, and at least one that began after this call."""
        if not self._pause.is_set():
            asked = len(self.times)
            wait_for(lambda: len(self.times) > asked + 1 or not self._thread.is_alive())
        times, failures = self.times[mark[0]:], self.failures[mark[1]:]
        assert not failures and self._thread.is_alive(), failures[:3]
        if times:
            self.failures += [f"took {t:.2f} s" for t in times if t >= bound]
            if bound == BOUND:
                self.slowest = max(self.slowest, *times)
            assert max(times) < bound, f"a request of another enclave took {max(times):.2f} s"
            assert statistics.median(times) < MEDIAN, f"{statistics.median(times):.3f} s each"

    def stop(self):
        self._stop.set()
        self._thread.join()
        self.client.close()


class World:
    """A daemon with two endpoints: `kms`, where faults happen, and `own`. The witness's lanes are
    `own` and `shared`, the latter on the endpoint with the faults. payments is who is hit."""

    def __init__(self, folder, tally, imds=None, **endpoint):
        self.tally = tally
        self._stack = contextlib.ExitStack()
        enter = self._stack.enter_context
        self.kms = enter(LocalKms())
        self.own = enter(LocalKms(self.kms.credentials, hosts={OWN: "eu-central-1"},
                                  authority=self.kms.server.identity.authority))
        self.imds = imds or enter(LocalImds(self.kms.credentials))
        self.daemon = Daemon(folder, self.kms, self.imds)
        self.config = self.daemon.config
        self.config["endpoints"]["kms"].update(endpoint)
        self.add_endpoint("own", self.own.address, host=OWN)
        self.enclave("witness", endpoints=["own", "kms"])
        self.lanes = {}
        self.shared = True      # whether the witness asks at `kms` as well
        self.many = False       # whether several faults are going on at the same time
        self.base = None

    def add_endpoint(self, name, connect_to, **changes):
        self.config["endpoints"][name] = {
            **self.config["endpoints"]["kms"], "connect_to": connect_to, **changes}

    def enclave(self, name, **changes):
        return add_enclave(self.daemon, name, **changes)

    # Its life.

    def __enter__(self):
        self._stack.enter_context(self.daemon)
        self.lanes["own"] = Lane(self.daemon, "witness", OWN, "alias/other")
        if self.shared:
            self.lanes["shared"] = Lane(self.daemon, "witness", NAME, "alias/multi")
            assert self.ask().status == 200
        self._stack.callback(self._end)
        self.base = self.descriptors()
        return self

    def _end(self):
        self.tally.requests += sum(len(lane.times) for lane in self.lanes.values())
        self.tally.failures += sum(len(lane.failures) for lane in self.lanes.values())
        self.tally.slowest = max(self.tally.slowest, *(lane.slowest for lane in self.lanes.values()))
        for lane in self.lanes.values():
            lane.stop()

    def __exit__(self, *how):
        return self._stack.__exit__(*how)

    def close(self):
        """For who never entered it, too."""
        if self.daemon.process is not None:
            self.daemon.process.kill()
            self.daemon.process.wait()
            self.daemon.process = None
            self._stack.__exit__(AssertionError, None, None)    # which is on its way already
        self._stack.close()

    # What a fault needs.

    def client(self, enclave="payments", **how):
        return self.daemon.client(enclave, **how)

    def ask(self, data=DESCRIBE, enclave="payments"):
        """On a connection of its own."""
        with self.client(enclave) as client:
            return client.ask(data)

    def _serves(self, data, enclave):
        try:
            return self.ask(data, enclave).status == 200
        except (EOFError, OSError):
            return False

    def mark(self):
        return self.daemon.log_size()

    def records(self, mark, **fields):
        """What the daemon has written since."""
        wanted = [str(v) for v in fields.values()]      # most lines aren't worth parsing
        found = [parse_line(line) for line in self.daemon.log(mark).splitlines()
                 if all(v in line for v in wanted)]
        return [r for r in found if all(r.get(n) == str(v) for n, v in fields.items())]

    @contextlib.contextmanager
    def alone(self):
        """The witness lets the endpoint of the faults be: all of it is out of order."""
        lane = self.lanes.get("shared")
        if lane:
            lane.pause()
        try:
            yield
        finally:
            if lane:
                lane.pause(False)

    @contextlib.contextmanager
    def fault(self, *, reason=None, count=1, at_least=0, within=3, enclave="payments",
              serves=DESCRIBE, bound=BOUND, label=None, **fields):
        """The frame. reason: of the records, `count` of them, that must be there, with `fields`;
        at_least, within: seconds that it may take; serves: what works afterwards; bound: for the
        witness, where the whole daemon can't but be late; label: of the fault, where it is no test
        of its own."""
        begin = {name: lane.mark() for name, lane in self.lanes.items()}
        mark, start = self.mark(), time.monotonic()
        yield
        took = time.monotonic() - start
        assert at_least <= took <= within * SLOW, f"it took {took:.2f} s"
        if reason:
            self.wait_record(mark, count, REASON=reason, ENCLAVE=enclave, **fields)
        wait_for(lambda: self._serves(serves, enclave))
        for name, lane in self.lanes.items():
            lane.look(begin[name], bound)
        if not self.many:
            self.check_descriptors()
        self.tally.faults.add(label or os.environ["PYTEST_CURRENT_TEST"])

    def wait_record(self, mark, count=1, deadline=DEADLINE, **fields):
        return wait_for(lambda: len(found := self.records(mark, **fields)) >= count and found[-1],
                        deadline, message=lambda: f"no {count} of {fields} in " + "\n".join(
                            str(r) for r in self.records(mark)[-200:] if r.get("ENCLAVE") != "witness"))

    def descriptors(self):
        """Those that belong to no connection in a pool."""
        pooled = sum(service.server.open_connections() for service in (self.kms, self.own))
        return self.daemon.descriptors() - pooled * POOLED

    def check_descriptors(self):
        wait_for(lambda: self.descriptors() <= self.base + SPARE,
                 message=lambda: f"{self.descriptors()} descriptors, {self.base} at first")
