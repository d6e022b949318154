"""What clients asked and heard, on one host clock: invoke, then ok, fail or unknown.  Pure.

Decides what a record holds, and what follows from it: the times in which a client believed in its seat.
Instants `*_ns` are of the host's clock, `*_ms` the server's own; the two are never compared.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

MS_NS = 1_000_000
RHO_PERCENT = 1
"""The drift between two clocks that a client's deadline allows for."""


class Verb(StrEnum):
    """What was asked."""

    ACQUIRE = "acquire"
    RENEW = "renew"
    RELEASE = "release"
    REVOKE = "revoke"


class Outcome(StrEnum):
    """What came of it; UNKNOWN: no answer, or one after which the request may have run all the same."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Asked:
    """One request: who asked for what, when (`invoked_ns`), and what came of it.

    `lease` and `started_ms` are the receipt's, and after a grant the grant's.  `root` is the place in the history of
    the acquire that the seat descends from: of a request id, where it was sent first.  `void` says why the receipt was known to be worthless before it
    was sent.  `newcomer`: asked for when every earlier seat had run out.  `code` and `reason` are the problem's.
    """

    verb: Verb
    user: str
    client: str
    invoked_ns: int
    lease: str = ""
    started_ms: int = 0
    root: int = -1
    request: str = ""
    takeover: bool = False
    void: str = ""
    newcomer: bool = False
    returned_ns: int | None = None
    outcome: Outcome = Outcome.UNKNOWN
    code: str = ""
    reason: str = ""
    ttl_ms: int = 0
    expires_ms: int = 0

    @property
    def extends(self) -> bool:
        """Tell whether this gave time on a seat."""
        return self.outcome is Outcome.OK and self.verb in (Verb.ACQUIRE, Verb.RENEW)


class Stretch(NamedTuple):
    """A time `[since, until)` of somebody."""

    who: str
    since: int
    until: int


@dataclass
class History:
    """All that was asked of one tenant of `seats` seats; `q_ms` is how long the server locks a seat that ran out."""

    seats: int
    q_ms: int = 0
    asked: list[Asked] = field(default_factory=list)

    def of(self, *verbs: Verb) -> list[Asked]:
        """List what was asked of these verbs."""
        return [asked for asked in self.asked if asked.verb in verbs]


def deadline_ns(sent_ns: int, ttl_ms: int) -> int:
    """Tell until when a client believes in what it was given in answer to a request sent at `sent_ns`."""
    return sent_ns + ttl_ms * MS_NS * 100 // (100 + RHO_PERCENT)


def beliefs(asked: Iterable[Asked]) -> list[Stretch]:
    """List when clients believed in their seats, one stretch an answer; `who` is the user.

    A client stops at its deadline, before it sends a release, and when it is told that its lease is gone.
    """
    given: dict[tuple[str, str], list[Asked]] = defaultdict(list)
    stops: dict[tuple[str, str], list[int]] = defaultdict(list)
    for each in asked:
        session = (each.user, each.client)
        if each.extends:
            given[session].append(each)
        elif each.void not in _STOPS:
            continue
        elif each.verb is Verb.RELEASE:
            stops[session].append(each.invoked_ns)
        elif each.code == "lease_gone" and each.returned_ns is not None:
            stops[session].append(each.returned_ns)
    return [
        stretch
        for session, answers in given.items()
        for stretch in _believed(session[0], answers, sorted(stops[session]))
    ]


_STOPS = ("", "revoked")  # a replay of what was given before says nothing of what is held now


def _believed(user: str, answers: list[Asked], stops: list[int]) -> Iterable[Stretch]:
    for answer in answers:
        since, until = answer.returned_ns or 0, deadline_ns(answer.invoked_ns, answer.ttl_ms)
        following = bisect_left(stops, answer.invoked_ns)
        if following < len(stops):
            until = min(until, stops[following])
        if since < until:
            yield Stretch(user, since, until)
