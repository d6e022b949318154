"""Close a month: refuse while something of it is missing, freeze it, make its files, and sign them.

Decides the steps, each of them safe to die after.  First the month is frozen, in one transaction with the look at what
is missing.  Then its files are made and kept, a few tenants at a time, under a token that nobody sees.  At last one
transaction writes audit row, manifest and `closed`; until then the month is open to everybody, and whoever closes it next begins
anew.  A fact that comes in between is known as late, and corrected in the next month unless the files have it already.
"""

import asyncio
import contextlib
import hashlib
import json
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts import audit
from seatd.accounts.facts import tenant_ids
from seatd.accounts.price_lists import listed as price_lists
from seatd.accounts.tokens import random_id
from seatd.billing import bundle, verify_bundle
from seatd.billing.verify_bundle import canonical, leaf
from seatd.database import freezing
from seatd.database.engine import locked, reading, writing
from seatd.database.schema import late_facts, month_parts, months
from seatd.flows import closed_months, completeness
from seatd.flows.closed_months import CLOSED, ClosedMonth
from seatd.flows.corrections import Late
from seatd.flows.month_facts import load
from seatd.flows.month_files import FILES, HEADS, NAMES, PRICES, TENANTS, VERIFY, TenantMonth, own_files
from seatd.flows.months import TENANTS_A_LOT, Months, OpenMonth
from seatd.flows.signing import Signer
from seatd.model import Refusal, invalid
from seatd.telemetry import log
from seatd.usage import chain, cursors
from seatd.usage.chain import Head
from seatd.usage.ledger import accepted_since, gaps_since, links_of

