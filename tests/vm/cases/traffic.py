# SPDX-License-Identifier: Apache-2.0
"""Steady requests from several enclaves, as SDKs send them: on a kept connection, and again on a
new one when the old one ended. Everything that happened is counted."""

import threading
import time

import service
from kms.client import request

DESCRIBE = request("DescribeKey", {"KeyId": "alias/payments"})
ATTEMPTS = 20       # of one call; SDKs make three to five, of a service that answers at once
DEADLINE = 60


class Caller(threading.Thread):
    """One enclave: `rate` calls a second until told to stop. Of the calls that were due while it
    waited for an answer it makes up for those of the last `behind` seconds."""

    def __init__(self, enclave, rate, body=DESCRIBE, behind=1):
        super().__init__(daemon=True)
        self.enclave = enclave
        self.interval = 1 / rate
        self.body = body
        self.behind = behind
        self.sent = self.answered = self.retried = self.refused_connections = 0
        self.failed = []
        self.statuses = {}
        self.latencies = []
        self.stopping = threading.Event()
        self._client = None

    def _try(self):
        if self._client is None:
            self._client = self.enclave.client(service.PORT)
        answer = self._client.ask(self.body)
        if answer.header("Connection") == "close":
            self._drop()
        return answer

    def _drop(self):
        if self._client:
            self._client.close()
        self._client = None

    def _call(self):
        start = time.monotonic()
        self.sent += 1
        for attempt in range(ATTEMPTS):
            try:
                answer = self._try()
            except (OSError, EOFError) as error:
                self.refused_connections += isinstance(error, ConnectionRefusedError)
                self._drop()
                self.retried += 1
                time.sleep(0.05 * (attempt + 1))
                continue
            if answer.status in (500, 502, 503, 504):
                self.retried += 1
                time.sleep(0.05 * (attempt + 1))
                continue
            self.answered += 1
            self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
            self.latencies.append(time.monotonic() - start)
            return
        self.failed.append(f"no answer in {ATTEMPTS} attempts")

    def run(self):
        due = time.monotonic()
        while not self.stopping.is_set():
            self._call()
            due = max(due + self.interval, time.monotonic() - self.behind)
            self.stopping.wait(max(0, due - time.monotonic()))
        self._drop()


class Traffic:
    """with Traffic(enclaves, (16, 17, 18, 19), 50) as traffic: ...; then traffic.report()."""

    def __init__(self, enclaves, cids, rate, body=DESCRIBE, behind=1):
        self.callers = {cid: Caller(enclaves(cid), rate / len(cids), body, behind) for cid in cids}
        self.rate = rate
        self.seconds = 0

    def __enter__(self):
        self._start = time.monotonic()
        for caller in self.callers.values():
            caller.start()
        return self

    def __exit__(self, *_):
        for caller in self.callers.values():
            caller.stopping.set()
        for caller in self.callers.values():
            caller.join(DEADLINE * 2)
        self.seconds = time.monotonic() - self._start

    def answered(self):
        return sum(c.answered for c in self.callers.values())

    def wait_answers(self, more):
        """Until `more` answers than now have come."""
        want = self.answered() + more
        service.wait(lambda: self.answered() >= want, message=lambda: f"{self.answered()} of {want} answers")

    def wait_rate(self, seconds=10):
        """Until the calls that were due since the start are answered, or the time is over: a host
        that is too busy for the rate fails nothing."""
        deadline = time.monotonic() + seconds
        while self.answered() < self.rate * (time.monotonic() - self._start) - 1 and time.monotonic() < deadline:
            time.sleep(0.1)

    def answered_per_second(self):
        return self.answered() / self.seconds

    def failed(self):
        return [f for c in self.callers.values() for f in c.failed]

    def refused_connections(self):
        return sum(c.refused_connections for c in self.callers.values())

    def statuses(self):
        total = {}
        for caller in self.callers.values():
            for status, n in caller.statuses.items():
                total[status] = total.get(status, 0) + n
        return total

    def report(self, title):
        latencies = sorted(x for c in self.callers.values() for x in c.latencies)
        late = latencies[int(len(latencies) * 0.99)] if latencies else 0
        sent = sum(c.sent for c in self.callers.values())
        print(f"{title}: {sent} sent in {self.seconds:.1f} s ({sent / self.seconds:.0f}/s), {self.answered()} answered, "
              f"{sum(c.retried for c in self.callers.values())} retried, {len(self.failed())} failed, "
              f"{self.refused_connections()} connections refused; "
              f"99th percentile {late * 1000:.0f} ms, longest {latencies[-1] * 1000 if latencies else 0:.0f} ms")
