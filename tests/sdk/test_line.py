"""Waiting in line, without I/O: what is asked, when, and that a grant is never believed for too long."""

import random
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seatd_client.errors import (
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    Learning,
    LeaseGone,
    NoSeat,
    StoreUnavailable,
    Suspended,
)
from seatd_client.lease import Lease, Patience
from seatd_client.line import (
    FEATURE,
    PAUSE_IN_PLACE_MS,
    PAUSE_MAX_MS,
    POLL_FIRST_MS,
    POLL_MS,
    Line,
    wait_ms_of,
)
from seatd_client.states import BELIEVING, State, Step
from seatd_client.wire import Acquire

from tests.sdk.leases import grant_of, renewal_of

WISH = Acquire("ana", "desk", "r_0")


def full(place="p_1", **fields):
    return NoSeat(fields={"place": place, "position": 2, "waiting": 3, "retry_after_ms": 1_000, **fields})


def waiting(wait_ms=600_000, ttl_ms=None, served=True, renamed=None, **patience):
    line = Line(wait_ms, ttl_ms, renamed)
    line.server_can([FEATURE] if served else [])
    return Lease(random.Random(7), Patience(**patience), line)


def ask(lease, now):
    assert lease.step(now) is Step.ACQUIRE
    number = lease.acquire_sent(now)
    return number, lease.wish(WISH)


def test_a_wait_is_a_row_of_acquires_that_hand_the_place_on():
    lease = waiting()
    number, wish = ask(lease, 0)
    assert (wish.wait_ms, wish.place, wish.request_id) == (POLL_FIRST_MS, None, "r_0")
    assert lease.acquire_failed(number, POLL_FIRST_MS, full("p_1", eta_ms=90_000))
    assert (lease.state, lease.standing.position, lease.standing.eta_ms) == (State.ACQUIRING, 2, 90_000)
    number, wish = ask(lease, POLL_FIRST_MS)  # at once: the server kept it open for as long as it was asked
    assert (wish.wait_ms, wish.place, wish.request_id) == (POLL_MS, "p_1", "r_0")
    assert lease.answer_by_ms(POLL_FIRST_MS) == POLL_FIRST_MS + POLL_MS + 10_000
    assert lease.granted(number, 5_000, grant_of())
    assert (lease.state, lease.standing) == (State.HELD, None)
    assert lease.deadline_ms == POLL_FIRST_MS + 297_029, "counted from the acquire that was granted"


@pytest.mark.parametrize("ttl_ms", [2_000, 9_000, 300_000])
def test_polls_are_short_beside_a_ttl_that_is_known(ttl_ms):
    lease = waiting(ttl_ms=ttl_ms)
    now = 0
    for _ in range(4):
        number, wish = ask(lease, now)
        assert wish.wait_ms <= ttl_ms // 3
        now += wish.wait_ms
        lease.acquire_failed(number, now, full())
    number, wish = ask(lease, now)
    assert lease.granted(number, now + wish.wait_ms, grant_of(ttl_ms))
    assert lease.state is State.HELD
    assert lease.deadline_ms - now - wish.wait_ms > ttl_ms // 2, "a grant leaves time"


@pytest.mark.parametrize("ttl_ms", [2_000, 15_000])
def test_a_grant_after_a_poll_longer_than_the_ttl_is_confirmed_at_once(ttl_ms):
    lease = waiting()
    lease.acquire_failed(ask(lease, 0)[0], POLL_FIRST_MS, full())
    number, _ = ask(lease, POLL_FIRST_MS)
    now = POLL_FIRST_MS + POLL_MS
    lease.granted(number, now, grant_of(ttl_ms))
    assert lease.state is State.CONFIRMING
    assert not lease.believes(now)
    assert lease.step(now) is Step.RENEW
    lease.renewed(lease.renew_sent(now), now + 5, renewal_of(ttl_ms))
    assert lease.believes(now + 5)


