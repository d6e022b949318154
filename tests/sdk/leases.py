"""Seats in each of their states, every event by name, and what of a seat a test compares."""

import random
from typing import Any

from seatd_client.errors import ConnectionFailed, LeaseGone, NoSeat
from seatd_client.lease import Lease, Patience
from seatd_client.states import Event, State
from seatd_client.wire import Grant, Renewal

TTL_MS = 300_000
DEADLINE_MS = 297_029  # 300000 / 1.01, cut


def grant_of(ttl_ms: int = TTL_MS, renew_after_ms: int = 100_000, receipt: str = "r0") -> Grant:
    return Grant(
        "l_1", 10**12 + ttl_ms, ttl_ms, renew_after_ms, receipt, "acme", "ana", "desk", "team", (), 10**12
    )


def renewal_of(ttl_ms: int = TTL_MS, renew_after_ms: int = 100_000, receipt: str = "r1") -> Renewal:
    return Renewal("l_1", 10**12 + ttl_ms, ttl_ms, renew_after_ms, receipt)


def make(**patience: int) -> Lease:
    return Lease(random.Random(7), Patience(**patience))


def held(at_ms: int = 0, **patience: int) -> Lease:
    lease = make(**patience)
    assert lease.granted(lease.acquire_sent(at_ms), at_ms, grant_of())
    return lease


def confirming() -> Lease:
    lease = make()
    number = lease.acquire_sent(0)
    lease.granted(number, DEADLINE_MS, grant_of())
    return lease


def renewing() -> Lease:
    lease = held()
    lease.renew_sent(100_000)
    return lease


def at_risk() -> Lease:
    lease = held()
    lease.renew_failed(lease.renew_sent(100_000), 100_001, ConnectionFailed("away"))
    return lease


def lost() -> Lease:
    lease = held()
    lease.tick(DEADLINE_MS)
    return lease


def released() -> Lease:
    lease = held()
    lease.stop()
    return lease


def refused() -> Lease:
    lease = make()
    lease.acquire_failed(lease.acquire_sent(0), 1, NoSeat())
    return lease


MAKERS = {
    State.ACQUIRING: make,
    State.CONFIRMING: confirming,
    State.HELD: held,
    State.RENEWING: renewing,
    State.AT_RISK: at_risk,
    State.LOST: lost,
    State.RELEASED: released,
    State.REFUSED: refused,
}


def image(lease: Lease) -> dict[str, Any]:
    return {**vars(lease), "_rng": lease._rng.getstate()}


# How each event is brought about, with a reply to the request that is open or, failing that, was last sent.
GONE = LeaseGone(fields={"reason": "revoked"})
CALLS = {
    Event.ACQUIRE_SENT: lambda lease, n, now: lease.acquire_sent(now),
    Event.GRANTED: lambda lease, n, now: lease.granted(n, now, grant_of()),
    Event.GRANTED_LATE: lambda lease, n, now: lease.granted(n, now, grant_of(1)),
    Event.ACQUIRE_FAILED: lambda lease, n, now: lease.acquire_failed(n, now, ConnectionFailed()),
    Event.RENEW_SENT: lambda lease, n, now: lease.renew_sent(now),
    Event.RENEWED: lambda lease, n, now: lease.renewed(n, now, renewal_of()),
    Event.RENEWED_LATE: lambda lease, n, now: lease.renewed(n, now, renewal_of(1)),
    Event.RENEW_FAILED: lambda lease, n, now: lease.renew_failed(n, now, ConnectionFailed()),
    Event.GONE: lambda lease, n, now: lease.renew_failed(n, now, GONE),
    Event.ENDED: lambda lease, n, now: lease.ended(now, "revoked"),
    Event.STOP: lambda lease, n, now: lease.stop(),
}
REPLIES = set(CALLS) - {Event.ACQUIRE_SENT, Event.RENEW_SENT, Event.ENDED, Event.STOP}
