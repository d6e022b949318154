"""Whether some order of operations explains what the clients of a short history saw.

The search is the simulator's; here a history of real processes is laid out for it.  A release that took so long that
its tombstone may not have been written frees its seat later, or not at all in so short a time: it counts as unknown.
"""

from collections import defaultdict

from tests.faults.history import Asked, History
from tests.sim.linear import NEVER, Step, TooLongError, linearizable

STEPS_MOST = 26
SLOW_US = 300_000


def explains(history: History) -> bool:
    """Tell whether an order does; a search that takes too long says nothing against it."""
    try:
        return linearizable(steps_of(history), history.cap)
    except TooLongError:
        return True


def steps_of(history: History) -> list[Step]:
    """Make steps of the first operations; what had not returned by the last one of them is unknown."""
    asked = [
        one
        for one in history.asked
        if one.verb in {"acquire", "release"}
        and (one.status or one.outcome in {"unknown", "open"})
        and one.code not in {"learning", "rate_limited", "busy"}
    ][:STEPS_MOST]
    names = _names(history)
    last_us = asked[-1].invoked_us if asked else 0
    return [_step(one, names, last_us) for one in asked]


def _step(one: Asked, names: dict[str, str], last_us: int) -> Step:
    lease = one.lease if one.verb == "release" else names.get(one.request, f"?{one.request}")
    slow = one.verb == "release" and one.returned_us - one.invoked_us > SLOW_US
    outcome, returned = "unknown", NEVER
    if one.outcome in {"ok", "fail"} and one.returned_us <= last_us and not slow:
        granted = one.lease if one.verb == "acquire" else "released"
        outcome, returned = (granted if one.outcome == "ok" else one.code), one.returned_us
    return Step(one.user, one.client, one.verb, lease, one.invoked_us, returned, outcome)


def _names(history: History) -> dict[str, str]:
    """Name the lease that each request made: what it was told, or what its user found to have later."""
    names: dict[str, str] = {}
    found: dict[str, list[str]] = defaultdict(list)
    for one in history.asked:
        if one.verb == "acquire" and one.outcome == "ok":
            if one.status == 201:
                names[one.request] = one.lease
            elif one.lease not in found[one.user]:
                found[one.user].append(one.lease)
    for one in history.asked:
        if one.verb != "acquire" or one.request in names:
            continue
        later = [lease for lease in found[one.user] if lease not in names.values()]
        if one.outcome == "unknown" and later:
            names[one.request] = later[0]
        elif one.outcome == "ok":
            names.setdefault(one.request, one.lease)
    return names
