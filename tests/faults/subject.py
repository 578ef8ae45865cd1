# SPDX-License-Identifier: Apache-2.0
"""A daemon whose calls fail one after the other, and what must hold after each.

    with subject:
        subject.sweep(scenario, "allocation", ["worker"], ["ENOMEM"])

makes the 1st, 2nd, 3rd ... allocation of the scenario fail, until it is over before the n-th. A
scenario is a function of the subject that returns what the enclave saw, or raises AssertionError;
what it has to prepare stands in `before`, which is called with nothing armed.

Reading a configuration alone makes two thousand allocations; of a reload's, each 40th fails unless
$KMS_VSOCK_PROXY_EVERY_FAULT is set, as it is by ./test --nightly.

To repeat one point: $KMS_VSOCK_PROXY_FAULT="KIND THREADS N ERROR" and the name of the test; a
failure prints that line.
"""

import concurrent.futures
import contextlib
import itertools
import os
import re
import threading
import time
import warnings

from daemon import Daemon, wait_for
from fault_points import Page, library, trace
from daemon.help import DESCRIBE, add_enclave
from standins import LocalContainer

import pytest

SLOW = 4 if os.environ.get("KMS_VSOCK_PROXY_SLOW") else 1
ONLY = os.environ.get("KMS_VSOCK_PROXY_FAULT")
EVERY = os.environ.get("KMS_VSOCK_PROXY_EVERY_FAULT")
WINDOW = 3          # points that may be the one that left something allocated
REPEATS = 6         # of a point that may leave something allocated
SLOW_POINTS = 3     # of one daemon that a slow machine may have us try again
DEADLINE = 15 * SLOW
REFUSALS = {400, 408, 500, 502, 503, 504}
TYPES = {"ThrottlingException", "ServiceUnavailableException", "KMSInternalException",
         "AccessDeniedException", "SerializationException"}
CLOSED = "closed"
COUNTING = threading.Lock()
# What libraries leak when an allocation fails, which nobody but they could free: how the trace of
# that allocation begins, and how many. libyaml 0.2.5 forgets a mapping's pairs, or a sequence's
# items, when the document's list of nodes can't grow.
LEAKS_OF_LIBRARIES = [(("yaml_stack_extend", "yaml_parser_load"), 1)]