def test_a_grant_after_a_poll_as_long_as_half_the_ttl_is_renewed_at_once():
    lease = waiting()
    lease.acquire_failed(ask(lease, 0)[0], POLL_FIRST_MS, full())
    number, _ = ask(lease, POLL_FIRST_MS)
    now = POLL_FIRST_MS + POLL_MS
    lease.granted(number, now, grant_of(30_000, 10_000))
    assert lease.state is State.HELD
    assert lease.step(now) is Step.RENEW


def test_a_server_without_lines_is_asked_again_now_and_then():
    lease, now, tries = waiting(wait_ms=60_000, served=False), 0, 0
    while lease.state is State.ACQUIRING:
        number, wish = ask(lease, now)
        tries += 1
        assert (wish, lease.answer_by_ms(now)) == (WISH, now + 10_000)
        lease.acquire_failed(number, now + 10, NoSeat(fields={"retry_after_ms": 60_000}))
        assert lease.state is not State.ACQUIRING or lease.wake_ms() <= now + 10 + PAUSE_MAX_MS
        now = lease.wake_ms() if lease.state is State.ACQUIRING else now + 10
    assert 60_000 <= now <= 60_010
    assert 12 <= tries <= 20
    assert isinstance(lease.error, NoSeat)


def test_a_line_that_is_full_is_asked_again_now_and_then():
    lease = waiting()
    lease.acquire_failed(ask(lease, 0)[0], 10, NoSeat(fields={"waiting": 100, "retry_after_ms": 4_000}))
    assert lease.standing.position is None
    assert 4_010 <= lease.wake_ms() <= 10 + PAUSE_MAX_MS
    assert lease.step(11) is Step.WAIT


def test_an_answer_before_its_time_is_no_reason_to_hurry():
    lease, now, tries = waiting(), 0, 0
    while now < 60_000:
        number, _ = ask(lease, now)
        tries += 1
        lease.acquire_failed(number, now, full())
        now = lease.wake_ms()
    assert tries < 50


def test_the_last_poll_ends_with_the_wait():
    lease = waiting(wait_ms=1_500)
    lease.acquire_failed(ask(lease, 0)[0], 1_000, full())
    number, wish = ask(lease, 1_000)
    assert wish.wait_ms == 500
    lease.acquire_failed(number, 1_501, full(position=1))
    assert lease.state is State.REFUSED
    assert lease.error.position == 1


@pytest.mark.parametrize("error", [ConnectionFailed(), StoreUnavailable(fields={"retry_after_ms": 1_000})])
def test_what_passes_keeps_the_place(error):
    lease = waiting()
    lease.acquire_failed(ask(lease, 0)[0], 1_000, full())
    now = 1_000
    for _ in range(20):
        number, wish = ask(lease, now)
        assert (wish.place, wish.request_id) == ("p_1", "r_0")
        lease.acquire_failed(number, now + 1, error)
        assert (lease.standing.position, lease.standing.error) == (2, error)
        assert lease.wake_ms() - now <= PAUSE_IN_PLACE_MS + 1, "a seat that is offered waits two seconds"
        now = lease.wake_ms()
    lease.acquire_failed(ask(lease, now)[0], now + POLL_MS, full("p_2"))
    assert lease.standing.error is None


def test_who_waits_waits_for_the_end_of_learning_with_the_place_it_was_given():
    lease = waiting()
    lease.acquire_failed(ask(lease, 0)[0], 10, Learning(fields={"retry_after_ms": 305_000, "place": "p_9"}))
    assert 305_010 <= lease.wake_ms() <= 307_010, "seconds later one would be passed over"
    assert ask(lease, lease.wake_ms())[1].place == "p_9"
    lease = waiting(wait_ms=60_000)
    lease.acquire_failed(ask(lease, 0)[0], 10, Learning(fields={"retry_after_ms": 305_000}))
    assert lease.state is State.REFUSED


