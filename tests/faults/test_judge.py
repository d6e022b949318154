"""That the judge sees: small histories made by hand, right but for one thing."""

from dataclasses import replace

import pytest

from tests.faults import judge, order
from tests.faults.history import Asked, History
from tests.sim.checker import Stretch

TTL_US = 2_000_000


def acquired(user: str, lease: str, at_us: int, request: str = "") -> Asked:
    return Asked(
        user, "c0", "acquire", request or f"{user}-1", lease, at_us, 0, at_us + 1_000, "ok", 201,
        started_ms=at_us // 1000, expires_ms=at_us // 1000 + 2_000,
    )  # fmt: skip


def released(user: str, lease: str, at_us: int) -> Asked:
    return Asked(user, "c0", "release", "", lease, at_us, at_us + TTL_US, at_us + 1_000, "ok", 204)


def refused(user: str, lease: str, at_us: int, status: int, code: str, reason: str = "") -> Asked:
    return Asked(
        user, "c0", "renew", "", lease, at_us, at_us + TTL_US, at_us + 1_000, "fail", status, code, reason,
        expires_ms=at_us // 1000 + 1_500, wall_ms=at_us // 1000,
    )  # fmt: skip


def history(*asked: Asked, cap: int = 1, lossy: bool = False) -> History:
    made = History("none", 1, 1, "acme", "key", cap, 2_000, list(asked), lossy=lossy)
    made.stretches = [
        Stretch(one.user, one.returned_us, one.invoked_us + TTL_US, one.returned_us)
        for one in asked
        if one.verb == "acquire" and one.outcome == "ok"
    ]
    return made


def invariants(found) -> list[str]:
    return [violation.invariant for violation in found]


ANA, ANAS = acquired("ana", "l1", 1_000_000), judge.Row("l1", "ana", 1_000, 1_500, "released")
HOME = released("ana", "l1", 1_500_000)


def test_what_is_right_passes() -> None:
    right = history(ANA, HOME)
    assert not judge.of_clients(right, 50)
    assert not judge.of_ledger(right, [ANAS])
    assert order.explains(right)


def test_two_in_one_seat() -> None:
    late = acquired("bob", "l2", 3_100_000)
    assert invariants(judge.of_clients(history(ANA, acquired("bob", "l2", 2_900_000)), 50)) == ["I1"]
    assert not judge.of_clients(history(ANA, late), 50)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (refused("ana", "l1", 1_100_000, 410, "lease_gone", "expired"), ["I4"]),
        (refused("ana", "l1", 1_100_000, 410, "lease_gone", "taken_over"), ["I4"]),
        (refused("ana", "l1", 1_100_000, 401, "unauthorized"), ["I4"]),
        (refused("ana", "l1", 1_100_000, 503, "learning"), ["I4"]),
        (replace(refused("ana", "l1", 1_100_000, 503, "learning"), expires_ms=1_120), []),
        (refused("ana", "l1", 1_100_000, 503, "store_unavailable"), []),
        (replace(refused("ana", "l1", 1_100_000, 410, "lease_gone", "expired"), believed_us=1_100_500), []),
        (replace(refused("ana", "l1", 1_100_000, 500, "internal"), believed_us=0), ["contract"]),
    ],
)
def test_a_live_seat_refused(answer: Asked, found: list[str]) -> None:
    assert invariants(judge.of_clients(history(ANA, answer), 50)) == found


def test_a_takeover_is_a_cause() -> None:
    elsewhere = replace(acquired("ana", "l2", 1_050_000), client="c1")
    gone = refused("ana", "l1", 1_100_000, 410, "lease_gone", "taken_over")
    assert not judge.of_clients(history(ANA, elsewhere, gone), 50)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([], ["events lost", "events lost"]),
        ([ANAS._replace(started_ms=None)], ["events lost"]),
        ([ANAS._replace(started_ms=1_001)], ["events lost"]),
        ([ANAS._replace(ended_ms=None, reason=None)], ["events lost"]),
        ([ANAS, judge.Row("l9", "ana", 5_000, None, None)], ["events doubled"]),
        ([ANAS, judge.Row("l9", "bob", 1_000, None, None)], ["events doubled"]),
        ([ANAS._replace(ended_ms=999)], ["I7"]),
    ],
)
def test_a_ledger_that_tells_another_story(rows: list[judge.Row], found: list[str]) -> None:
    assert invariants(judge.of_ledger(history(ANA, HOME), rows)) == found


def test_a_request_that_was_not_answered_explains_one_lease() -> None:
    unheard = replace(acquired("ana", "", 2_000_000, "ana-2"), outcome="unknown", status=0)
    once, twice = judge.Row("l2", "ana", 2_000, 2_500, "released"), judge.Row("l3", "ana", 2_600, None, None)
    assert not judge.of_ledger(history(ANA, HOME, unheard), [ANAS, once])
    assert invariants(judge.of_ledger(history(ANA, HOME, unheard), [ANAS, once, twice])) == ["events doubled"]
    overlapping = once._replace(started_ms=1_400)
    assert invariants(judge.of_ledger(history(ANA, HOME, unheard), [ANAS, overlapping])) == ["events doubled"]


def test_an_end_before_what_was_promised() -> None:
    early = ANAS._replace(reason="expired", ended_ms=2_900)
    assert invariants(judge.of_ledger(history(ANA), [early])) == ["I7"]
    assert not judge.of_ledger(history(ANA, lossy=True), [early])


def test_what_ran_out_with_a_lost_store_has_no_end_yet() -> None:
    late = replace(HOME, believed_us=HOME.invoked_us)
    still_open = ANAS._replace(ended_ms=None, reason=None)
    assert not judge.of_ledger(history(ANA, late, lossy=True), [still_open])
    assert invariants(judge.of_ledger(history(ANA, late), [still_open])) == ["events lost"]


def test_what_no_order_explains() -> None:
    assert not order.explains(history(ANA, acquired("bob", "l2", 1_100_000), HOME))
    unheard = replace(HOME, invoked_us=1_050_000, outcome="unknown", status=0)
    assert order.explains(history(ANA, unheard, acquired("bob", "l2", 1_100_000), HOME))
