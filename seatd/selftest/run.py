"""One self-test from end to end: find Q, let the clients loose, leave every seat, take them all again, read the ledger.

Decides how long each part takes; every wait is bounded.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from seatd_client.errors import ConnectionFailed
from seatd_client.transport import HttpTransport
from seatd_client.wire import Writer

from seatd.selftest.asking import Asking, LearningError, clock_ns, until
from seatd.selftest.checks import free_ns, judge
from seatd.selftest.clients import ENDINGS, Client
from seatd.selftest.findings import Finding
from seatd.selftest.history import MS_NS, History, Outcome, Verb
from seatd.selftest.ledger import agrees, settled
from seatd.selftest.tenant import TTL_MS, Tenant

LEDGER_S = 10.0
TELL_S = 5.0
Q_MAX_MS = 60_000
TRIES = 20
LEARNING = "the store was lost meanwhile, and who sits is being learnt: try again when /readyz names nobody"

Say = Callable[[str], None]
"""Told what goes on, in a sentence."""


class NotTestedError(Exception):
    """Nothing could be judged; says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is tried: `clients` at once for `seconds`, the wait for all seats to run out included."""

    seconds: float
    clients: int


async def verify(url: str, tenant: Tenant, plan: Plan, say: Say) -> tuple[History, list[Finding]]:
    """Run the self-test on a tenant that was just made; gives what was asked, and what it came to.

    Raises `NotTestedError` where nothing can be judged.
    """
    history = History(tenant.seats)
    try:
        await _ask(url, history, tenant, plan, say)
    except* LearningError:
        raise NotTestedError(LEARNING) from None
    say("The ledger is read.")
    rows = await _ledger(tenant, history)
    return history, [*judge(history), agrees(history, rows)]


async def _ask(url: str, history: History, tenant: Tenant, plan: Plan, say: Say) -> None:
    limits = aiohttp.TCPConnector(limit=0)  # each client has a connection of its own, as in life
    async with aiohttp.ClientSession(connector=limits, cookie_jar=aiohttp.DummyCookieJar()) as session:
        transport = HttpTransport(url, Writer(tenant.key), session)
        await transport.open()
        asking = Asking(transport, _revoking(tenant), history)
        history.q_ms = await _lock_delay_ms(asking)
        say(
            f"Seats are free {history.q_ms} ms after their lease ran out; {plan.clients} clients share {tenant.seats}."
        )
        await _load(asking, plan, say)
        say(f"{len(history.asked)} requests; all clients have gone, and their seats run out.")
        await until(free_ns(history))
        say("All seats must be free now; as many newcomers take them at once.")
        await _take_all(asking)


def _revoking(tenant: Tenant) -> Callable[[str], Awaitable[int | None]]:
    async def revoke(lease: str) -> int | None:
        try:
            return await asyncio.to_thread(tenant.revoke, lease)
        except Exception as error:  # whatever the way to the admin API raises: a refusal says what it is
            if getattr(error, "code", "") == "not_found":
                return None
            raise ConnectionFailed(str(error)) from error

    return revoke


async def _lock_delay_ms(asking: Asking) -> int:
    """Find Q: a revoked lease's seat is free that long after the expiry that its client was told."""
    for number in range(TRIES):
        held = await asking.acquire(f"first-{number}", "desk-0", f"q-{number}")
        free_ms = None if held is None else await asking.revoke(held)
        if held is not None and free_ms is not None:
            await asking.release(held, void="revoked")
            # A seat that were free before its expiry would be sold twice: the clients will see.
            q_ms = max(free_ms - held.expires_ms, 0)
            if q_ms > Q_MAX_MS:
                raise NotTestedError(f"a revoked seat is said to be locked for {q_ms} ms more")
            return q_ms
        await asyncio.sleep(0.25)
    last = asking.history.asked[-1]
    raise NotTestedError(
        f"no seat could be taken and revoked: {last.verb} came to {last.code or last.outcome}"
    )


async def _load(asking: Asking, plan: Plan, say: Say) -> None:
    """Let the clients loose, and leave time within the plan for their seats to run out."""
    seconds = max(plan.seconds - (TTL_MS + asking.history.q_ms) / 1000, 1.0)
    until_ns = clock_ns() + int(seconds * 1e9)
    rng = random.Random()  # noqa: S311 - spreads requests, guards nothing
    endings = itertools.cycle(ENDINGS)
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(_tell(asking.history, say))
        clients = [Client(asking, number, until_ns, endings, rng) for number in range(plan.clients)]
        working = [group.create_task(client.work()) for client in clients]
        await asyncio.wait(working)
        telling.cancel()


async def _tell(history: History, say: Say) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        say(f"{len(history.asked)} requests so far.")


async def _take_all(asking: Asking) -> None:
    """Take every seat at once, one more to be refused, and give them back."""
    seats = asking.history.seats
    newcomers = [_persist(asking, f"newcomer-{number}") for number in range(seats)]
    held = [each for each in await asyncio.gather(*newcomers) if each is not None]
    if len(held) == seats:
        await asking.acquire("one-too-many", "desk-0", "last")
    await asyncio.gather(*(asking.release(each) for each in held))


async def _persist(asking: Asking, user: str) -> Any:
    """Try until there is an answer; a refusal is one."""
    for number in range(TRIES):
        held = await asking.acquire(user, "desk-0", f"n-{number}", newcomer=True)
        if held is not None or asking.refused(user):
            return held
        await asyncio.sleep(0.25)
    return None


async def _ledger(tenant: Tenant, history: History) -> list[dict[str, Any]]:
    """Read the ledger until each lease has its end, or for so long that it should have."""
    give_up_ns = clock_ns() + int((LEDGER_S + history.q_ms / 1000) * 1e9)
    await until(clock_ns() + (TTL_MS // 4) * MS_NS)
    while True:
        rows = await asyncio.to_thread(tenant.ledger)
        if settled(history, rows) or clock_ns() > give_up_ns:
            return rows
        await asyncio.sleep(0.5)


def report(history: History, findings: Sequence[Finding]) -> dict[str, Any]:
    """Lay out for programs what was asked and found; `result`: `kept`, `broken` or `not_tested`."""
    views = [finding.view() for finding in findings]
    results = {view["result"] for view in views}
    took_ms = sorted(
        (asked.returned_ns - asked.invoked_ns) / MS_NS
        for asked in history.of(Verb.RENEW)
        if asked.returned_ns is not None
    ) or [0.0]
    return {
        "result": "broken" if "broken" in results else "not_tested" if "not_seen" in results else "kept",
        "seats": history.seats,
        "lock_delay_ms": history.q_ms,
        "requests": {str(each): sum(asked.outcome is each for asked in history.asked) for each in Outcome},
        "renewal_ms": {
            "p50": round(took_ms[len(took_ms) // 2], 3),
            "p99": round(took_ms[len(took_ms) * 99 // 100], 3),
        },
        "checks": views,
    }
