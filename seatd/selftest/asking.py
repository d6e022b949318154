"""Send one request by the SDK's transport and write down what came of it.

Decides what counts as unknown: no answer, an answer that is none of seatd's, and every 429 and 5xx, after which the
request may have run.  A `learning` is no finding: `LearningError` ends the self-test.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from seatd_client import wire
from seatd_client.errors import Learning, LeaseGone, Refused, SeatError, Transient
from seatd_client.transport import Transport

from seatd.selftest.history import Asked, History, Outcome, Verb, deadline_ns

ANSWER_S = 5.0

T = TypeVar("T")


class LearningError(Exception):
    """The deployment lost its store, and learns who sits: nothing can be judged now."""


Revoke = Callable[[str], Awaitable[int | None]]
"""Revokes a lease by the admin API; gives the instant (ms) its seat is free, None where there was no such lease.

Raises `Transient` where nobody answers.
"""


@dataclass(frozen=True, slots=True)
class Held:
    """A seat as its client knows it: the newest receipt, and until when it believes (host's clock)."""

    user: str
    client: str
    lease: str
    started_ms: int
    expires_ms: int
    receipt: str
    ttl_ms: int
    root: int
    deadline_ns: int

    def left_s(self) -> float:
        """Tell for how many seconds more the client believes."""
        return max(self.deadline_ns - clock_ns(), 0) / 1e9


def clock_ns() -> int:
    """Read the one clock of all clients; it runs on while the machine sleeps where there is such a clock."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Asking:
    """The way to a tenant: every request goes through here, and into the history."""

    def __init__(self, transport: Transport, revoke: Revoke, history: History) -> None:
        self._transport = transport
        self._revoke = revoke
        self.history = history
        self._first: dict[tuple[str, str, str], int] = {}  # where a request id was sent first

    async def acquire(
        self,
        user: str,
        client: str,
        request: str,
        *,
        takeover: bool = False,
        newcomer: bool = False,
        root: int = -1,
    ) -> Held | None:
        """Ask for a seat; None where there is none, or no answer.

        `root`: where the history has the acquire of the seat that the user holds already.
        """
        wish = wire.Acquire(user=user, client=client, request_id=request, takeover=takeover)
        number = self._first.setdefault((user, client, request), len(self.history.asked))
        asked = self._invoke(Verb.ACQUIRE, user, client, root=number if root < 0 else root)
        asked.request, asked.takeover, asked.newcomer = request, takeover, newcomer
        grant = await self._answer(asked, self._transport.acquire(wish))
        if grant is None:
            return None
        asked.lease, asked.started_ms = grant.lease, grant.started_ms
        return self._held(asked, grant, root=number)

    def refused(self, user: str) -> bool:
        """Tell whether the user's latest request was refused, for certain."""
        latest = next((asked for asked in reversed(self.history.asked) if asked.user == user), None)
        return latest is not None and latest.outcome is Outcome.FAIL

    async def renew(self, held: Held, *, void: str = "") -> Held | None:
        """Ask for more time; None where it is refused, or not answered."""
        asked = self._of(Verb.RENEW, held, void)
        renewal = await self._answer(asked, self._transport.renew(held.lease, held.receipt))
        return None if renewal is None else self._held(asked, renewal, root=held.root)

    async def release(self, held: Held, *, void: str = "") -> bool:
        """Give a seat back; False where that was refused or not answered."""
        asked = self._of(Verb.RELEASE, held, void)
        await self._answer(asked, self._transport.release(held.lease, held.receipt))
        return asked.outcome is Outcome.OK

    async def revoke(self, held: Held) -> int | None:
        """Revoke a lease; gives the instant (ms, the server's) its seat is free, None where it is not known."""
        asked = self._of(Verb.REVOKE, held, "")
        free_ms = await self._answer(asked, self._revoke(held.lease))
        if asked.outcome is Outcome.OK and free_ms is None:
            asked.outcome, asked.code = Outcome.FAIL, "not_found"
        return free_ms

    def _invoke(self, verb: Verb, user: str, client: str, *, root: int) -> Asked:
        asked = Asked(verb, user, client, clock_ns(), root=root)
        self.history.asked.append(asked)
        return asked

    def _of(self, verb: Verb, held: Held, void: str) -> Asked:
        asked = self._invoke(verb, held.user, held.client, root=held.root)
        asked.lease, asked.started_ms, asked.void = held.lease, held.started_ms, void
        return asked

    async def _answer(self, asked: Asked, work: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await work
        except Learning as error:
            raise LearningError(str(error)) from error
        except (Transient, TimeoutError) as error:
            asked.code = getattr(error, "code", "") or type(error).__name__
        except Refused as error:
            asked.outcome, asked.code = Outcome.FAIL, error.code
            asked.reason = error.reason if isinstance(error, LeaseGone) else ""
        except SeatError as error:
            asked.code = type(error).__name__
        else:
            asked.outcome = Outcome.OK
            return answer
        finally:
            asked.returned_ns = clock_ns()
        return None

    def _held(self, asked: Asked, given: wire.Renewal, *, root: int) -> Held:
        asked.ttl_ms, asked.expires_ms = given.ttl_ms, given.expires_ms
        return Held(
            user=asked.user,
            client=asked.client,
            lease=given.lease,
            started_ms=asked.started_ms,
            expires_ms=given.expires_ms,
            receipt=given.receipt,
            ttl_ms=given.ttl_ms,
            root=root,
            deadline_ns=deadline_ns(asked.invoked_ns, given.ttl_ms),
        )


async def until(at_ns: int) -> None:
    """Wait until an instant of the host's clock."""
    await asyncio.sleep(max(at_ns - clock_ns(), 0) / 1e9 + 0.001)
