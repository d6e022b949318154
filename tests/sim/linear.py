"""Whether what clients saw is what one seat keeper could have done, one operation after another.

A search after Wing and Gong: at every point, any operation that was invoked before every other one returned may
be the next; states already seen with the same operations done are not tried again (Lowe).  The sequential
keeper knows no time, so this is for short histories in which nothing runs out.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tests.sim.checker import Asked

Seats = frozenset[tuple[str, str, str]]  # user, client, lease
STEPS_MAX = 200_000
NEVER = 1 << 60


class Step(NamedTuple):
    """One operation: `outcome` is `unknown`, the lease that was granted, or the code of the refusal."""

    user: str
    client: str
    verb: str
    lease: str  # acquire: what a grant would be called; release: what is given back
    invoked: int
    returned: int
    outcome: str


class TooLongError(Exception):
    """The search was given up."""


def steps_of(asked: Sequence[Asked]) -> list[Step]:
    """Make the steps of a recorded history; renewals and refusals to grant yet change no seats here."""
    steps = []
    for one in asked:
        if one.verb == "renew" or (one.answer and one.answer[0] == "learning"):
            continue
        lease = one.op.lease if one.verb == "acquire" else one.op.receipt.lease
        outcome, returned = "unknown", NEVER
        if one.returned is not None and one.answer[0] != "store_unavailable":
            outcome, returned = (
                str(one.answer[2] if one.answer[0] == "granted" else one.answer[0]),
                one.returned,
            )
        steps.append(Step(one.user, one.client, one.verb, lease, one.invoked, returned, outcome))
    return steps


def follow(seats: Seats, step: Step, cap: int) -> tuple[Seats, str]:
    """Do one step on the seats; returns what they are then, and what the keeper answers."""
    own = next((seat for seat in seats if seat[0] == step.user), None)
    if step.verb == "release":
        return (seats - {own} if own and own[2] == step.lease else seats), "released"
    if own:
        return seats, own[2] if own[1] == step.client else "seat_elsewhere"
    if len(seats) >= cap:
        return seats, "no_seat"
    return seats | {(step.user, step.client, step.lease)}, step.lease


def linearizable(steps: Sequence[Step], cap: int) -> bool:
    """Tell whether some order explains every answer; raises `TooLongError` where the search takes too long."""
    known = sum(1 << i for i, step in enumerate(steps) if step.outcome != "unknown")
    stack: list[tuple[int, Seats]] = [(0, frozenset())]
    seen = set(stack)
    while stack:
        done, seats = stack.pop()
        if done & known == known:
            return True
        if len(seen) > STEPS_MAX:
            raise TooLongError(f"{len(steps)} steps")
        left = [(i, step) for i, step in enumerate(steps) if not done >> i & 1]
        first = min(step.returned for _, step in left)
        for i, step in left:
            if step.invoked > first:
                continue
            after, answer = follow(seats, step, cap)
            # A request that was heard of no more need not have been done; one whose id is over gives nothing.
            if step.outcome in {answer, "unknown"} or step.outcome == "lease_gone":
                at = (done | 1 << i, seats if step.outcome == "lease_gone" else after)
                if at not in seen:
                    seen.add(at)
                    stack.append(at)
    return False
