# SPDX-License-Identifier: Apache-2.0
"""Faults: what a stand-in does wrong on purpose, switched on and off while it runs.

A fault has a kind (a row of a table), parameters, a condition (action, path, a part of the
body) and a count: how many requests it is for, or None for "until cleared". Each kind belongs
to one stage:

  accept   before TLS: the condition can't look at a request, there is none yet
  read     a request is coming in, but nothing of it has been read
  error    the service refuses; applied after the signature check, so that no fault hides a
           wrong signature, and before anything is done
  answer   the service itself answers otherwise (a leak, a missing member)
  reply    the answer is right but its bytes aren't

`python3 -m server.faults`, in tests/lib, prints the kinds of every stand-in's common table.
"""

import inspect
import itertools
import threading

RESERVED = ("kind", "count", "action", "path", "body_contains")
STAGES = ("accept", "read", "error", "answer", "reply")


class Kind:
    """One row of a fault table: the stage and the function whose keywords are the parameters."""

    def __init__(self, stage, function):
        assert stage in STAGES
        self.stage = stage
        self.function = function
        self.signature = inspect.signature(function)
        assert not set(RESERVED) & set(self.signature.parameters)

    def bind(self, params):
        """Refuses parameters that the function doesn't have, so that no typo passes."""
        self.signature.bind(None, **params)


class Table(dict):
    """Fault kinds by name."""

    def kind(self, stage):
        def add(function):
            self[function.__name__] = Kind(stage, function)
            return function
        return add


class Fault:
    def __init__(self, number, name, kind, params, count, action, path, body_contains):
        self.number = number
        self.name = name
        self.kind = kind
        self.params = params
        self.count = count
        self.action = action
        self.path = path
        self.body_contains = body_contains
        self.hits = 0
        self.cleared = threading.Event()

    def matches(self, request):
        if self.count == 0:
            return False        # used up; kept until it is cleared, which ends what still waits
        if request is None:
            return not (self.action or self.path or self.body_contains)
        if self.action is not None and self.action != request.action:
            return False
        if self.path is not None and self.path not in request.target:
            return False
        return self.body_contains is None or self.body_contains.encode() in request.body

    def apply(self, subject):
        return self.kind.function(subject, **self.params)


class FaultBoard:
    """The faults of one stand-in. Safe to use from any thread."""

    def __init__(self, *tables):
        self._kinds = {name: kind for table in tables for name, kind in table.items()}
        self._faults = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, kind, *, count=1, action=None, path=None, body_contains=None, **params):
        """Switches a fault on for the next `count` requests that match (None: until cleared)."""
        if kind not in self._kinds:
            raise ValueError(f"no fault {kind!r}; there are: {', '.join(sorted(self._kinds))}")
        row = self._kinds[kind]
        try:
            row.bind(params)
        except TypeError as error:
            raise ValueError(f"fault {kind!r}: {error}") from None
        if row.stage in ("accept", "read") and (action or path or body_contains):
            raise ValueError(f"fault {kind!r} acts before a request is read: it can't match one")
        fault = Fault(next(self._numbers), kind, row, params, count, action, path, body_contains)
        with self._lock:
            self._faults.append(fault)
        return fault

    def take(self, stage, request=None):
        """The faults of this stage that are due now; each loses one of its count."""
        due = []
        with self._lock:
            for fault in list(self._faults):
                if fault.kind.stage != stage or not fault.matches(request):
                    continue
                fault.hits += 1
                due.append(fault)
                if fault.count is not None:
                    fault.count -= 1
        return due

    def clear(self, number=None):
        """Switches one fault off, or all; whoever hangs in a `delay` or `hang` goes on. Returns how
        many were still due."""
        with self._lock:
            gone = [f for f in self._faults if number is None or f.number == number]
            self._faults = [f for f in self._faults if f not in gone]
        for fault in gone:
            fault.cleared.set()
        return sum(f.count != 0 for f in gone)

    def listing(self):
        with self._lock:
            return [{"id": f.number, "kind": f.name, "count": f.count, "hits": f.hits,
                     "action": f.action, **f.params} for f in self._faults]


if __name__ == "__main__":
    from server.reply_faults import TABLE
    for row_name, row in sorted(TABLE.items()):
        arguments = ", ".join(str(p) for p in list(row.signature.parameters.values())[1:])
        print(f"{row_name}({arguments.replace('*, ', '')})  [{row.stage}]\n    "
              f"{inspect.getdoc(row.function)}\n")
