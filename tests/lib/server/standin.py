# SPDX-License-Identifier: Apache-2.0
"""What every HTTP stand-in offers to a test: start and stop, records, faults, waiting."""


class Standin:
    """A context manager; started by `with` or start(), and again after stop() on the same port."""

    def __init__(self, server):
        self.server = server

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.clear()
        self.stop()

    def start(self):
        self.server.start()
        return self

    def stop(self):
        """Connections are refused from now on, and those there are end."""
        self.server.stop()

    def drop_connections(self):
        """Ends the connections there are; new ones are accepted."""
        self.server.drop_connections()

    @property
    def port(self):
        return self.server.port

    @property
    def address(self):
        host = f"[{self.server.host}]" if ":" in self.server.host else self.server.host
        return f"{host}:{self.port}"

    @property
    def url(self):
        return f"{'https' if self.server.identity else 'http'}://{self.address}"

    # Time.

    def clock(self):
        return self.server.clock()

    @property
    def clock_offset(self):
        """Seconds by which this stand-in's clock is ahead: its Date and all its judgements."""
        return self.server.clock_offset

    @clock_offset.setter
    def clock_offset(self, seconds):
        self.server.clock_offset = seconds

    # Faults.

    def fault(self, kind, **how):
        """FaultBoard.add: kind, count (default 1; None: until cleared), action, path,
        body_contains, and the kind's own parameters."""
        return self.server.faults.add(kind, **how)

    def clear(self, number=None):
        return self.server.faults.clear(number)

    def _apply(self, stage, request, subject):
        """For a service: applies the faults of a stage and notes them in the record."""
        for fault in self.server.faults.take(stage, request):
            request.faults.append(fault.name)
            fault.apply(subject)

    # Records.

    @property
    def requests(self):
        """The requests so far, oldest first (http_message.Request)."""
        return self.server.snapshot(self.server.requests)

    @property
    def connections(self):
        """The connections so far, oldest first (http_connection.Connection)."""
        return self.server.snapshot(self.server.connections)

    @property
    def resumptions(self):
        """How many connections resumed a TLS session."""
        return sum(bool(c.resumed) for c in self.connections)

    def asked(self, action):
        """The requests of one action."""
        return [r for r in self.requests if r.action == action]

    def forget_requests(self):
        """Empties the record, between the parts of a test."""
        self.server.forget_requests()

    def wait(self, condition, timeout=10):
        """Waits until condition() is true; raises TimeoutError."""
        self.server.wait(condition, timeout)

    def wait_for_requests(self, count=1, action=None, timeout=10):
        """Waits until so many requests (of an action) were read, answered or not; returns them."""
        def found():
            return [r for r in self.requests if action in (None, r.action)]
        self.wait(lambda: len(found()) >= count, timeout)
        return found()

    def wait_closed(self, timeout=10):
        """Waits until no connection is open."""
        self.wait(lambda: self.server.open_connections() == 0, timeout)

    def state(self):
        return {"url": self.url, "host": self.server.host, "port": self.port}
