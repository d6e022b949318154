"""Close a month: refuse while something of it is missing, freeze it, make its files, and sign them.

Decides the steps, each of them safe to die after.  First the month is frozen, in one transaction with the look at what
is missing.  Then its files are made and kept, a few tenants at a time, under a token that nobody sees.  At last one
transaction writes audit row, manifest and `closed`; until then the month is open to everybody, and whoever closes it next begins
anew.  A fact that comes in between is known as late, and corrected in the next month unless the files have it already.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from seatd.accounts import audit
from seatd.accounts.tokens import random_id
from seatd.billing import bundle
from seatd.billing.verify_bundle import canonical
from seatd.database import freezing
from seatd.database.engine import locked, reading, writing
from seatd.database.schema import CLOSED, late_facts, month_parts, months
from seatd.flows import closed_months, completeness
from seatd.flows.closed_months import ClosedMonth
from seatd.flows.making import CLOSING, Attempt, Made, hold, make_files
from seatd.flows.months import Months, OpenMonth
from seatd.flows.signing import Signer
from seatd.model import Refusal, invalid
from seatd.telemetry import log
from seatd.usage import chain, cursors
from seatd.usage.ledger import accepted_since, gaps_since

FORMAT: Final = "seatd month 1"
REASON_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a seat may go on after what is known of it (see DESIGN: Q, delta, W), in milliseconds."""

    q_ms: int
    delta_ms: int
    w_ms: int


Make = Callable[[AsyncEngine, Attempt], Awaitable[Made]]
"""Walks the chains under a frozen month, makes its files and keeps them under the attempt's token."""


