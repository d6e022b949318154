"""The life of one seat at its holder, fed with events and instants.  Sans-IO; its table is in `states`.

Theory.  The server frees a seat a little after the lease's expiry, on its own clock.  The client
cannot read that clock, so it believes in its seat only until

    deadline = t_send + ttl / (1 + rho)         rho = 1 %, the drift allowed between two clocks

with `t_send` taken before the request whose reply gave the ttl: the server counted the ttl from some
later instant, so the client always stops first.  Three rules keep that sound.  Only the reply to the
newest request is read.  Belief stops before a release is sent.  What keeps a renewal from succeeding
does not end belief, the deadline does; the server's own word (`lease_gone`) ends it at once.

Instants are integers in milliseconds of one clock that never steps back and counts suspended time
(`clock.boottime_ms`), handed in with every event.  Nothing here may read a clock, sleep, send or log;
`aio` does.  An event that the table does not know for the state raises `IllegalEvent` and changes
nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from seatd_client.errors import ConnectionFailed, LeaseGone, SeatError, Transient
from seatd_client.line import Line, Standing
from seatd_client.states import BELIEVING, TRANSITIONS, Event, State, Step
from seatd_client.wire import Acquire, Grant, Renewal

RHO_PERCENT = 1
"""The drift between the client's clock and the server's that a deadline allows for."""

DEADLINE = "deadline"
"""The reason of a seat that was lost because no renewal succeeded in time."""


class IllegalEvent(Exception):
    """An event that cannot happen in the state the seat is in; nothing was changed."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for what, in milliseconds.

    `acquire_ms` bounds an acquire with all its retries, unless it waits in line for longer; `answer_ms`
    one request, beyond what it lets the server wait; `release_ms` giving the seat back.  The first pause between tries is up to `pause_ms`, each one doubling up to
    `pause_max_ms`.
    """

    acquire_ms: int = 20_000
    answer_ms: int = 10_000
    release_ms: int = 3_000
    pause_ms: int = 250
    pause_max_ms: int = 30_000


class Lease:
    """One seat's state at its holder.

    Each request sent is numbered by `acquire_sent` or `renew_sent`; its reply is handed in under that
    number.  Replies to any but the newest request are not read: their methods return False.
    `reason` says why a seat was lost: DEADLINE, or the server's word.  `error` is the latest failure
    since the last success.  `line` is the wait for a free seat, where there is to be one.
    """

    def __init__(
        self, rng: random.Random, patience: Patience | None = None, line: Line | None = None
    ) -> None:
        """Start without a seat; `rng` spreads renewals and retries of many clients apart."""
        self.state = State.ACQUIRING
        self.grant: Grant | None = None
        self.latest: Renewal | None = None
        self.deadline_ms = 0
        self.reason: str | None = None
        self.error: SeatError | None = None
        self.line = line
        self._rng = rng
        self._patience = patience or Patience()
        self._sent = 0
        self._open: int | None = None
        self._sent_ms = 0
        self._due_ms = 0
        self._failures = 0
        self._give_up_ms: int | None = None

    # What is so.

    def believes(self, now_ms: int) -> bool:
        """Tell whether the holder may work at this instant."""
        return self.state in BELIEVING and now_ms < self.deadline_ms

    @property
    def standing(self) -> Standing | None:
        """Tell where the wait for a seat stands; None where nobody waits or nothing is known."""
        return self.line.standing if self.line is not None and self.state is State.ACQUIRING else None

    @property
    def owes_release(self) -> bool:
        """Tell whether the server may still keep the seat for us, though we have stopped."""
        over = self.state in {State.LOST, State.RELEASED, State.REFUSED}
        return over and self.latest is not None and self.reason not in _FREED

    def step(self, now_ms: int) -> Step:
        """Tell what is to be done now; call `tick` first."""
        if not TRANSITIONS[self.state].keys() & _SENDING:
            return Step.OVER
        if self._open is not None or now_ms < self._due_ms:
            return Step.WAIT
        return Step.ACQUIRE if self.state is State.ACQUIRING else Step.RENEW

    def wake_ms(self) -> int:
        """Tell at which instant to look again, where the step is to wait."""
        return min(self._due_ms, self.deadline_ms) if self.state in BELIEVING else self._due_ms

    def answer_by_ms(self, now_ms: int) -> int:
        """Tell until when to wait for the answer to a request sent now.

        A request in time of danger is given half of what is left, so that another can follow it.
        """
        by = now_ms + self._patience.answer_ms
        if self.state in BELIEVING:
            return min(by, self.deadline_ms, now_ms + self._half_of_what_is_left(now_ms))
        if self.state is State.ACQUIRING and self.line is not None:
            return by + self.line.poll_ms
        return by if self._give_up_ms is None else min(by, max(self._give_up_ms, now_ms + 1))

    # What happens.

    def acquire_sent(self, now_ms: int) -> int:
        """Note that an acquire is about to be sent; returns its number."""
        self._move(Event.ACQUIRE_SENT)
        if self._give_up_ms is None:
            wait_ms = self.line.wait_ms if self.line is not None else 0
            self._give_up_ms = now_ms + max(self._patience.acquire_ms, wait_ms)
        if self.line is not None:
            self.line.ask(now_ms)
        return self._number(now_ms)

    def wish(self, wish: Acquire) -> Acquire:
        """Make the acquire to send now out of the one that was wished for: a wait adds its place in line."""
        return self.line.wish(wish) if self.line is not None else wish

    def granted(self, number: int, now_ms: int, grant: Grant) -> bool:
        """Take the grant that answered an acquire; one that took as long as its ttl is renewed at once."""
        if not self._reads(number, Event.GRANTED):
            return False
        late = now_ms >= self._deadline(grant)
        self._move(Event.GRANTED_LATE if late else Event.GRANTED)
        self.grant = grant
        self._keep(grant)
        if late:
            self._due_ms = now_ms
            self._give_up_ms = now_ms + self._patience.acquire_ms
        return True

    def acquire_failed(self, number: int, now_ms: int, error: SeatError) -> bool:
        """Take an acquire's failure; the acquire is over unless another try may help in time."""
        if not self._reads(number, Event.ACQUIRE_FAILED):
            return False
        if self.line is not None and self.line.goes_on(now_ms, error):
            self._wait(now_ms, error, self.line)
        else:
            self._fail_unseated(now_ms, error, Event.ACQUIRE_FAILED)
        return True

    def ask_no_more(self) -> None:
        """Note that nobody wants the seat any more: an acquire under way is the last."""
        self._give_up_ms = 0
        if self.line is not None:
            self.line.end()

    def called(self, now_ms: int) -> None:
        """Hear that the turn in line has come: ask again at once, unless an acquire is under way."""
        if self.state is State.ACQUIRING and self._open is None and self.line is not None:
            self._due_ms = min(self._due_ms, now_ms)

    def renew_sent(self, now_ms: int) -> int:
        """Note that a renewal is about to be sent; returns its number."""
        if self.state in BELIEVING and now_ms >= self.deadline_ms:
            raise IllegalEvent("the deadline has passed")
        self._move(Event.RENEW_SENT)
        return self._number(now_ms)

    def renewed(self, number: int, now_ms: int, renewal: Renewal) -> bool:
        """Take the answer to a renewal; one that comes after the deadline is not read."""
        if not self._reads(number, Event.RENEWED) or self.tick(now_ms):
            return False
        late = now_ms >= self._deadline(renewal)
        if late and self.state is State.CONFIRMING:
            self.latest = renewal
            self._fail_unseated(
                now_ms, ConnectionFailed("answers take as long as the lease"), Event.RENEWED_LATE
            )
            return True
        self._move(Event.RENEWED_LATE if late else Event.RENEWED)
        self._keep(renewal)
        self.reason = DEADLINE if late else None
        return True

    def renew_failed(self, number: int, now_ms: int, error: SeatError) -> bool:
        """Take a renewal's failure: `LeaseGone` ends the seat, all else puts it at risk."""
        if not self._reads(number, Event.RENEW_FAILED) or self.tick(now_ms):
            return False
        if self.state is State.CONFIRMING:
            self._fail_unseated(now_ms, error, Event.RENEW_FAILED)
            return True
        self._open, self.error = None, error
        if isinstance(error, LeaseGone):
            self._move(Event.GONE)
            self.reason = error.reason
            return True
        self._move(Event.RENEW_FAILED)
        self._due_ms = now_ms + min(self._pause(error), self._half_of_what_is_left(now_ms))
        return True

    def renew_by(self, now_ms: int, within_ms: int) -> None:
        """Hear that a renewal is wanted within that time: it comes at a random instant of it, or earlier."""
        if self.state is State.HELD:
            self._due_ms = min(self._due_ms, now_ms + self._rng.randint(0, within_ms))

    def ended(self, now_ms: int, reason: str) -> bool:
        """Hear from the server, unasked, that the lease is over; returns whether that ended belief.

        What may have been said of another holder of the same lease is asked, by a renewal.
        """
        if self.state not in BELIEVING and self.state is not State.CONFIRMING:
            return False
        if reason == _TAKEN_OVER:
            self.renew_by(now_ms, 0)
            return False
        self._move(Event.ENDED)
        self._open, self.reason = None, reason
        self.error = LeaseGone(fields={"reason": reason})
        return True

    def tick(self, now_ms: int) -> bool:
        """Let time pass; returns True when the deadline has just ended the seat."""
        if self.state not in BELIEVING or now_ms < self.deadline_ms:
            return False
        self._move(Event.DEADLINE)
        self._open, self.reason = None, DEADLINE
        return True

    def stop(self) -> None:
        """Stop believing, by the holder's own will; what it owes the server is a release."""
        self._move(Event.STOP)
        self._open = None

    # How.

    def _move(self, event: Event) -> None:
        following = TRANSITIONS[self.state].get(event)
        if following is None:
            raise IllegalEvent(f"{event.value} while {self.state.value}")
        self.state = following

    def _number(self, now_ms: int) -> int:
        self._sent += 1
        self._open, self._sent_ms = self._sent, now_ms
        return self._sent

    def _reads(self, number: int, event: Event) -> bool:
        if not 1 <= number <= self._sent:
            raise IllegalEvent(f"no request {number} was sent")
        if number != self._open:
            return False
        if event not in TRANSITIONS[self.state]:
            raise IllegalEvent(f"{event.value} while {self.state.value}")
        return True

    def _deadline(self, renewal: Renewal) -> int:
        return self._sent_ms + renewal.ttl_ms * 100 // (100 + RHO_PERCENT)

    def _keep(self, renewal: Renewal) -> None:
        self.latest, self.deadline_ms = renewal, self._deadline(renewal)
        self._open, self.error, self._failures = None, None, 0
        # Half of the ttl is left for tries, whatever the server says, and twenty renewals a ttl suffice.
        after_ms = max(min(renewal.renew_after_ms, renewal.ttl_ms // 2), renewal.ttl_ms // 20)
        self._due_ms = self._sent_ms + self._rng.randint(after_ms * 8 // 10, after_ms)

    def _fail_unseated(self, now_ms: int, error: SeatError, event: Event) -> None:
        due_ms = now_ms + self._pause(error)
        hopeful = isinstance(error, Transient) and due_ms < (self._give_up_ms or 0)
        self._move(event if hopeful else Event.REFUSED)
        self._open, self.error, self._due_ms = None, error, due_ms
        if isinstance(error, LeaseGone):
            self.reason = error.reason

    def _wait(self, now_ms: int, error: SeatError, line: Line) -> None:
        pause_ms = line.pause_ms(now_ms, error, self._own_pause(), self._rng.random())
        if isinstance(error, Transient) and now_ms + pause_ms >= (self._give_up_ms or 0):
            self._fail_unseated(now_ms, error, Event.ACQUIRE_FAILED)
            return
        self._move(Event.ACQUIRE_FAILED)
        self._failures = self._failures if pause_ms else 0
        self._open, self.error, self._due_ms = None, error, now_ms + pause_ms

    def _pause(self, error: SeatError) -> int:
        pause_ms = self._own_pause()
        asked_ms = error.retry_after_ms if isinstance(error, Transient) else None
        if not asked_ms or asked_ms < 0:
            return pause_ms
        return max(pause_ms, asked_ms + self._rng.randint(0, asked_ms // 10))

    def _own_pause(self) -> int:
        most_ms = min(self._patience.pause_ms << min(self._failures, 16), self._patience.pause_max_ms)
        self._failures += 1
        return self._rng.randint(most_ms // 2, most_ms)

    def _half_of_what_is_left(self, now_ms: int) -> int:
        return max((self.deadline_ms - now_ms) // 2, self._patience.pause_ms)


_TAKEN_OVER = "taken_over"
_SENDING = frozenset({Event.ACQUIRE_SENT, Event.RENEW_SENT})

# Reasons after which the server keeps nothing for this receipt.  The others end a lease whose seat
# stays taken until its expiry, or until the release that says that we have stopped.
_FREED = frozenset({"expired", "released", "taken_over", "unknown"})
