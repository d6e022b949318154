"""A short run of the simulator, and that its own parts can be trusted: seeds replay, the checkers see."""

import os
from collections import Counter

from tests.sim import stage
from tests.sim.checker import CapInForce, Stretch, over_the_cap
from tests.sim.linear import NEVER, Step, linearizable
from tests.sim.rules import Rules
from tests.sim.run import failures, history, simulate

HISTORIES = int(os.environ.get("SIM_HISTORIES", "196"))
SEED = int(os.environ.get("SEED", "1"))


def test_no_invariant_is_broken() -> None:
    rows = simulate(HISTORIES, SEED)
    assert not failures(rows), "\n".join(failures(rows))
    assert all(row.operations for row in rows)


def test_a_seed_replays_exactly() -> None:
    one, again, other = history(3, "everything"), history(3, "everything"), history(4, "everything")
    told = [
        [(a.invoked, a.verb, a.op, a.answer, a.returned) for a in w.history.asked]
        for w in (one, again, other)
    ]
    assert told[0] == told[1] != told[2]
    assert one.sql.rows == again.sql.rows


def test_much_happens_in_the_histories() -> None:
    answers = sum(
        (history(seed, fault).watch.answers for seed in range(3) for fault in ("everything", "split")),
        start=Counter(),
    )
    for what in (
        ("acquire", "granted"), ("acquire", "no_seat"), ("acquire", "learning"), ("acquire", "seat_elsewhere"),
        ("renew", "renewed"), ("renew", "learning"), ("renew", "lease_gone"), ("release", "released"),
        ("revoke", "revoked"), ("project", "projected"), ("open", "open"),
    ):  # fmt: skip
        assert answers[what], what


def test_the_sweep_counts_users_and_minds_the_cap_of_their_grant() -> None:
    caps = [CapInForce(2, 0, 50), CapInForce(1, 40, NEVER)]
    both = [Stretch("a", 0, 100, 0), Stretch("b", 10, 100, 10)]
    assert not over_the_cap(both, caps)
    assert not over_the_cap([*both, Stretch("a", 20, 120, 0)], caps), "one user on two clients"
    assert over_the_cap([*both, Stretch("c", 20, 30, 20)], caps), "a third"
    assert over_the_cap([both[0], Stretch("b", 60, 100, 60)], caps), "granted after the cap was lowered"
    assert not over_the_cap([both[0], Stretch("b", 100, 110, 100)], caps), "one ends where the other begins"


def test_the_search_knows_what_no_order_explains() -> None:
    def acquire(user, invoked, returned, outcome):
        return Step(user, "c", "acquire", f"l{invoked}", invoked, returned, outcome)

    assert linearizable([acquire("a", 0, 5, "l0"), acquire("b", 1, 6, "no_seat")], 1)
    assert linearizable([acquire("a", 0, 5, "no_seat"), acquire("b", 1, 6, "l1")], 1)
    assert not linearizable([acquire("a", 0, 5, "l0"), acquire("b", 1, 6, "l1")], 1)
    assert not linearizable([acquire("a", 0, 1, "no_seat"), acquire("b", 2, 6, "l2")], 1)
    assert linearizable([acquire("a", 0, NEVER, "unknown"), acquire("b", 2, 6, "no_seat")], 1)


def test_a_step_of_the_clock_is_noticed_only_as_a_whole() -> None:
    """Documents a limit: steps forward that are each below Q add up unnoticed."""
    assert {violation.invariant for violation in stage.many_small_steps(Rules())} == {"I1", "I2"}


def test_a_late_release_after_a_rollback_ends_the_ledgers_lease_early() -> None:
    """Documents a limit of the ledger: a release is final there, even one of an earlier start."""
    ended_ms, worked_ms = stage.late_release_after_a_rollback(Rules())
    assert ended_ms is not None
    assert ended_ms < worked_ms
