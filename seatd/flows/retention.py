"""Archive a closed month: its leases leave the database for Parquet files that stay verifiable.

Decides the steps, each of them safe to die after.  First files are made in a folder that nobody looks at, verified as anybody
would, and put in their place.  Then one transaction writes that the month is archived, where the chains were cut, and the digest
of the manifest into the audit log; from then on nothing more can be known of the month.  At last the rows are taken away, some at
a time, so that nobody waits long; whoever archives the month again goes on with that.  Months are archived in order.
"""

import asyncio
import contextlib
import hashlib
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from seatd.accounts import audit
from seatd.billing.archive import CHAIN, FORMAT, LEASES, MANIFEST, RowsFile, durable, verify_archive
from seatd.billing.parquet import NoParquetError
from seatd.database import freezing
from seatd.database.engine import reading, writing
from seatd.database.schema import months
from seatd.flows import closed_months
from seatd.flows.closed_months import ClosedMonth
from seatd.flows.signing import Signer
from seatd.model import Refusal
from seatd.telemetry import log
from seatd.usage import leaving
from seatd.usage.leaving import Cut

FOLDER: Final = "archive"
EVERY_S: Final = 3_600.0
ACTOR: Final = "seatd"


@dataclass(frozen=True, slots=True)
class Archived:
    """An archived month: where its files are, what its manifest says, and whether that was new."""

    period: str
    folder: Path
    signed: dict[str, Any]
    created: bool


@dataclass(frozen=True, slots=True)
class _Leaving:
    """What leaves with a month: leases that begin at `from_ms` or later, and these parts of the chains."""

    month: ClosedMonth
    from_ms: int
    cuts: list[Cut]


