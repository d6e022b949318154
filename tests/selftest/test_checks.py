"""Each check on small histories: what it lets pass, and what it does not."""

from typing import Any

import pytest

from seatd.selftest.checks import free_ns, judge
from seatd.selftest.findings import Finding
from seatd.selftest.history import MS_NS, Asked, History, Outcome, Verb
from seatd.selftest.ledger import agrees, settled

TTL = 2_020  # believed in for 2,000 ms


def asked(verb: Verb, user: str, at: int, *, took: int = 10, ok: bool | None = True, **fields: Any) -> Asked:
    """A request at `at` ms of the host's clock; `ok` None: nobody knows."""
    outcome = Outcome.UNKNOWN if ok is None else Outcome.OK if ok else Outcome.FAIL
    fields = {"client": f"{user}-desk", "lease": f"l-{user}", "request": f"r-{user}", **fields}
    if ok and verb in (Verb.ACQUIRE, Verb.RENEW):
        fields = {"ttl_ms": TTL, "started_ms": at + 7_000, "expires_ms": at + 7_000 + TTL, **fields}
    return Asked(
        verb, user, invoked_ns=at * MS_NS, returned_ns=(at + took) * MS_NS, outcome=outcome, **fields
    )


def take(user: str, at: int, **fields: Any) -> Asked:
    return asked(Verb.ACQUIRE, user, at, **fields)


def refused(verb: Verb, user: str, at: int, code: str, **fields: Any) -> Asked:
    return asked(verb, user, at, ok=False, code=code, **fields)


def judged(*history: Asked, seats: int = 1) -> dict[str, Finding]:
    found = judge(History(seats, 500, list(history)))
    return {finding.check: finding for finding in found}


def test_one_after_the_other_is_within_the_cap():
    found = judged(take("ana", 0), take("ben", 2_000))["cap"]
    assert (found.result, found.examined) == ("kept", 2)


def test_two_at_once_are_over_the_cap():
    found = judged(take("ana", 0), take("ben", 1_989))["cap"]
    assert found.broken == ("2 users believed in 1 seats, 1999 ms after the start",)


def test_belief_counts_from_when_the_request_was_sent():
    """An answer that took long gives as much less: the server counted from some later instant, not from now."""
    late = take("ana", 0, took=1_900)
    assert judged(late, take("ben", 1_995))["cap"].result == "kept"


@pytest.mark.parametrize(
    "end",
    [
        asked(Verb.RELEASE, "ana", 100),
        asked(Verb.RELEASE, "ana", 100, ok=None),  # sent is enough: the client has stopped
        refused(Verb.RENEW, "ana", 95, "lease_gone", took=5),
    ],
)
def test_a_client_stops_when_it_releases_and_when_it_is_told(end):
    assert judged(take("ana", 0), end, take("ben", 100))["cap"].result == "kept"


def test_a_replay_of_an_old_receipt_does_not_stop_a_client():
    replay = refused(Verb.RENEW, "ana", 50, "lease_gone", void="taken_over")
    assert judged(take("ana", 0), replay, take("ben", 100))["cap"].result == "BROKEN"


def test_one_user_on_two_desks_counts_once():
    assert judged(take("ana", 0), take("ana", 100, client="other"))["cap"].result == "kept"


def test_a_cap_that_was_never_reached_was_not_tested():
    assert judged(take("ana", 0), seats=2)["cap"].result == "not seen"


@pytest.mark.parametrize("code", ["lease_gone", "receipt_invalid"])
def test_a_holder_who_is_refused(code):
    assert judged(take("ana", 0), refused(Verb.RENEW, "ana", 500, code, root=0))["live"].result == "BROKEN"


@pytest.mark.parametrize(
    "cause",
    [
        asked(Verb.REVOKE, "ana", 450),
        asked(Verb.REVOKE, "ana", 450, ok=None),
        take("ana", 450, client="other", request="r2", takeover=True),
        take("ana", 450, request="r2", ok=None),
    ],
)
def test_a_holder_who_is_refused_with_cause(cause):
    gone = refused(Verb.RENEW, "ana", 500, "lease_gone", root=0)
    assert judged(take("ana", 0), cause, gone)["live"].result != "BROKEN"


def test_the_same_request_again_is_no_cause():
    gone = refused(Verb.RENEW, "ana", 500, "lease_gone", root=0)
    assert judged(take("ana", 0), take("ana", 450), gone)["live"].result == "BROKEN"


def test_who_comes_late_may_be_refused():
    late = refused(Verb.RENEW, "ana", 2_000, "lease_gone", root=0)
    assert judged(take("ana", 0), late)["live"].result == "not seen"


def test_a_refusal_while_the_seat_may_be_in_use():
    full = refused(Verb.ACQUIRE, "ben", 10 + 2_040 + 500, "no_seat")
    assert judged(take("ana", 0), full)["leaks"].broken == ()


