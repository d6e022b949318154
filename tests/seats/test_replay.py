"""A short run of the simulator's schedules on real stores (long: `python -m tests.sim.run --real`); what they found."""

import os
from collections import Counter

from tests.seats.house import house
from tests.sim.replay import real_worlds
from tests.sim.run import failures, history, replay
from tests.valkey import ValkeyServer

HISTORIES = int(os.environ.get("REPLAY_HISTORIES", "14"))
SEED = int(os.environ.get("SEED", "1"))


def test_no_invariant_is_broken() -> None:
    rows = replay(HISTORIES, SEED)
    assert not failures(rows, " --real"), "\n".join(failures(rows, " --real"))
    assert all(row.operations for row in rows)


def test_much_happens_and_a_seed_replays_exactly() -> None:
    with real_worlds() as make:
        one, again = (history(3, "everything", make=make) for _ in range(2))
        answers: Counter[tuple[str, str]] = sum((w.watch.answers for w in (one, again)), start=Counter())
    told = [[(a.invoked, a.verb, a.op, a.answer, a.returned) for a in w.history.asked] for w in (one, again)]
    assert told[0] == told[1]
    assert one.sql.rows == again.sql.rows
    for what in (
        ("acquire", "granted"), ("acquire", "no_seat"), ("acquire", "learning"), ("renew", "renewed"),
        ("renew", "lease_gone"), ("release", "released"), ("project", "projected"), ("open", "open"),
        ("acquire", "unopened"), ("reachable", "reachable"), ("sweep", "swept"),
    ):  # fmt: skip
        assert answers[what], what


async def test_a_lease_that_was_replaced_while_learning_is_not_ended_again(valkey: ValkeyServer) -> None:
    async with house(valkey) as made:
        first = await made.acquire("ana", "desk-1")
        copy = made.copy()
        made.later(5)
        second = await made.acquire("ana", "desk-2", takeover=True)
        made.roll_back(copy)
        await made.renew(second)
        made.later(5)
        await made.release(first)
        ends = [event for event in await made.reads.events(0, "0-0", 100) if event.kind == "ended"]
        assert [(event.lease, event.reason) for event in ends] == [(first.lease, "taken_over")]
