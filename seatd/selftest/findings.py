"""What a check came to.  Pure."""

from dataclasses import dataclass
from typing import Any

SHOWN_MAX = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise: how many cases of it were looked at, what was seen, and what broke it (none: it was kept)."""

    check: str
    promise: str
    examined: int
    seen: str
    broken: tuple[str, ...] = ()

    @property
    def result(self) -> str:
        """Say `kept`, `BROKEN`, or `not seen` where no case came up."""
        if self.broken:
            return "BROKEN"
        return "kept" if self.examined else "not seen"

    def view(self) -> dict[str, Any]:
        """Lay it out for programs; of many violations the first are shown."""
        return {
            "check": self.check,
            "promise": self.promise,
            "result": self.result.lower().replace(" ", "_"),
            "examined": self.examined,
            "seen": self.seen,
            "violations": len(self.broken),
            "first_violations": list(self.broken[:SHOWN_MAX]),
        }