class Closing:
    """Closes the months of this deployment.

    `recorded` tells whether every usage event that now waits is in the ledger, after waiting a little for it, `waiting` how many
    are not; `signer` gives who signs now, `make` makes the files.
    """

    def __init__(
        self,
        months_of: Months,
        *,
        clock: Callable[[], int],
        recorded: Callable[[], Awaitable[bool]],
        waiting: Callable[[], int | None],
        signer: Callable[[], Signer],
        waits: Waits,
        make: Make = make_files,
    ) -> None:
        self._engine = months_of.engine
        self._months = months_of
        self._clock = clock
        self._recorded = recorded
        self._waiting = waiting
        self._signer = signer
        self._waits = waits
        self._make = make
        self._turn = asyncio.Lock()

    async def close(self, period: str, *, accept_gap: str | None, actor: str) -> tuple[ClosedMonth, bool]:
        """Close a month, and tell whether it was open until now.

        Raises `Refusal`: `invalid_request`, `no_price_list`, `not_over`, `usage_incomplete`, `conflict` where another seatd
        closes it meanwhile.
        """
        if accept_gap is not None and not (0 < len(accept_gap) <= REASON_MAX and accept_gap.isprintable()):
            raise invalid("accept_gap", f"is a reason: 1 to {REASON_MAX} printable characters")
        async with self._turn:
            async with reading(self._engine) as connection:
                if closed := await closed_months.find(connection, period):
                    return closed, False
            opened = await self._months.open(period)
            async with reading(self._engine) as connection:
                from_ms = await completeness.closes_from_ms(
                    connection,
                    opened.month,
                    q_ms=self._waits.q_ms,
                    delta_ms=self._waits.delta_ms,
                    w_ms=self._waits.w_ms,
                )
            if self._clock() < from_ms:
                raise completeness.not_over(opened.month, from_ms)
            if not await self._recorded():
                waiting: dict[str, Any] = {"what": "recorder", "events": self._waiting()}
                raise completeness.incomplete(opened.month, [waiting])
            attempt = await self._freeze(opened, accept_gap, actor)
            if isinstance(attempt, ClosedMonth):
                return attempt, False
            return await self._closed(attempt, accept_gap, actor), True

    async def _closed(self, attempt: Attempt, accept_gap: str | None, actor: str) -> ClosedMonth:
        period = attempt.opened.month.period
        try:
            made = await self._make(self._engine, attempt)
            accepted = [{**place, "reason": accept_gap} for place in made.breaks]
            return await self._publish(attempt, made, accepted, actor)
        except Exception:
            log.warning("month not closed", period=period)
            with contextlib.suppress(Refusal):
                async with writing(self._engine) as connection:
                    await _drop(connection, period, attempt.token)
            raise

    async def _freeze(self, opened: OpenMonth, accept_gap: str | None, actor: str) -> Attempt | ClosedMonth:
        """Freeze a month unless something of it is missing, taking it over from whoever began and did not end."""
        month, now_ms = opened.month, self._clock()
        token = random_id("c_", 12)
        async with writing(self._engine) as connection:
            await freezing.alone(connection)
            query = locked(select(months.c.token).where(months.c.period == month.period))
            before = (await connection.execute(query)).scalar_one_or_none()
            if closed := await closed_months.find(connection, month.period):
                return closed
            if before is not None:
                log.warning("closing taken over", period=month.period)
                await _drop(connection, month.period, before)
            if accept_gap is not None:
                await _accept_gaps(connection, month.start_ms, accept_gap, now_ms=now_ms, actor=actor)
            if missing := await completeness.missing_in_ledger(connection, month):
                raise completeness.incomplete(month, missing)
            heads = await chain.heads(connection)
            values = {
                "period": month.period,
                "state": CLOSING,
                "token": token,
                "start_ms": month.start_ms,
                "end_ms": month.end_ms,
                "timezone": month.timezone,
                "price_list": opened.price_list.version,
                "began_ms": now_ms,
            }
            await connection.execute(insert(months).values(values))
        return Attempt(opened, token, heads, accepts_breaks=accept_gap is not None)

    async def _publish(
        self, attempt: Attempt, made: Made, breaks: list[dict[str, Any]], actor: str
    ) -> ClosedMonth:
        """Write audit row, manifest and `closed` in one transaction."""
        month, now_ms, signer = attempt.opened.month, self._clock(), self._signer()
        async with writing(self._engine) as connection:
            await hold(connection, month.period, attempt.token)
            files = made.files
            detail = {
                "period": month.period,
                "files": hashlib.sha256(canonical(files)).hexdigest(),
                "kid": signer.kid,
                "chain_breaks": breaks,
            }
            await audit.append(
                connection, at_ms=now_ms, actor=actor, action="month.close", tenant=None, detail=detail
            )
            seq, hashed = await audit.head(connection)
            signed = {
                "format": FORMAT,
                "period": month.period,
                "timezone": month.timezone,
                "from_ms": month.start_ms,
                "to_ms": month.end_ms,
                "price_list": attempt.opened.price_list.version,
                "currency": attempt.opened.price_list.currency,
                "closed_ms": now_ms,
                "accepted_gaps": [gap._asdict() for gap in await accepted_since(connection, month.start_ms)],
                "chain_breaks": breaks,
                "files": files,
                "tenants": {"count": len(made.leaves), "root": bundle.root(made.leaves).hex()},
                "chain": [
                    {"partition": partition, "pos": head.pos, "hash": head.hash}
                    for partition, head in attempt.heads.items()
                ],
                "audit": {"seq": seq, "hash": hashed},
            }
            manifest = signer.sign(signed).decode()
            await connection.execute(
                update(months)
                .where(months.c.period == month.period)
                .values(state=CLOSED, closed_ms=now_ms, manifest=manifest)
            )
            closed = await closed_months.find(connection, month.period)
        if closed is None:  # it was written in this very transaction
            raise RuntimeError("a closed month is not there")
        log.info("month closed", period=month.period, tenants=len(made.leaves), token=attempt.token)
        return closed


async def _drop(connection: AsyncConnection, period: str, token: str) -> None:
    """Forget an attempt: its files, its frozen month, and what was late for it."""
    row = months.c
    mine = (row.period == period, row.token == token, row.state == CLOSING)
    dropped = await connection.execute(delete(months).where(*mine))
    if dropped.rowcount:
        await connection.execute(delete(month_parts).where(month_parts.c.token == token))
        await connection.execute(delete(late_facts).where(late_facts.c.period == period))


async def _accept_gaps(
    connection: AsyncConnection, since_ms: int, reason: str, *, now_ms: int, actor: str
) -> None:
    gaps = await gaps_since(connection, since_ms)
    if not gaps:
        return
    await cursors.accept_gaps(connection, since_ms, now_ms=now_ms, reason=reason)
    told = [[gap.partition, gap.epoch, gap.from_seq, gap.to_seq] for gap in gaps[:REASON_MAX]]
    detail = {"reason": reason, "gaps": told, "gaps_count": len(gaps)}
    await audit.append(
        connection, at_ms=now_ms, actor=actor, action="month.accept_gap", tenant=None, detail=detail
    )
