"""A desk: one user's client, which sits down, renews, goes, crashes, gives up on a request, asks again.

It keeps the client's side of the contract: it believes until `t_send + ttl / 1.01`, reads only the reply to its newest
request, and stops before it sends a release.  What it believes it writes down; nothing is judged here.
"""

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any

from tests.faults.history import Asked, History, now_us
from tests.faults.wire import WITHIN_S, Connection, NoAnswerError, NotSentError
from tests.sim.checker import Stretch

INSIST_S = 4.0
MAY_HAVE_RUN = {"store_unavailable", "internal"}
"""Refusals that say only that no answer came from further behind."""


@dataclass(frozen=True)
class Habits:
    """How clients behave; seconds, and chances."""

    pause_s: tuple[float, float] = (0.005, 0.07)
    stay_s: tuple[float, float] = (0.2, 2.0)
    long_stay_s: tuple[float, float] = (3.0, 10.0)
    work_s: tuple[float, float] = (0.2, 1.9)
    lazy: float = 0.4
    cancel: float = 0.02
    crash: float = 0.08
    again: float = 0.04
    takeover: float = 0.0
    wait: float = 0.2


@dataclass
class Held:
    """A seat as its client knows it."""

    lease: str
    receipt: str
    expires_ms: int
    until_us: int


