"""What a run counted: latencies by kind of request, from the instant at which each was due, and answers by their code.

Decides what is not counted: the warm-up.  In an open loop, what is under way when the time is up is
waited for and counted with the latency that it came to, so that a server which stands still cannot look fast.
"""

from array import array
from collections import Counter, defaultdict
from typing import Any

PERCENTILES = (50, 90, 99, 99.9)


def percentile_ms(ordered: list[int], percent: float) -> float:
    """Read a percentile off sorted nanoseconds, in milliseconds."""
    if not ordered:
        return 0.0
    return round(ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] / 1e6, 4)


class Latencies:
    """Counts what comes between two instants (ns of the host's clock)."""

    def __init__(self, from_ns: int, until_ns: int, *, by_due: bool) -> None:
        """Count what was due between the two instants (open loop), or else what was answered then (closed)."""
        self.answered = 0
        self._by_due = by_due
        self.from_ns = from_ns
        self.until_ns = until_ns
        self._ns: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
        self._codes: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, kind: str, code: str, due_ns: int, now_ns: int) -> None:
        """Count an answer to a request that was due at `due_ns`."""
        self.answered += 1
        if self.from_ns <= (due_ns if self._by_due else now_ns) < self.until_ns:
            self._ns[kind].append(now_ns - due_ns)
            self._codes[kind][code] += 1

    def report(self) -> dict[str, Any]:
        """Sum up: a second, by kind, and all together."""
        seconds = (self.until_ns - self.from_ns) / 1e9
        kinds = {kind: self._of([kind], seconds) for kind in sorted(self._ns)}
        return {"seconds": seconds, "all": self._of(sorted(self._ns), seconds), "kinds": kinds}

    def _of(self, kinds: list[str], seconds: float) -> dict[str, Any]:
        ordered = sorted(ns for kind in kinds for ns in self._ns[kind])
        codes: Counter[str] = Counter()
        for kind in kinds:
            codes += self._codes[kind]
        return {
            "count": len(ordered),
            "per_s": round(len(ordered) / seconds, 1),
            "codes": dict(codes),
            **{f"p{percent:g}_ms": percentile_ms(ordered, percent) for percent in PERCENTILES},
            "max_ms": round((ordered or [0])[-1] / 1e6, 4),
        }
