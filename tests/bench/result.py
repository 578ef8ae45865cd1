# SPDX-License-Identifier: Apache-2.0
"""What a row found: ratios with how sure they are, marks, verdicts. Nothing here starts anything."""

import dataclasses
import math
import statistics


class Unmeasured(Exception):
    """The machine can't show it; the text says why."""


class Unfair(Exception):
    """The programs did not do the same; the text says in what."""


def interval(values):
    """The 95 % interval of the median from the order statistics, which supposes nothing of how the values
    are spread: as many of them are left out at both ends as 2.5 % of coin throws would. Fewer than six
    values can't be that sure; then it is all of them."""
    n, left_out, chance = len(values), 0, 0.0
    while True:
        chance += math.comb(n, left_out) / 2 ** n
        if chance > 0.025:
            break
        left_out += 1
    ordered = sorted(values)
    k = max(left_out - 1, 0)  # of n values, the k-th smallest and largest
    return ordered[k], ordered[-1 - k]


@dataclasses.dataclass(frozen=True)
class Ratio:
    median: float                # of the ratios within a round
    low: float                   # the median's 95 % interval
    high: float
    fastest: float               # of the best of all rounds of each

    @classmethod
    def of(cls, ours, theirs, best=min):
        """Of two lists with a value a round. A round in which the peer had nothing counts for infinity."""
        within = [a / b if b > 0 else math.inf for a, b in zip(ours, theirs, strict=True)]
        least = best(theirs)
        return cls(statistics.median(within), *interval(within), best(ours) / least if least > 0 else math.inf)


@dataclasses.dataclass(frozen=True)
class Mark:
    bound: float
    peer: str = ""               # whose ratio it bounds; empty: our own figure
    at_least: bool = False

    def __str__(self):
        return f"{'>=' if self.at_least else '<='} {self.bound:g}"

    def met(self, value):
        return value >= self.bound if self.at_least else value <= self.bound


@dataclasses.dataclass
class Result:
    unit: str
    ours: float                                               # the median
    peers: dict = dataclasses.field(default_factory=dict)     # name: value in the same unit
    ratios: dict = dataclasses.field(default_factory=dict)    # name: Ratio
    unsound: dict = dataclasses.field(default_factory=dict)   # name: why no mark is set beside this peer
    tls: dict = dataclasses.field(default_factory=dict)       # name: version, suite, resumption
    details: dict = dataclasses.field(default_factory=dict)   # name: medians of all that was seen
    rounds: list = dataclasses.field(default_factory=list)    # the same of each, for the JSON
    note: str = ""


def verdicts(marks, result):
    """[{peer, mark, value, verdict, why}], one for each mark."""
    found = []
    for mark in marks:
        line = {"peer": mark.peer, "mark": str(mark), "bound": mark.bound, "value": None, "why": ""}
        if mark.peer in result.unsound:
            line.update(verdict="unmeasured", why=result.unsound[mark.peer])
        else:
            line["value"] = result.ratios[mark.peer].median if mark.peer else result.ours
            line["verdict"] = "met" if mark.met(line["value"]) else "MISSED"
        found.append(line)
    return found