def test_a_refusal_after_the_seat_must_be_free():
    full = refused(Verb.ACQUIRE, "ben", 10 + 2_040 + 502, "no_seat")
    assert len(judged(take("ana", 0), full)["leaks"].broken) == 1


def test_an_acquire_without_an_answer_may_have_run():
    full = refused(Verb.ACQUIRE, "ben", 7_000, "no_seat")
    assert judged(take("zoe", 0), take("ana", 100, ok=None), full)["leaks"].broken == ()


def test_leaks_were_not_looked_for_where_not_all_seats_were_taken_in_the_end():
    assert judged(take("ana", 0))["leaks"].result == "not seen"
    assert judged(take("ana", 0), take("new", 9_000, newcomer=True))["leaks"].result == "kept"


def test_all_seats_are_free_after_the_last():
    history = History(1, 500, [take("ana", 0), asked(Verb.RENEW, "ana", 1_000)])
    assert free_ns(history) == (1_010 + 2_040 + 501) * MS_NS


def test_one_request_two_leases():
    assert judged(take("ana", 0), take("ana", 5))["requests"].result == "BROKEN"  # of another start
    assert judged(take("ana", 0), take("ana", 5, started_ms=7_000))["requests"].result == "kept"


@pytest.mark.parametrize(("void", "check"), [("released", "receipts"), ("revoked", "revoking")])
def test_what_is_void_is_refused(void, check):
    assert judged(asked(Verb.RENEW, "ana", 0, void=void))[check].result == "BROKEN"
    assert judged(refused(Verb.RENEW, "ana", 0, "lease_gone", void=void))[check].result == "kept"
    assert judged(asked(Verb.RENEW, "ana", 0, ok=None, void=void))[check].result == "not seen"


def test_answers_that_nobody_expects():
    found = judged(take("ana", 0), refused(Verb.RENEW, "ana", 5, "unauthorized"))["answers"]
    assert found.broken == ("renew of ana was answered unauthorized, 5 ms after the start",)


def test_a_server_that_does_not_answer_was_not_tested():
    assert (
        judged(take("ana", 0), take("ben", 0, ok=None), take("cem", 0, ok=None))["answers"].result
        == "not seen"
    )


# -- the ledger -------------------------------------------------------------------------------------


def row(of: str, since: int, until: int | None, reason: str = "expired", **fields: Any) -> dict[str, Any]:
    found = {"lease": f"l-{of}", "user": of, "started_ms": 7_000 + since, "end_reason": reason}
    return {**found, "ended_ms": None if until is None else 7_000 + until, **fields}


def told(rows: list[dict[str, Any]], *history: Asked) -> Finding:
    return agrees(History(1, 500, list(history)), rows)


def test_a_ledger_that_agrees():
    ana = [take("ana", 0), asked(Verb.RENEW, "ana", 100)]
    ben = [take("ben", 5_000), asked(Verb.RELEASE, "ben", 6_000)]
    rows = [row("ana", 0, 100 + TTL), row("ben", 5_000, 6_005, "released")]
    assert told(rows, *ana, *ben).result == "kept"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row("ana", 0, None)],
        [row("ana", 0, TTL), row("ana", 0, TTL)],
        [row("ana", 0, TTL), row("eve", 0, TTL)],
        [row("ana", 1, TTL)],
        [row("ana", 0, TTL + 1)],
        [row("ana", 0, TTL - 1)],
        [row("ana", 0, TTL, "released")],
        [row("ana", 0, TTL, user="ben")],
        [row("ana", 0, TTL, started_ms=None)],
    ],
)
def test_a_ledger_that_does_not(rows):
    assert told(rows, take("ana", 0)).result == "BROKEN"


def test_more_leases_in_the_ledger_than_seats():
    rows = [row("ana", 0, TTL), row("ben", 1_000, 1_000 + TTL)]
    assert "2 leases at once on 1 seats" in told(rows, take("ana", 0), take("ben", 1_000)).broken


def test_an_acquire_without_an_answer_may_be_in_the_ledger():
    rows = [row("ana", 0, TTL), row("eve", 5_000, 5_000 + TTL)]
    assert told(rows, take("ana", 0), take("eve", 5_000, ok=None, lease="")).result == "kept"


def test_what_is_not_certain_may_end_otherwise():
    renewal = asked(Verb.RENEW, "ana", 100, ok=None)
    assert told([row("ana", 0, 100 + TTL)], take("ana", 0), renewal).result == "kept"


def test_a_ledger_is_settled_when_each_lease_has_its_end():
    history = History(1, 500, [take("ana", 0), take("ben", 9_000)])
    assert not settled(history, [row("ana", 0, TTL)])
    assert not settled(history, [row("ana", 0, TTL), row("ben", 9_000, None)])
    assert settled(history, [row("ana", 0, TTL), row("ben", 9_000, 9_000 + TTL)])