class Archiving:
    """Archives the closed months of this deployment under `folder`; `signer` gives who signs now."""

    def __init__(
        self, engine: AsyncEngine, folder: Path, *, clock: Callable[[], int], signer: Callable[[], Signer]
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._clock = clock
        self._signer = signer
        self._turn = asyncio.Lock()

    async def archive(self, period: str, *, actor: str) -> Archived:
        """Archive a month; again: go on where that broke off.

        Raises `Refusal` `conflict`: not closed, an earlier closed month is not archived, Parquet cannot be written here, the
        files cannot be written, or its leases changed meanwhile.
        """
        async with self._turn:
            async with reading(self._engine) as connection:
                month, from_ms = await _found(connection, period)
            created = from_ms is None
            await self._take_away_all()  # what an earlier month left behind would leave once more
            try:
                if created:
                    signed = await self._create(month, actor)
                else:
                    signed = await asyncio.to_thread(_verified, self._folder / period)
            except OSError as error:
                raise Refusal(
                    "conflict", f"{period} cannot be archived: {error.strerror or error}."
                ) from None
            except NoParquetError as error:
                raise Refusal("conflict", str(error)) from None
            await self._take_away_all()
        return Archived(period, self._folder / period, signed, created)

    async def _create(self, month: ClosedMonth, actor: str) -> dict[str, Any]:
        """Archive a month but for taking its rows away; gives what its manifest says."""
        beside = self._folder / f".{month.period}.part"
        await asyncio.to_thread(_emptied, beside)
        try:
            async with reading(self._engine) as connection:
                leaves = await _leaving(connection, month)
                made = await self._made(connection, leaves, beside)
            await asyncio.to_thread(_verified, beside)
            await asyncio.to_thread(_put, beside, self._folder / month.period)
        finally:
            await asyncio.to_thread(shutil.rmtree, beside, ignore_errors=True)
        async with writing(self._engine) as connection:
            await self._note(connection, leaves, made, actor)
        log.info("month archived", period=month.period, leases=made["files"][LEASES]["rows"])
        return made

    async def _made(self, connection: AsyncConnection, leaves: _Leaving, folder: Path) -> dict[str, Any]:
        """Make the files of an archive; gives what its manifest says."""
        month = leaves.month
        of_leases, of_chain = (
            RowsFile(folder, LEASES, leaving.LEASE_COLUMNS),
            RowsFile(folder, CHAIN, leaving.LINK_COLUMNS),
        )
        last: dict[int, str] = {}
        with contextlib.closing(of_leases), contextlib.closing(of_chain):
            async for page in leaving.leases(connection, leaves.from_ms, month.end_ms):
                await asyncio.to_thread(of_leases.add, page)
            for cut in leaves.cuts:
                async for page in leaving.links(connection, cut):
                    await asyncio.to_thread(of_chain.add, page)
                    last[cut.partition] = page[-1].hash
            files = {
                each: await asyncio.to_thread(rows.finish)
                for each, rows in ((LEASES, of_leases), (CHAIN, of_chain))
            }
        signed = {
            "format": FORMAT,
            "period": month.period,
            "from_ms": leaves.from_ms,
            "to_ms": month.end_ms,
            "archived_ms": self._clock(),
            "month": hashlib.sha256(month.manifest.encode()).hexdigest(),
            "files": files,
            "chain": [
                {
                    "partition": cut.partition,
                    "from_pos": cut.first,
                    "to_pos": cut.pos - 1,
                    "prev": cut.prev,
                    "hash": last[cut.partition],
                }
                for cut in leaves.cuts
            ],
        }
        await asyncio.to_thread((folder / MANIFEST).write_bytes, self._signer().sign(signed))
        return signed

    async def _note(
        self, connection: AsyncConnection, leaves: _Leaving, signed: dict[str, Any], actor: str
    ) -> None:
        """Write that a month is archived; raises `Refusal` `conflict` where what leaves is not what was written."""
        period, now_ms = leaves.month.period, self._clock()
        await freezing.alone(connection)
        _, archived = await _found(connection, period)
        if archived is not None:
            raise Refusal("conflict", f"{period} is being archived by another seatd.")
        # What leaves can only become less since it was written: by what is told late.
        rows = await leaving.count(connection, leaves.from_ms, leaves.month.end_ms)
        if rows != signed["files"][LEASES]["rows"]:
            raise Refusal("conflict", f"What is known of {period} has changed meanwhile: archive it again.")
        for cut, part in zip(leaves.cuts, signed["chain"], strict=True):
            await leaving.note_cut(connection, cut, part["hash"])
        await connection.execute(
            update(months)
            .where(months.c.period == period)
            .values(archived_ms=now_ms, archived_from_ms=leaves.from_ms)
        )
        raw = await asyncio.to_thread((self._folder / period / MANIFEST).read_bytes)
        detail = {"period": period, "manifest": hashlib.sha256(raw).hexdigest(), "leases": rows}
        await audit.append(
            connection, at_ms=now_ms, actor=actor, action="month.archive", tenant=None, detail=detail
        )

    async def _take_away_all(self) -> None:
        """Take away whatever is archived and still there."""
        async with reading(self._engine) as connection:
            archived = await _archived(connection)
            ends_ms = {each.period: each.end_ms for each in await closed_months.listed(connection)}
        for period, from_ms in archived.items():
            await self._take_away(partial(leaving.take_leases, from_ms=from_ms, end_ms=ends_ms[period]))
        await self._take_away(leaving.take_links)

    async def _take_away(self, some: Callable[..., Awaitable[int]]) -> None:
        """Take some away, a transaction each, until there are none."""
        gone = 1
        while gone:
            async with writing(self._engine) as connection:
                gone = await some(connection)

    async def archive_for_ever(self, keep_months: int) -> None:
        """Look every hour, until cancelled, whether a month is older than is kept; with 0 everything is kept."""
        while True:
            if keep_months:
                try:
                    for period in await self._due(keep_months):
                        await self.archive(period, actor=ACTOR)
                except Refusal as refusal:
                    log.warning("month not archived", code=refusal.code, detail=refusal.detail)
            await asyncio.sleep(EVERY_S)

    async def _due(self, keep_months: int) -> list[str]:
        """Name the closed months after which so many whole months are over, and that are not archived yet, in order."""
        now = datetime.fromtimestamp(self._clock() / 1000, UTC)
        number = now.year * 12 + now.month - 1 - keep_months - 1
        newest = f"{number // 12:04}-{number % 12 + 1:02}"
        async with reading(self._engine) as connection:
            closed = await closed_months.listed(connection)
            archived = await _archived(connection)
        return [each.period for each in closed if each.period <= newest and each.period not in archived]


async def _archived(connection: AsyncConnection) -> dict[str, int]:
    """Give the archived months, and from when on their leases left."""
    row = months.c
    query = select(row.period, row.archived_from_ms).where(row.archived_ms.is_not(None))
    rows = await connection.execute(query)
    return {period: from_ms for period, from_ms in rows.all()}  # noqa: C416 - rows are not pairs to the type checker


async def _found(connection: AsyncConnection, period: str) -> tuple[ClosedMonth, int | None]:
    """Find a closed month, all of whose predecessors are archived, and from when on its leases left, if they did."""
    closed = await closed_months.listed(connection)
    month = next((each for each in closed if each.period == period), None)
    if month is None:
        raise Refusal("conflict", f"{period} is not closed: only a closed month can be archived.")
    archived = await _archived(connection)
    before = [each.period for each in closed if each.period < period and each.period not in archived]
    if before and period not in archived:
        raise Refusal(
            "conflict", f"Months are archived in order: {before[0]} is to be archived before {period}."
        )
    return month, archived.get(period)


async def _leaving(connection: AsyncConnection, month: ClosedMonth) -> _Leaving:
    """Tell what leaves with a month: whatever lies in it, and in no month before it that was not closed."""
    from_ms = month.start_ms
    for each in reversed(await closed_months.listed(connection)):
        if each.end_ms == from_ms:
            from_ms = each.start_ms
    heads = {head["partition"]: head["pos"] for head in month.signed["chain"]}
    return _Leaving(month, from_ms, await leaving.cuts(connection, heads, from_ms, month.end_ms))


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700)


def _verified(folder: Path) -> dict[str, Any]:
    found, signed = verify_archive(folder)
    if found:
        raise Refusal("conflict", f"The archive {folder} does not hold: {found[0]}.")
    return signed


def _put(beside: Path, folder: Path) -> None:
    """Put an archive in its place, durably, before anybody relies on it."""
    durable(beside / MANIFEST)
    durable(beside)
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was never noted
    beside.rename(folder)
    durable(folder.parent)
