"""The conversation over one socket: what was asked, what has been answered, whether anybody is there.  Sans-IO.

Theory.  Requests go up as they come, told apart by an id; answers come down in any order, pushes in
between.  An answer settles its request once; one that nobody asked for, or asked for no longer, is
ignored: a seat reads only the answer to its newest request anyway.  When the socket is lost all that is
open fails.  What is no frame of the contract ends the conversation: whoever sent it is no seatd.

A socket can be dead without saying so.  Nothing heard for QUIET_MS: it is asked, by a ping.  A request
given up without anything heard since it was sent: it is asked at once, and is *in doubt*, not to be used,
until anything is heard.  ECHO_MS after a ping without a sound it is dead.

Instants are fed with every event.  Nothing here may read a clock, sleep, send or log; `sockets` does.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union

from seatd_client import frames, wire
from seatd_client.errors import ConnectionFailed, InvalidReply, SeatError

FEATURE = "channel"
"""What a server that has channels lists at `GET /v1`."""

OPEN_MAX = 1_000
"""How many requests may be open on one socket; a server reads no further beyond about as many."""

QUIET_MS = 45_000
"""After how long without a sound the other end is asked whether it is there."""

ECHO_MS = 5_000
"""How long it then has to make one."""


class ChannelLost(ConnectionFailed):
    """The socket was lost while an answer was awaited; over HTTP it may be had at once."""


class Beat(enum.Enum):
    """What is to be done to know whether the other end is there."""

    WAIT = "wait"
    PING = "ping"
    DEAD = "dead"


@dataclass(frozen=True)
class Settled:
    """A request is over.  `result`: what was asked for (None of a release or leave), or its error.

    The result of a renewal is a list, with a renewal or an error for each lease.
    """

    number: int
    result: wire.Grant | list[wire.Renewal | SeatError] | SeatError | None


Heard = Union[Settled, frames.Push]


@dataclass(frozen=True)
class _Open:
    op: str
    asked: Any  # the wish, the leases, or the number of the acquire that is left
    sent_ms: int


class Channel:
    """One socket's requests.  Each `ask_*` returns a request's number and its frame."""

    def __init__(self, now_ms: int) -> None:
        """Begin with a socket that has just opened."""
        self._last = 0
        self._open: dict[int, _Open] = {}
        self._heard_ms = now_ms
        self._pinged_ms: int | None = None
        self._doubted = False

    # What is asked.

    def ask_acquire(self, now_ms: int, wish: wire.Acquire) -> tuple[int, bytes]:
        """Ask for a seat."""
        number = self._number("acquire", wish, now_ms)
        return number, frames.acquire(number, wish)

    def ask_renew(self, now_ms: int, leases: Sequence[tuple[str, str]]) -> tuple[int, bytes]:
        """Ask for more time on up to LEASES_MAX leases, each with its receipt."""
        if not 1 <= len(leases) <= frames.LEASES_MAX:
            raise ValueError(f"not so many leases in a frame: {len(leases)}")
        number = self._number("renew", [lease for lease, _ in leases], now_ms)
        return number, frames.renew(number, leases)

    def ask_release(self, now_ms: int, lease: str, receipt: str) -> tuple[int, bytes]:
        """Give a lease back."""
        number = self._number("release", lease, now_ms)
        return number, frames.release(number, lease, receipt)

    def ask_leave(self, now_ms: int, acquire: int) -> tuple[int, bytes]:
        """Give up an acquire that waits; its answer, whatever it is, comes before the one to this."""
        number = self._number("leave", acquire, now_ms)
        return number, frames.leave(number, acquire)

    def give_up(self, number: int) -> None:
        """Note that nobody waits for an answer any more."""
        given_up = self._open.pop(number, None)
        if given_up is not None:
            self.doubt(given_up.sent_ms)

    def doubt(self, sent_ms: int) -> None:
        """Note that what was sent at `sent_ms` went unanswered for too long."""
        self._doubted = self._doubted or self._heard_ms <= sent_ms

    # What is heard.

    def receive(self, now_ms: int, frame: bytes) -> list[Heard]:
        """Take a frame; returns what it leads to.  Raises `InvalidReply` where it is none: close the socket."""
        down = frames.read(frame)
        self.sound(now_ms)
        return [down] if isinstance(down, frames.Push) else self._settle(down)

    def sound(self, now_ms: int) -> None:
        """Note that anything was heard, a pong too."""
        self._heard_ms = max(self._heard_ms, now_ms)
        self._pinged_ms, self._doubted = None, False

    def lost(self) -> list[Settled]:
        """Note that the socket is lost; returns what failed by that."""
        failed = [Settled(number, ChannelLost("the channel was lost")) for number in self._open]
        self._open.clear()
        return failed

    # Whether to use it.

    def usable(self, now_ms: int) -> bool:
        """Tell whether to ask here, rather than elsewhere; after a suspension nobody knows."""
        doubtful = self._doubted or self._pinged_ms is not None or now_ms >= self._heard_ms + QUIET_MS
        return not doubtful and len(self._open) < OPEN_MAX

    def wake_ms(self) -> int:
        """Tell at which instant to look at the beat next."""
        if self._pinged_ms is not None:
            return self._pinged_ms + ECHO_MS
        return self._heard_ms if self._doubted else self._heard_ms + QUIET_MS

    def beat(self, now_ms: int) -> Beat:
        """Tell what is to be done now; a ping is taken as sent."""
        if now_ms < self.wake_ms():
            return Beat.WAIT
        if self._pinged_ms is not None:
            return Beat.DEAD
        self._pinged_ms = now_ms
        return Beat.PING

    # How.

    def _number(self, op: str, asked: Any, now_ms: int) -> int:
        self._last += 1
        self._open[self._last] = _Open(op, asked, now_ms)
        return self._last

    def _settle(self, answer: frames.Answer) -> list[Heard]:
        was = self._open.pop(answer.id, None)
        if was is None:
            return []
        heard: list[Heard] = [Settled(answer.id, _result(was, answer))]
        if was.op == "leave" and self._open.pop(was.asked, None) is not None:
            heard.append(Settled(was.asked, ConnectionFailed("the line was left")))
        return heard


def _result(
    was: _Open, answer: frames.Answer
) -> wire.Grant | list[wire.Renewal | SeatError] | SeatError | None:
    if answer.error is not None:
        return answer.error
    try:
        if was.op == "renew":
            return frames.read_renewals(answer.ok, was.asked)
        return frames.read_grant(answer.ok, was.asked) if was.op == "acquire" else None
    except InvalidReply as error:
        return error