def test_a_refusal_that_does_not_pass_ends_the_wait():
    lease = waiting()
    lease.acquire_failed(ask(lease, 0)[0], 10, Suspended())
    assert lease.state is State.REFUSED


def test_a_conflict_that_passes_is_waited_for():
    lease = waiting(wait_ms=100_000)
    lease.acquire_failed(
        ask(lease, 0)[0], 10, Conflict(fields={"retry_after_ms": 60_500, "reason": "revoked"})
    )
    assert 60_510 <= lease.wake_ms() <= 62_510
    lease.acquire_failed(ask(lease, 62_510)[0], 62_520, Conflict(fields={"retry_after_ms": 60_500}))
    assert lease.state is State.REFUSED
    lease = waiting()
    lease.acquire_failed(ask(lease, 0)[0], 10, Conflict())
    assert lease.state is State.REFUSED


def test_a_place_that_the_server_cannot_read_is_given_up_once():
    lease = waiting()
    lease.acquire_failed(ask(lease, 0)[0], 1_000, full())
    foreign = InvalidRequest(fields={"errors": [{"field": "place", "reason": "not ours"}]})
    number, wish = ask(lease, 1_000)
    assert wish.place == "p_1"
    lease.acquire_failed(number, 1_001, foreign)
    number, wish = ask(lease, lease.wake_ms())
    assert wish.place is None
    assert wish.wait_ms is not None
    lease.acquire_failed(
        number, lease._sent_ms + 1, InvalidRequest(fields={"errors": [{"field": "wait_ms"}]})
    )
    number, wish = ask(lease, lease.wake_ms())
    assert wish == WISH, "an older server, since"
    lease.acquire_failed(
        number, lease._sent_ms + 1, InvalidRequest(fields={"errors": [{"field": "wait_ms"}]})
    )
    assert lease.state is State.REFUSED


def test_a_lease_that_ran_out_unheard_is_asked_for_under_another_id():
    gone = LeaseGone(fields={"reason": "expired"})
    lease = waiting(renamed=lambda: "r_1")
    lease.acquire_failed(ask(lease, 0)[0], 10, gone)
    assert ask(lease, lease.wake_ms())[1].request_id == "r_1"
    for other in (waiting(), waiting(renamed=lambda: "r_1")):
        reason = "expired" if other.line._renamed is None else "revoked"
        other.acquire_failed(ask(other, 0)[0], 10, LeaseGone(fields={"reason": reason}))
        assert other.state is State.REFUSED


def test_who_is_called_asks_at_once():
    lease = waiting()
    lease.acquire_failed(ask(lease, 0)[0], 10, full())
    assert lease.step(11) is Step.WAIT
    lease.called(11)
    assert ask(lease, 11)[1].place == "p_1"
    lease.called(12)
    assert lease.step(12) is Step.WAIT, "an acquire is under way"


def test_who_ends_the_wait_asks_no_more():
    lease = waiting()
    number, _ = ask(lease, 0)
    lease.line.end()
    lease.acquire_failed(number, 5, full())
    assert lease.state is State.REFUSED


@pytest.mark.parametrize("wait_s", [-1, float("nan"), float("inf"), 1e9])
def test_what_is_no_time_to_wait_is_told(wait_s):
    with pytest.raises(ValueError, match="time to wait"):
        wait_ms_of(wait_s)
    assert wait_ms_of(1.5) == 1_500