class Subject:
    def __init__(self, folder, kms, imds, survived):
        self.kms, self.imds = kms, imds
        self.survived = survived
        self.points = 0
        self.warm = False
        self.slow = 0                   # points that were tried again
        self.rest = 0.06 * SLOW         # seconds until what is over is freed
        self.refused = []               # the ids that the daemon gave its refusals
        self.page = Page(folder)
        self.frames = []                # of the last call that failed
        self.daemon = Daemon(folder, kms, imds)
        environment = self.page.environment()
        if "sanitize" in os.environ.get("KMS_VSOCK_PROXY_BUILD", ""):
            environment["ASAN_OPTIONS"] = (os.environ.get("ASAN_OPTIONS", "") +
                                           ":verify_asan_link_order=0")
        self.daemon.environment.update(environment)
        add_enclave(self.daemon, "ledger")
        self.daemon.config["endpoints"]["kms"].update(
            connect_timeout="5s", reply_timeout="6s", queue_timeout="6s")
        self.stack = contextlib.ExitStack()
        self.container_type = LocalContainer
        self.other = None               # a connection of the other enclave, open all the time

    def __enter__(self):
        assert library().exists(), f"{library()} is not built"
        self.daemon.start()
        assert self.page.ready, "the daemon runs without the library that makes its calls fail"
        self.other = self.daemon.client("ledger", timeout=DEADLINE)
        self.settle()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.check_counters()
        self.other.close()
        if kind is None:
            self.daemon.__exit__(None)
            self.check_log()

    def kill(self):
        self.stack.close()
        if self.daemon.process is not None:
            self.daemon.process.kill()
            self.daemon.process.wait()

    # What an enclave sees.

    def ask(self, data, enclave="payments", pieces=None):
        """Sends a request on a connection of its own; the status of the answer, or CLOSED."""
        with self.daemon.client(enclave, timeout=DEADLINE) as client:
            try:
                if pieces:
                    for i in range(0, len(data), pieces):
                        client.send(data[i:i + pieces])
                else:
                    client.send(data)
            except (BrokenPipeError, ConnectionResetError):
                pass                    # an answer may have come before
            return self.read(client)

    def read(self, client):
        try:
            answer = client.read()
        except (EOFError, ConnectionResetError):
            return CLOSED
        if answer.status == 200:
            assert answer.json, "an answer without its body"
            return 200
        assert answer.status in REFUSALS, answer
        assert answer.error in TYPES, answer
        assert answer.json["message"], answer
        name = answer.header("x-amzn-RequestId")
        assert name, answer
        self.refused.append(name)
        return answer.status

    def may(self, data):
        """Whether the policy allows it; None when something else is wrong."""
        return {200: True, 400: False}.get(self.ask(data))

    def signs_with(self):
        """The access key that KMS sees now; None when something else is wrong."""
        return self.ask(DESCRIBE) == 200 and self.kms.requests[-1].access_key_id

    def wait_in_force(self, condition):
        """What a worker had no memory to hear it is told again within seconds."""
        wait_for(condition, DEADLINE, "what was loaded is not in force")

    # What it says.

    def said_so_far(self):
        return self.daemon.log_size()

    def wait_said(self, pattern, start, deadline=DEADLINE):
        """The match in what was written after `start`."""
        def look():
            assert self.daemon.process.poll() is None, "the daemon ended"
            return re.search(pattern, self.daemon.log(start))
        return wait_for(look, deadline, f"it didn't say {pattern!r}")

    # What must hold.

    def check_works(self):
        """The next request, and the other enclave's connection, which was open all the time."""
        assert self.daemon.process.poll() is None, "the daemon ended"
        assert self.ask(DESCRIBE) == 200, "the next request is refused"
        assert self.read_other() == 200, "the other enclave noticed"

    def read_other(self):
        self.other.send(DESCRIBE)
        return self.read(self.other)

    def held(self):
        return self.page.live, self.daemon.descriptors()

    def settle(self):
        """What is held when it is at rest."""
        self.check_works()
        least = self.held()
        quiet = time.monotonic() + self.rest
        while time.monotonic() < quiet:
            time.sleep(0.01)
            now = self.held()
            if now < least:
                least, quiet = now, time.monotonic() + self.rest
        return least

    def check_counters(self):
        """Every refusal that an enclave saw was counted and recorded, or counted as left out."""
        def counted():
            records = self.daemon.records(ENCLAVE="payments")
            return [r for r in records if "REQUESTS" in r]
        self.daemon.process.send_signal(10)     # SIGUSR1
        wait_for(counted, message="no counters came")
        last = counted()[-1]
        names = [n for n in last if n in ("CONNECTIONS_REFUSED", "REFUSED", "FAILED", "THROTTLED")]
        assert names, last
        assert sum(int(last[n]) for n in names) >= len(self.refused), (last, len(self.refused))

    def check_log(self):
        log = self.daemon.log()
        for one in self.kms.credentials.all():
            assert one.secret_access_key not in log
            assert not one.token or one.token[:40] not in log
        recorded = sum(name in log for name in self.refused)
        assert recorded >= min(len(self.refused), 10), "refusals without a record"

    # The sweep.

    def point(self, scenario, kind, threads, n, error, times=1):
        """True: the call was made, failed, and all is well."""
        start = self.said_so_far()
        try:
            return self.try_point(scenario, kind, threads, n, error, times)
        except Exception as bad:
            why = self.explain(bad, kind, threads, n, error)
            if not self.was_slow(start):
                pytest.fail(why, pytrace=False)
        # A time limit was passed. What is broken passes it again, a machine with much to do won't.
        warnings.warn(f"tried again: {why}")
        self.slow += 1
        try:
            wait_for(lambda: self.ask(DESCRIBE) == 200, DEADLINE, "the next request is refused")
            return self.try_point(scenario, kind, threads, n, error, times)
        except Exception as bad:
            pytest.fail(self.explain(bad, kind, threads, n, error), pytrace=False)

    def try_point(self, scenario, kind, threads, n, error, times):
        scenario.before(self)
        self.page.arm(kind, threads, n, error, times)
        try:
            scenario.run(self)
            fired = self.page.disarm()
            self.frames = self.page.frames() if fired else self.frames
            self.check_works()
        except Exception:
            self.page.disarm()
            self.frames = self.page.frames()
            raise
        return fired > 0

    def was_slow(self, start):
        """Whether a request was refused for its time alone, and that is rare."""
        said = self.daemon.log(start)
        running = self.daemon.process.poll() is None
        return running and not ONLY and self.slow < SLOW_POINTS and "timeout" in said

    def explain(self, why, kind, threads, n, error):
        status = self.daemon.process.poll()
        again = f"{kind} {','.join(threads)} {n} {error}"
        return (f"{type(why).__name__}: {why}\n"
                f"the daemon {'runs' if status is None else f'ended with {status}'}; {kind} number {n} "
                f"of {', '.join(threads)} failed with {error}, called from\n{trace(self.frames)}\n"
                f"again: KMS_VSOCK_PROXY_FAULT='{again}' KMS_VSOCK_PROXY_BUILD="
                f"{library().parents[2]} /usr/bin/python3 -B -m pytest -p no:cacheprovider "
                f"'{os.environ['PYTEST_CURRENT_TEST'].split(' ')[0]}'\n"
                f"the end of its log:\n{self.daemon.log()[-1500:]}")

    def sweep(self, scenario, kind, errors, threads=None, first=1, stride=1):
        """All points of one kind. Returns how many there were."""
        threads = threads or scenario.threads
        for _ in range(0 if self.warm else 3):  # what is allocated once and kept
            scenario.before(self)
            scenario.run(self)
            self.check_works()
        self.warm = True
        if ONLY:
            only_kind, only_threads, n, error = ONLY.split()
            if only_kind != kind or only_threads.split(",") != list(threads) or error not in errors:
                return 0
            assert self.point(scenario, kind, threads, int(n), error), "it isn't called"
            self.check_leak(scenario, kind, threads, int(n), error)
            return 1
        done, base = 0, self.settle()
        for error in errors:
            tried, held, missed = [], [base], 0
            for n in itertools.count(first, stride):
                if not self.point(scenario, kind, threads, n, error):
                    missed += 1
                    if missed == 2:
                        break
                    continue
                tried.append(n)
                held.append(self.held())
            base = self.settle()
            held.append(base)
            for n in suspects(tried, held):
                self.check_leak(scenario, kind, threads, n, error)
            done += len(tried)
        self.count(kind, done)
        return done

    def count(self, kind, points):
        self.points += points
        with COUNTING:
            self.survived[kind] = self.survived.get(kind, 0) + points

    def growth(self, scenario, kind, threads, n, error):
        """Of allocations and descriptors, by REPEATS of this point."""
        start = self.settle()
        for _ in range(REPEATS):
            self.point(scenario, kind, threads, n, error)
        now = self.settle()
        return now[0] - start[0], now[1] - start[1]

    def check_leak(self, scenario, kind, threads, n, error):
        """Some things are allocated once and kept: only what grows at each repetition leaks."""
        quick, self.rest = self.rest, 3 * self.rest
        try:
            grown = self.growth(scenario, kind, threads, n, error)
            if max(grown) >= REPEATS - 1:       # once more: the machine may have been slow
                grown = self.growth(scenario, kind, threads, n, error)
        finally:
            self.rest = quick
        names = tuple((line.split() + [""])[1] for line in trace(self.frames).splitlines()[:2])
        theirs = sum(count for begins, count in LEAKS_OF_LIBRARIES if begins == names)
        grown = grown[0] - theirs * REPEATS, grown[1]
        if max(grown) >= REPEATS - 1:
            why = (f"{REPEATS} times over, {grown[0]} allocations and {grown[1]} descriptors more "
                   "are held")
            pytest.fail(self.explain(AssertionError(why), kind, threads, n, error), pytrace=False)


def suspects(tried, held):
    """The points after which more was held than before, for good. held: before the first, after
    each, and at rest at the end. A point may be seen late, when something else was held for a
    moment, so some of those after it are suspected too."""
    found = set()
    for what in range(2):
        least = held[-1][what]
        for i in range(len(tried) - 1, -1, -1):
            least_with_this = min(least, held[i + 1][what])
            if min(held[i][what], least_with_this) < least_with_this:
                found.update(tried[i:i + WINDOW])
            least = least_with_this
    return sorted(found)


def in_lanes(lanes, run):
    """run(lane, i) of all of them at once; the sum of what they return."""
    with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
        return sum(pool.map(run, lanes, range(len(lanes))))


def sweep_in_lanes(lanes, *what, each=1, **how):
    """One sweep, whose points are dealt out; of them each, or each 10th and so on."""
    each = 1 if EVERY else each
    lanes = lanes[:1] if ONLY else lanes

    def run(lane, i):
        with lane:
            return lane.sweep(*what, first=i * each + 1, stride=len(lanes) * each, **how)

    return in_lanes(lanes, run)
