"""The seat's state machine: the table, the illegal events, the deadline against a drifting server."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seatd_client.errors import ConnectionFailed, LeaseGone, RateLimited, SeatError, Unauthorized
from seatd_client.lease import DEADLINE, IllegalEvent, Lease
from seatd_client.states import TRANSITIONS, Event, State, Step

from tests.sdk.leases import (
    CALLS,
    DEADLINE_MS,
    GONE,
    MAKERS,
    REPLIES,
    TTL_MS,
    at_risk,
    confirming,
    grant_of,
    held,
    image,
    make,
    refused,
    renewal_of,
    renewing,
)


@pytest.mark.parametrize("state", State)
def test_every_state_is_reached_and_stands_in_the_table(state):
    assert MAKERS[state]().state is state
    assert state in TRANSITIONS


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, CALLS)))
def test_an_event_leads_where_the_table_says_or_changes_nothing(state, event):
    lease = MAKERS[state]()
    # A moment after the state was reached, so that a reply of ttl 1 ms is late and one of 300 s is not.
    now = {State.CONFIRMING: DEADLINE_MS, State.LOST: DEADLINE_MS}.get(state, 100_002) + 10
    if event in REPLIES and lease._open is None and lease.step(now + TTL_MS) is not Step.OVER:
        acquires = state is State.ACQUIRING and event in TRANSITIONS[state]
        if acquires:
            lease.acquire_sent(now - 5)
        elif state in {State.CONFIRMING, State.AT_RISK}:
            lease.renew_sent(now - 5)
    expected = TRANSITIONS[state].get(event)
    if event is Event.GONE and state is State.CONFIRMING:
        expected = State.REFUSED  # gone before it was held: the acquire has failed
    before = image(lease)
    number = lease._open or lease._sent
    try:
        said = CALLS[event](lease, number, now)
    except IllegalEvent:
        assert expected is None
        assert image(lease) == before
        return
    if said is False:  # a reply that was not read: nothing was open
        assert before["_open"] is None
        assert expected is None
        assert image(lease) == before
        return
    assert lease.state is expected


def test_a_reply_to_a_request_that_was_never_sent_is_illegal():
    for number in (0, 2, -1):
        lease = held()
        before = image(lease)
        with pytest.raises(IllegalEvent):
            lease.renewed(number, 10, renewal_of())
        assert image(lease) == before


def test_an_acquires_number_does_not_answer_a_renewal():
    lease = renewing()
    before = image(lease)
    with pytest.raises(IllegalEvent):
        lease.granted(2, 100_001, grant_of())
    assert image(lease) == before


def test_belief_ends_at_t_send_plus_the_ttl_less_one_percent():
    lease = make()
    lease.granted(lease.acquire_sent(1_000), 5_000, grant_of())
    assert lease.deadline_ms == 1_000 + DEADLINE_MS
    assert lease.believes(lease.deadline_ms - 1)
    assert not lease.believes(lease.deadline_ms)
    assert lease.state is State.HELD, "a clock read ends belief, no timer is needed"


def test_only_the_newest_request_is_read():
    lease = held()
    first = lease.renew_sent(100_000)
    second = lease.renew_sent(110_000)
    before = image(lease)
    assert not lease.renewed(first, 111_000, renewal_of(3_600_000))
    assert not lease.renew_failed(first, 111_000, GONE)
    assert image(lease) == before
    assert lease.renewed(second, 111_000, renewal_of())
    assert lease.deadline_ms == 110_000 + DEADLINE_MS


def test_a_second_reply_to_one_request_is_not_read():
    lease = held()
    number = lease.renew_sent(100_000)
    assert lease.renewed(number, 100_001, renewal_of())
    assert not lease.renewed(number, 100_002, renewal_of(receipt="r2"))
    assert lease.latest is not None
    assert lease.latest.receipt == "r1"


def test_a_reply_after_the_deadline_does_not_revive():
    lease = renewing()
    assert not lease.renewed(2, DEADLINE_MS, renewal_of())
    assert (lease.state, lease.reason) == (State.LOST, DEADLINE)
    assert not lease.believes(DEADLINE_MS)


def test_a_renewal_cannot_be_sent_after_the_deadline():
    lease = held()
    before = image(lease)
    with pytest.raises(IllegalEvent):
        lease.renew_sent(DEADLINE_MS)
    assert image(lease) == before


def test_an_acquire_that_took_as_long_as_its_ttl_renews_at_once():
    lease = confirming()
    assert not lease.believes(DEADLINE_MS)
    assert lease.step(DEADLINE_MS) is Step.RENEW
    assert lease.renewed(lease.renew_sent(DEADLINE_MS), DEADLINE_MS + 10, renewal_of())
    assert lease.state is State.HELD
    assert lease.believes(2 * DEADLINE_MS - 1)


def test_an_acquire_that_took_longer_than_renew_after_renews_at_once():
    lease = make()
    lease.granted(lease.acquire_sent(0), 150_000, grant_of())
    assert lease.state is State.HELD
    assert lease.step(150_000) is Step.RENEW


def test_a_lease_gone_while_confirming_refuses_and_owes_nothing():
    lease = confirming()
    lease.renew_failed(
        lease.renew_sent(DEADLINE_MS), DEADLINE_MS + 1, LeaseGone(fields={"reason": "expired"})
    )
    assert (lease.state, lease.reason, lease.owes_release) == (State.REFUSED, "expired", False)


def test_answers_that_always_come_too_late_end_in_a_refusal():
    lease = make()
    now = 0
    lease.granted(lease.acquire_sent(now), now + 10, grant_of(1))
    for _ in range(1000):
        if lease.state is State.REFUSED:
            break
        now = lease.wake_ms()
        lease.renewed(lease.renew_sent(now), now + 10, renewal_of(1))
    assert lease.state is State.REFUSED
    assert lease.owes_release, "the server granted it, and does not know that nobody sits"


@given(ttl_ms=st.integers(2_000, 3_600_000), after=st.integers(0, 4_000_000), seed=st.integers(0, 1000))
def test_renewals_are_due_in_time_and_spread(ttl_ms, after, seed):
    lease = Lease(random.Random(seed))
    lease.granted(lease.acquire_sent(0), 1, grant_of(ttl_ms, after))
    used = max(min(after, ttl_ms // 2), ttl_ms // 20)
    assert used * 8 // 10 <= lease.wake_ms() <= used
    assert lease.step(lease.wake_ms() - 1) is Step.WAIT
    assert lease.step(lease.wake_ms()) is Step.RENEW


def test_clients_that_start_together_renew_apart():
    wakes = set()
    for seed in range(100):
        lease = Lease(random.Random(seed))
        lease.granted(lease.acquire_sent(0), 1, grant_of())
        wakes.add(lease.wake_ms())
    assert len(wakes) > 90


@pytest.mark.parametrize("error", [ConnectionFailed(), RateLimited(), Unauthorized(), SeatError()])
def test_what_is_not_gone_is_at_risk_until_the_deadline(error):
    lease, now, tries = renewing(), 100_000, 0
    number = 2
    while not lease.tick(now):
        tries += 1
        assert lease.renew_failed(number, now, error)
        assert lease.state is State.AT_RISK
        assert lease.believes(now)
        now = lease.wake_ms()
        if now < DEADLINE_MS:
            number = lease.renew_sent(now)
    assert now == DEADLINE_MS
    assert (lease.state, lease.reason, lease.error) == (State.LOST, DEADLINE, error)
    assert 10 < tries < 60


def test_retry_after_is_heeded_while_there_is_time():
    lease = renewing()
    lease.renew_failed(2, 100_000, RateLimited(fields={"retry_after_ms": 60_000}))
    assert 160_000 <= lease.wake_ms() <= 166_000


def test_retry_after_beyond_the_deadline_leaves_a_last_chance():
    lease = renewing()
    lease.renew_failed(2, 100_000, RateLimited(fields={"retry_after_ms": 10_000_000}))
    assert lease.wake_ms() < DEADLINE_MS - 90_000


def test_a_request_in_danger_gets_half_of_what_is_left():
    lease = held()
    assert lease.answer_by_ms(100_000) == 110_000
    assert lease.answer_by_ms(DEADLINE_MS - 4_000) == DEADLINE_MS - 2_000
    assert lease.answer_by_ms(DEADLINE_MS - 100) == DEADLINE_MS


def test_an_acquire_is_tried_again_for_a_bounded_time_only():
    lease, now, tries = make(acquire_ms=5_000), 0, 0
    while lease.state is State.ACQUIRING:
        assert lease.step(now) is Step.ACQUIRE
        number = lease.acquire_sent(now)
        tries += 1
        now = min(now + 50, lease.answer_by_ms(now))
        lease.acquire_failed(number, now, ConnectionFailed("away"))
        now = lease.wake_ms() if lease.state is State.ACQUIRING else now
    assert lease.state is State.REFUSED
    assert isinstance(lease.error, ConnectionFailed)
    assert now <= 5_000
    assert 3 <= tries <= 20
    assert not lease.owes_release


def test_an_acquire_does_not_wait_for_what_comes_too_late():
    lease = make(acquire_ms=5_000)
    lease.acquire_failed(lease.acquire_sent(0), 1, RateLimited(fields={"retry_after_ms": 6_000}))
    assert lease.state is State.REFUSED


def test_a_refusal_is_not_tried_again():
    assert refused().step(10**9) is Step.OVER


@pytest.mark.parametrize(
    ("reason", "owes"),
    [("expired", False), ("released", False), ("taken_over", False), ("unknown", False)]
    + [
        (r, True)
        for r in ("revoked", "suspended", "tariff_switched", "contract_ended", "trial_expired", "idle")
    ],
)
def test_a_release_is_owed_where_the_server_waits_for_us(reason, owes):
    lease = renewing()
    lease.renew_failed(2, 100_001, LeaseGone(fields={"reason": reason}))
    assert (lease.state, lease.reason, lease.owes_release) == (State.LOST, reason, owes)
    lease.stop()
    assert lease.state is State.LOST, "giving back does not unmake a loss"


def test_who_stops_does_not_believe_and_owes_a_release():
    for lease in (held(), renewing(), at_risk()):
        lease.stop()
        assert not lease.believes(0)
        assert lease.owes_release
        assert lease.step(0) is Step.OVER
    lease = make()
    lease.stop()
    assert not lease.owes_release