OUTCOMES = ("full", "early", "no_place", "granted", "reply_lost", "cut", "away", "learning", "foreign")


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    wait_ms=st.integers(1, 200_000),
    ttl_ms=st.sampled_from([2_000, 20_000, 300_000]),
    known=st.booleans(),
    drift=st.integers(-100, 100),
)
def test_however_a_wait_goes_it_ends_and_never_believes_for_too_long(data, wait_ms, ttl_ms, known, drift):
    """A server that keeps one line, on a clock up to 1 % off, its answers delayed, cut off and lost."""
    ids = count(1)
    lease = waiting(wait_ms, ttl_ms if known else None, renamed=lambda: f"r_{next(ids)}")
    granted_to: dict[str, int] = {}
    now, expires, placed = 1_000, 0, None  # expires: of the server, on the client's clock
    began, latest, longest = now, now, 0
    while lease.state in {State.ACQUIRING, State.CONFIRMING}:
        assert now <= began + max(wait_ms, 20_000) + 130_000, "it ends"
        if lease.step(now) is Step.WAIT:
            assert lease.wake_ms() > now
            now = lease.wake_ms()
            continue
        by = lease.answer_by_ms(now)
        confirming = lease.state is State.CONFIRMING
        number = lease.renew_sent(now) if confirming else lease.acquire_sent(now)
        wish = lease.wish(WISH)
        outcome = data.draw(st.sampled_from(OUTCOMES))
        took = data.draw(st.integers(0, 400))
        if confirming:
            now += took
            if outcome in {"cut", "away", "reply_lost"}:
                lease.renew_failed(number, now, ConnectionFailed())
            elif now > expires:
                lease.renew_failed(number, now, LeaseGone(fields={"reason": "expired"}))
            else:
                expires = max(expires, now - took + ttl_ms * 10_000 // (10_000 + drift))
                lease.renewed(number, now, renewal_of(ttl_ms))
            continue
        assert wish.place == placed, "the latest ticket, or none"
        assert wish.wait_ms is not None
        assert 1 <= wish.wait_ms <= POLL_MS
        assert now + wish.wait_ms <= max(began + wait_ms, now + 1)
        assert not known or wish.wait_ms <= max(ttl_ms // 3, 1)
        if placed is not None and now < began + wait_ms:
            assert now - latest <= longest + 400, "it is not passed over"
        sent, now = now, now + data.draw(st.integers(0, wish.wait_ms)) + took
        if outcome in {"granted", "reply_lost"} or granted_to.get(wish.request_id, 0) > now - took:
            served = data.draw(st.integers(sent, now))
            gone = wish.request_id in granted_to and granted_to[wish.request_id] <= served
            if not gone:
                # No lease is live under another id of this wait: a seat is never taken twice.
                assert all(ends <= served for rid, ends in granted_to.items() if rid != wish.request_id)
                expires = served + ttl_ms * 10_000 // (10_000 + drift)
                granted_to[wish.request_id] = expires
            if outcome == "reply_lost":
                now = max(now, data.draw(st.integers(sent, by)))
                lease.acquire_failed(number, now, ConnectionFailed())
            elif gone:
                lease.acquire_failed(number, now, LeaseGone(fields={"reason": "expired"}))
                placed = None
            else:
                lease.granted(number, now, grant_of(ttl_ms))
        elif outcome in {"full", "early"}:
            now = sent + wish.wait_ms + took if outcome == "full" else sent + took
            placed = f"p_{now}"
            lease.acquire_failed(number, now, full(placed))
        elif outcome == "no_place":
            placed = None
            lease.acquire_failed(number, now, NoSeat(fields={"retry_after_ms": 60_000}))
        elif outcome == "foreign" and placed is not None:
            placed = None
            lease.acquire_failed(number, now, InvalidRequest(fields={"errors": [{"field": "place"}]}))
        elif outcome == "learning":
            now, placed = sent + took, "p_learning"
            lease.acquire_failed(number, now, Learning(fields={"retry_after_ms": 3_000, "place": placed}))
        else:
            lease.acquire_failed(number, now, ConnectionFailed())
        latest, longest = now, 3_300 if outcome == "learning" else PAUSE_IN_PLACE_MS
    for at in range(now, now + 2 * ttl_ms, max(ttl_ms // 50, 1)):
        assert not lease.believes(at) or at <= expires
    assert lease.state in BELIEVING | {State.REFUSED}