class Desk:
    """One client of one user; `work` until the history ends."""

    def __init__(
        self,
        history: History,
        address: tuple[str, int],
        user: str,
        name: str,
        rng: random.Random,
        habits: Habits,
    ) -> None:
        self.history = history
        self.user = user
        self.name = name
        self.rng = rng
        self.habits = habits
        self.held: Held | None = None
        self._connection = Connection(*address)
        self._mine: list[int] = []
        self._requests = 0
        self._place = ""
        self._lazy = rng.random() < habits.lazy

    async def work(self) -> None:
        """Come and go until the clients are sent home; then release, or leave without a word."""
        try:
            while not self.history.ending:
                await self._pause()
                await self._sit_down()
                stay_s = self.habits.long_stay_s if self.rng.random() < 0.5 else self.habits.stay_s
                leave_us = now_us() + int(self.rng.uniform(*stay_s) * 1e6)
                while self.held and not self.history.ending and now_us() < leave_us:
                    await self._work_on()
                    await self._stay()
                await self._leave()
        finally:
            self._connection.close()

    async def _pause(self) -> None:
        await asyncio.sleep(self.rng.uniform(*self.habits.pause_s))

    async def _work_on(self) -> None:
        """Hold the seat without asking: some ask often, some only when it is about to run out."""
        if not self._lazy:
            await self._pause()
            return
        ask_us = now_us() + int(self.rng.uniform(*self.habits.work_s) * 1e6)
        while now_us() < ask_us and not self.history.ending:
            await asyncio.sleep(0.03)

    async def _sit_down(self, *, takeover: bool = False) -> None:
        """Acquire; where no answer comes, again with the same request id, for a while."""
        self._requests += 1
        request = f"{self.user}-{self.name}-{self._requests}"
        takeover = takeover or self.rng.random() < self.habits.takeover
        body: dict[str, Any] = {
            "user": self.user, "client": self.name, "request_id": request, "takeover": takeover
        }  # fmt: skip
        if not self.held and self.rng.random() < self.habits.wait:
            body["wait_ms"] = self.rng.randint(50, 900)
            if self._place:
                body["place"] = self._place
        give_up_us, unknown = now_us() + int(INSIST_S * 1e6), False
        while now_us() < give_up_us:
            asked = self._begin("acquire", request, self.held.lease if self.held else "")
            answer = await self._ask(asked, "POST", "/v1/leases", body)
            self._place = (answer or {}).get("place", "")
            if asked.outcome == "ok":
                self._believe(asked, answer)
            unknown = unknown or asked.outcome == "unknown"
            later = asked.outcome == "unknown" or asked.status in {0, 429, 503}
            if not later or (not unknown and asked.status) or (self.history.ending and not unknown):
                return
            await self._pause()
        if self.held:  # its receipts may be worthless by now, and it cannot know
            self._stop()

    async def _stay(self) -> None:
        assert self.held
        if self.rng.random() < self.habits.again:
            await self._sit_down()
            return
        held = self.held
        asked = self._begin("renew", "", held.lease)
        asked.expires_ms = held.expires_ms
        answer = await self._ask(asked, "POST", f"/v1/leases/{held.lease}/renew", {"receipt": held.receipt})
        if asked.outcome == "ok":
            self._believe(asked, answer)
        elif asked.status not in {0, 429, 503}:
            self._stop()
        elif now_us() > held.until_us + 1_500_000:
            self.held = None

    async def _leave(self) -> None:
        """Stop, then release; or crash, and say nothing."""
        held, self.held = self.held, None
        if held is None or self.rng.random() < self.habits.crash:
            return
        self._end_stretches()
        give_up_us = now_us() + int(INSIST_S * 1e6)
        while now_us() < give_up_us:
            asked = self._begin("release", "", held.lease)
            asked.believed_us = held.until_us
            await self._ask(asked, "DELETE", f"/v1/leases/{held.lease}", None, {"Seat-Receipt": held.receipt})
            if asked.status and asked.status not in {429, 503}:
                return
            await self._pause()

    def _begin(self, verb: str, request: str, lease: str) -> Asked:
        believed_us = self.held.until_us if self.held else 0
        return self.history.begin(self.user, self.name, verb, request, lease, believed_us)

    async def _ask(
        self, asked: Asked, method: str, path: str, body: Any, headers: dict[str, str] | None = None
    ) -> Any:
        """Send it and note what came back; now and then, walk away from it at once."""
        headers = {"Authorization": f"Bearer {self.history.key}", **(headers or {})}
        asked.cancelled = self.rng.random() < self.habits.cancel
        within_s = WITHIN_S + (body or {}).get("wait_ms", 0) / 1000
        if asked.cancelled:
            within_s = self.rng.uniform(0, 0.004)
        try:
            asked.status, answer = await self._connection.ask(method, path, headers, body, within_s)
        except NotSentError:
            asked.outcome, answer = "fail", None
        except NoAnswerError:
            asked.outcome, answer = "unknown", None
        else:
            asked.outcome = "ok" if asked.status < 300 else "fail"
        asked.returned_us, asked.wall_ms = now_us(), time.time_ns() // 1_000_000
        if asked.outcome == "fail" and answer:
            asked.code, asked.reason = answer.get("code", ""), answer.get("reason", "")
        if asked.code in MAY_HAVE_RUN:
            asked.outcome = "unknown"
        return answer

    def _believe(self, asked: Asked, answer: Any) -> None:
        asked.lease, asked.expires_ms = answer["lease"], answer["expires_ms"]
        asked.started_ms = answer.get("started_ms", 0)
        until_us = asked.invoked_us + answer["ttl_ms"] * 1000 * 100 // 101
        if self.held is None or self.held.lease != asked.lease:
            self.held = Held(asked.lease, "", 0, 0)
        self.held.receipt, self.held.expires_ms = answer["receipt"], answer["expires_ms"]
        self.held.until_us = max(self.held.until_us, until_us)
        self._mine.append(len(self.history.stretches))
        self.history.stretches.append(Stretch(self.user, asked.returned_us, until_us, asked.returned_us))

    def _stop(self) -> None:
        self._end_stretches()
        self.held = None

    def _end_stretches(self) -> None:
        """End all that this desk believed: also what it believed before it crashed."""
        now = now_us()
        for i in self._mine:
            stretch = self.history.stretches[i]
            self.history.stretches[i] = stretch._replace(until=min(stretch.until, now))
        self._mine.clear()
