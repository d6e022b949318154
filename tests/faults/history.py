"""What the clients of one tenant asked, heard and believed, on one clock of the host; and what was done to them.

Written while it happens, judged afterwards by `judge`.  Instants are microseconds of a clock that nobody sets.
"""

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.sim.checker import Stretch

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_us() -> int:
    """Read the one clock of all that is recorded."""
    return time.clock_gettime_ns(CLOCK) // 1000


@dataclass(slots=True)
class Asked:
    """One request: `outcome` is ok, fail, unknown (no answer came) or open (none yet).

    `lease` is the one asked about, or granted; `believed_us` until when its client believed in it as it asked.
    """

    user: str
    client: str
    verb: str
    request: str
    lease: str
    invoked_us: int
    believed_us: int = 0
    returned_us: int = 0
    outcome: str = "open"
    status: int = 0
    code: str = ""
    reason: str = ""
    started_ms: int = 0
    expires_ms: int = 0
    wall_ms: int = 0
    cancelled: bool = False


@dataclass
class History:
    """One tenant's."""

    fault: str
    seed: int
    number: int
    tenant: str
    key: str
    cap: int
    ttl_ms: int
    asked: list[Asked] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    done: list[tuple[int, str]] = field(default_factory=list)
    lossy: bool = False  # the store was lost or set back
    ending: bool = False  # clients are to go home

    def begin(self, user: str, client: str, verb: str, request: str, lease: str, believed_us: int) -> Asked:
        one = Asked(user, client, verb, request, lease, now_us(), believed_us)
        self.asked.append(one)
        return one

    def note(self, what: str) -> None:
        """Note what was done to them, for the reader."""
        self.done.append((now_us(), what))

    @property
    def operations(self) -> int:
        """Count the requests that were sent to somebody."""
        return sum(one.status != 0 or one.outcome == "unknown" for one in self.asked)

    def decided_since(self, at_us: int) -> bool:
        """Tell whether anybody who asked for a seat since was told yes or no."""
        for one in reversed(self.asked):
            if one.invoked_us < at_us:
                return False
            if one.verb == "acquire" and one.status in {200, 201, 409}:
                return True
        return False

    def write(self, path: Path, ledger: Any, found: list[Any]) -> None:
        """Write everything, a line a thing, for study."""
        head = {name: getattr(self, name) for name in ("fault", "seed", "number", "tenant", "cap", "ttl_ms")}
        lines: list[Any] = [head, *({"violation": one} for one in found)]
        lines += [{"at_us": at, "done": what} for at, what in self.done]
        lines += [asdict(one) for one in self.asked]
        lines += [{"believed": stretch._asdict()} for stretch in self.stretches]
        lines += [{"ledger": row} for row in ledger]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def answers(self) -> Counter[tuple[str, str]]:
        """Count what was answered."""
        return Counter((one.verb, one.code or one.outcome) for one in self.asked)