FORMAT: Final = "seatd month 1"
REASON_MAX: Final = 500
_PART_BYTES: Final = 1 << 20
_CLOSING: Final = "closing"


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a seat may go on after what is known of it (see DESIGN: Q, delta, W), in milliseconds."""

    q_ms: int
    delta_ms: int
    w_ms: int


@dataclass(slots=True)
class _Attempt:
    """One attempt to close a month: its token, where the chains ended, and what its files come to by now."""

    opened: OpenMonth
    token: str
    heads: dict[int, Head]
    parts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    sizes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    digests: dict[str, Any] = field(default_factory=lambda: {name: hashlib.sha256() for name in NAMES})
    leaves: list[bytes] = field(default_factory=list)

    def rows(self, name: str, tenant: str, data: bytes) -> Iterator[dict[str, Any]]:
        """Count data as the next of a file, and give the rows that keep it."""
        self.digests[name].update(data)
        self.sizes[name] += len(data)
        for at in range(0, len(data), _PART_BYTES):
            content = zlib.compress(data[at : at + _PART_BYTES])
            self.parts[name] += 1
            row = {"token": self.token, "name": name, "part": self.parts[name]}
            yield row | {"tenant": tenant, "content": content}

    @property
    def files(self) -> dict[str, dict[str, object]]:
        return {name: {"bytes": self.sizes[name], "sha256": self.digests[name].hexdigest()} for name in NAMES}


class Closing:
    """Closes the months of this deployment.

    `recorded` tells whether every usage event that now waits is in the ledger, after waiting a little for it, `waiting` how many
    are not; `signer` gives who signs now.
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
    ) -> None:
        self._engine = months_of.engine
        self._months = months_of
        self._clock = clock
        self._recorded = recorded
        self._waiting = waiting
        self._signer = signer
        self._waits = waits
        self._turn = asyncio.Lock()

    async def close(self, period: str, *, accept_gap: str | None, actor: str) -> tuple[ClosedMonth, bool]:
        """Close a month, and tell whether it was open until now.

        Raises `Refusal`: `invalid_request`, `no_price_list`, `not_over`, `usage_incomplete`, `conflict` where another seatd
        closes it meanwhile.
        """
        if accept_gap is not None and not (0 < len(accept_gap) <= REASON_MAX and accept_gap.isprintable()):
            raise invalid("accept_gap", f"is a reason: 1 to {REASON_MAX} printable characters")
        async with self._turn:
            opened = await self._months.open(period)
            async with reading(self._engine) as connection:
                if closed := await closed_months.find(connection, period):
                    return closed, False
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
            return await self._closed(attempt, actor), True

    async def _closed(self, attempt: _Attempt, actor: str) -> ClosedMonth:
        period = attempt.opened.month.period
        try:
            await self._walk_chains(attempt)
            await self._make_files(attempt)
            return await self._publish(attempt, actor)
        except Exception:
            log.warning("month not closed", period=period)
            with contextlib.suppress(Refusal):
                async with writing(self._engine) as connection:
                    await _drop(connection, period, attempt.token)
            raise

    async def _freeze(self, opened: OpenMonth, accept_gap: str | None, actor: str) -> _Attempt | ClosedMonth:
        """Freeze a month unless something of it is missing, taking it over from whoever began and did not end."""
        month, now_ms = opened.month, self._clock()
        attempt = _Attempt(opened, random_id("c_", 12), {})
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
            attempt.heads = await chain.heads(connection)
            values = {
                "period": month.period,
                "state": _CLOSING,
                "token": attempt.token,
                "start_ms": month.start_ms,
                "end_ms": month.end_ms,
                "timezone": month.timezone,
                "price_list": opened.price_list.version,
                "began_ms": now_ms,
            }
            await connection.execute(insert(months).values(values))
        return attempt

    async def _walk_chains(self, attempt: _Attempt) -> None:
        """Walk each partition's chain from where the latest closed month left it; raises `usage_incomplete`."""
        async with reading(self._engine) as connection:
            closed = await closed_months.listed(connection)
        for partition, head in attempt.heads.items():
            walked = Head()
            for month in closed:
                for known in month.signed["chain"]:
                    if known["partition"] == partition and walked.pos < known["pos"] <= head.pos:
                        walked = Head(known["pos"], known["hash"])
            async with reading(self._engine) as connection:
                broken = await chain.first_broken(connection, partition, walked, head)
            if broken is not None:
                place = {"what": "chain", "partition": partition, "pos": broken}
                raise completeness.incomplete(attempt.opened.month, [place])

    async def _make_files(self, attempt: _Attempt) -> None:
        """Make every file, and keep it in parts."""
        month = attempt.opened.month
        async with reading(self._engine) as connection:
            late = await Late.before(connection, month.period)
            names = iter(await tenant_ids(connection))
            lists = {each.version: each.toml for each in await price_lists(connection)}
        prices = lists[attempt.opened.price_list.version].encode()
        heads = {**HEADS, PRICES: prices, VERIFY: _script()}
        await self._keep(attempt, [row for name in heads for row in attempt.rows(name, "", heads[name])])
        while lot := list(islice(names, TENANTS_A_LOT)):
            async with reading(self._engine) as connection:
                loaded = [
                    (
                        await load(connection, tenant, month),
                        await links_of(connection, tenant, month.start_ms, month.end_ms),
                        await late.corrections_of(connection, tenant),
                    )
                    for tenant in lot
                ]
            await self._keep(attempt, await asyncio.to_thread(_made, attempt, loaded))

    async def _keep(self, attempt: _Attempt, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        async with writing(self._engine) as connection:
            await _hold(connection, attempt)
            await connection.execute(insert(month_parts), rows)

    async def _publish(self, attempt: _Attempt, actor: str) -> ClosedMonth:
        """Write audit row, manifest and `closed` in one transaction."""
        month, now_ms, signer = attempt.opened.month, self._clock(), self._signer()
        async with writing(self._engine) as connection:
            await _hold(connection, attempt)
            files = attempt.files
            detail = {
                "period": month.period,
                "files": hashlib.sha256(canonical(files)).hexdigest(),
                "kid": signer.kid,
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
                "files": files,
                "tenants": {"count": len(attempt.leaves), "root": bundle.root(attempt.leaves).hex()},
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
        log.info("month closed", period=month.period, tenants=len(attempt.leaves), token=attempt.token)
        return closed


def _script() -> bytes:
    return Path(verify_bundle.__file__).read_bytes()


def _made(attempt: _Attempt, loaded: list[Any]) -> list[dict[str, Any]]:
    """Make the parts of some tenants' files; a tenant without a line in any is in none."""
    rows: list[dict[str, Any]] = []
    for facts, links, corrections in loaded:
        month = TenantMonth.of(facts, links, corrections, attempt.opened)
        contents = {each.name: each.made(month) for each in FILES}
        if not any(contents.values()):
            continue
        tenant, files = facts.facts.tenant, own_files(contents)
        attempt.leaves.append(leaf(tenant, json.loads(canonical(files))))
        for name, data in {**contents, TENANTS: canonical({"tenant": tenant, "files": files})}.items():
            rows += attempt.rows(name, tenant, data)
    return rows


async def _hold(connection: AsyncConnection, attempt: _Attempt) -> None:
    """Hold the month to the end of the transaction; raises `Refusal` `conflict` where another attempt has it."""
    period = attempt.opened.month.period
    query = locked(select(months.c.token).where(months.c.period == period, months.c.state == _CLOSING))
    if (await connection.execute(query)).scalar_one_or_none() != attempt.token:
        raise Refusal("conflict", f"{period} is being closed by another seatd.")


async def _drop(connection: AsyncConnection, period: str, token: str) -> None:
    """Forget an attempt: its files, its frozen month, and what was late for it."""
    row = months.c
    mine = (row.period == period, row.token == token, row.state == _CLOSING)
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
