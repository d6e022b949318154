"""Standing in line for a seat: what the next acquire carries, and when it is sent.  Sans-IO.

Theory.  A wait is a row of acquires under one request id.  Each asks the server to keep it open for a
while, the *poll*; a refusal carries `place`, a sealed ticket that keeps one's turn, and the next acquire
hands it back.  The ticket outlives the connection, the server and the seat store, so nothing that
passes costs the turn, provided that the next acquire follows within seconds: the server passes over who
was not seen for ten.

The ttl of a grant counts from when the server granted, belief from when the acquire was sent.  A poll
must therefore be short beside the ttl.  While no ttl is known a grant may come too late to be believed,
and is then confirmed by a renewal (`lease`).  Short polls also tell the position soon and pass through
proxies that cut what is silent.

Decides nothing about belief; may not read a clock, sleep, send or log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from seatd_client.errors import Conflict, InvalidRequest, LeaseGone, NoSeat, SeatError, Transient
from seatd_client.wire import Acquire

FEATURE = "wait_ms"
"""What a server that knows lines lists at `GET /v1`."""

POLL_FIRST_MS = 1_000
"""The first poll: short, so that the position is soon known."""

POLL_MS = 20_000
"""The longest poll; the server answers after 60 s, and many a proxy gives up after 30."""

PAUSE_MAX_MS = 5_000
"""The longest pause that is not the server's wish."""

PAUSE_IN_PLACE_MS = 1_500
"""The same for whoever has a place: a seat that is offered goes to the next in line after two seconds."""

WAIT_S_END = 10_000_000
"""No wait is as long as this."""

SPREAD_MAX_MS = 2_000
"""By how much a pause that the server asked for is lengthened at most, so that not all come at once."""


@dataclass(frozen=True)
class Standing:
    """Where one stands: counts, and `eta_ms`, a duration; None what the server did not say.

    `position` 1 is the first in line; None: in no line, asking again from time to time.  `error` is
    what keeps the server from saying more at the moment; the place is kept meanwhile.
    """

    position: int | None = None
    waiting: int = 0
    eta_ms: int | None = None
    in_use: int = 0
    capacity: int = 0
    error: SeatError | None = None


def wait_ms_of(wait_s: float) -> int:
    """Read a time to wait; raises `ValueError` where it is none."""
    if not 0 <= wait_s < WAIT_S_END:
        raise ValueError(f"not a time to wait in seconds: {wait_s!r}")
    return int(wait_s * 1000)


class Line:
    """One wait, from the first acquire to a seat or to the end of patience.

    `wait_ms` is how long to wait in all.  `ttl_ms`: how long leases of this tenant last, where that is
    known.  `renamed` makes another request id, for when the server says that the lease made under the
    first is over; without it that is the end of the wait.
    """

    def __init__(
        self, wait_ms: int, ttl_ms: int | None = None, renamed: Callable[[], str] | None = None
    ) -> None:
        """Start outside of any line."""
        self.wait_ms = wait_ms
        self.ttl_ms = ttl_ms
        self.standing: Standing | None = None
        self.place: str | None = None
        self.until_ms: int | None = None
        self._renamed = renamed
        self._request_id: str | None = None
        self._served: bool | None = None
        self._poll_ms = 0
        self._asked_ms = 0
        self._polls = 0

    @property
    def knows_server(self) -> bool:
        """Tell whether it is known if the server has lines."""
        return self._served is not None

    def server_can(self, features: Collection[str]) -> None:
        """Note what the server can; one without lines is asked again from time to time instead."""
        self._served = FEATURE in features

    def wish(self, wish: Acquire) -> Acquire:
        """Make the next acquire out of the first."""
        asked = replace(wish, request_id=self._request_id or wish.request_id)
        return replace(asked, wait_ms=self._poll_ms or None, place=self.place) if self._served else asked

    def ask(self, now_ms: int) -> None:
        """Note that an acquire is about to be sent: choose its poll."""
        if self.until_ms is None:
            self.until_ms = now_ms + self.wait_ms
        most_ms = POLL_MS if self._polls else POLL_FIRST_MS
        if self.ttl_ms is not None:
            most_ms = min(most_ms, max(self.ttl_ms // 3, 1))
        self._asked_ms, self._polls = now_ms, self._polls + 1
        self._poll_ms = max(min(most_ms, self.until_ms - now_ms), 1)

    def end(self) -> None:
        """Wait no longer: whatever comes next is the end."""
        self.until_ms = self._asked_ms

    @property
    def poll_ms(self) -> int:
        """Tell for how long the server may keep the acquire open."""
        return self._poll_ms if self._served is not False else 0

    def goes_on(self, now_ms: int, error: SeatError) -> bool:
        """Take an acquire's failure; returns whether to ask again."""
        over = self.until_ms is not None and now_ms >= self.until_ms
        if isinstance(error, NoSeat):
            self._stands(error)
            return not over
        if isinstance(error, Transient):
            self.place = getattr(error, "place", None) or self.place
            self.standing = replace(self.standing or Standing(), error=error)
            return not over
        if isinstance(error, Conflict):  # what the user's own earlier seat keeps from him passes with it
            asked_ms = error.retry_after_ms or 0
            return asked_ms > 0 and now_ms + asked_ms < (self.until_ms or 0)
        return not over and (self._gives_way(error) or self._begins_anew(error))

    def pause_ms(self, now_ms: int, error: SeatError, pause_ms: int, spread: float) -> int:
        """Tell how long to pause before the next acquire.

        `pause_ms` is the caller's own pause, growing with each failure in a row; `spread` is random,
        from 0 to 1.
        """
        if isinstance(error, NoSeat):
            return self._pause_in_line(now_ms, error, pause_ms)
        asked_ms = error.retry_after_ms if isinstance(error, (Transient, Conflict)) else None
        if asked_ms is None or asked_ms <= 0:
            return min(pause_ms, self._longest_pause_ms)
        return asked_ms + int(spread * min(asked_ms / 10, SPREAD_MAX_MS))

    def _pause_in_line(self, now_ms: int, error: NoSeat, pause_ms: int) -> int:
        if self._served and self.place is not None and self._kept_open(now_ms):
            return 0
        if self.place is None:
            pause_ms = max(pause_ms, error.retry_after_ms)
        pause_ms = min(pause_ms, self._longest_pause_ms)
        return max(min(pause_ms, (self.until_ms or 0) - 1 - now_ms), 0)  # a last try at the end of the wait

    @property
    def _longest_pause_ms(self) -> int:
        return PAUSE_MAX_MS if self.place is None else PAUSE_IN_PLACE_MS

    def _kept_open(self, now_ms: int) -> bool:
        return (now_ms - self._asked_ms) * 4 >= self._poll_ms * 3

    def _stands(self, error: NoSeat) -> None:
        self.place = error.place
        self.standing = Standing(error.position, error.waiting, error.eta_ms, error.in_use, error.capacity)

    def _gives_way(self, error: SeatError) -> bool:
        """Do without what the server does not take: a ticket that it cannot read, a wait that it does not know."""
        named = {one.get("field") for one in error.errors} if isinstance(error, InvalidRequest) else set()
        if "place" in named and self.place is not None:
            self.place = None
            return True
        if named & {"wait_ms", "place"} and self._served:
            self._served = False
            return True
        return False

    def _begins_anew(self, error: SeatError) -> bool:
        """Ask under another id where a seat was granted, the answer lost, and its lease has run out since."""
        if not isinstance(error, LeaseGone) or error.reason != "expired" or self._renamed is None:
            return False
        self._request_id, self.place = self._renamed(), None
        return True
