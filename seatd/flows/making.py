"""Walk the chains under a frozen month, make its files and keep them in parts, a few tenants at a time.

What is made belongs to a token; as soon as another attempt has the month, nothing more is kept.  When a month's files are
shown to anybody is `closing`'s, in which process they are made `aside`'s business.
"""

import asyncio
import hashlib
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from seatd.accounts.facts import tenant_ids
from seatd.accounts.price_lists import listed as price_lists
from seatd.billing import verify_bundle
from seatd.billing.verify_bundle import canonical, leaf
from seatd.database.engine import locked, reading, writing
from seatd.database.schema import month_parts, months
from seatd.flows import closed_months, completeness
from seatd.flows.corrections import Late
from seatd.flows.month_facts import load_all
from seatd.flows.month_files import FILES, HEADS, NAMES, PRICES, TENANTS, VERIFY, TenantMonth, own_files
from seatd.flows.months import OpenMonth
from seatd.model import Refusal
from seatd.usage import chain
from seatd.usage.chain import Head
from seatd.usage.ledger import links_of
from seatd.usage.rest import Rest, never, timed

CLOSING: Final = "closing"
TENANTS_A_LOT: Final = 8
"""So few that a database which shares a core with the seats is never long at a question."""
_PART_BYTES: Final = 1 << 20
_COMPRESSION: Final = 1
"""At its default level zlib took a quarter of the time in which a month's files are made."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to close a month: its token, where the chains ended when it was frozen, whether breaks in them are accepted."""

    opened: OpenMonth
    token: str
    heads: dict[int, Head]
    accepts_breaks: bool


@dataclass(frozen=True, slots=True)
class Made:
    """What was made: size and digest of each file, the leaf of each tenant, in order; and the breaks in chains, all accepted."""

    files: dict[str, dict[str, object]]
    leaves: list[bytes]
    breaks: list[dict[str, Any]]


@dataclass(slots=True)
class _Files:
    """The files of a month by now: parts, sizes, digests."""

    opened: OpenMonth
    token: str
    parts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    sizes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    digests: dict[str, Any] = field(default_factory=lambda: {name: hashlib.sha256() for name in NAMES})
    leaves: list[bytes] = field(default_factory=list)

    def rows(self, name: str, tenant: str, data: bytes) -> Iterator[dict[str, Any]]:
        """Count data as the next of a file, and give the rows that keep it."""
        self.digests[name].update(data)
        self.sizes[name] += len(data)
        for at in range(0, len(data), _PART_BYTES):
            content = zlib.compress(data[at : at + _PART_BYTES], _COMPRESSION)
            self.parts[name] += 1
            row = {"token": self.token, "name": name, "part": self.parts[name]}
            yield row | {"tenant": tenant, "content": content}

    def made(self, breaks: list[dict[str, Any]]) -> Made:
        """Tell what was made until now."""
        files: dict[str, dict[str, object]] = {
            name: {"bytes": self.sizes[name], "sha256": self.digests[name].hexdigest()} for name in NAMES
        }
        return Made(files, self.leaves, breaks)


async def make_files(engine: AsyncEngine, attempt: Attempt, *, rest: Rest = never) -> Made:
    """Make every file of a frozen month, and keep it; `rest` tells how long to do nothing after some rows or tenants.

    Raises `Refusal`: `usage_incomplete` where a chain is broken and that is not accepted, `conflict` where another attempt
    has the month.
    """
    opened = attempt.opened
    month, files = opened.month, _Files(opened, attempt.token)
    breaks = await _breaks(engine, attempt.heads, rest)
    if breaks and not attempt.accepts_breaks:
        raise completeness.incomplete(month, breaks)
    async with reading(engine) as connection:
        late = await Late.before(connection, month.period)
        names = iter(await tenant_ids(connection))
        lists = {each.version: each.toml for each in await price_lists(connection)}
    heads = {**HEADS, PRICES: lists[opened.price_list.version].encode(), VERIFY: _script()}
    await _keep(engine, files, [row for name in heads for row in files.rows(name, "", heads[name])])
    rest_s = 0.0
    while lot := list(islice(names, TENANTS_A_LOT)):
        await asyncio.sleep(rest_s)
        began_s = time.monotonic()
        async with reading(engine) as connection:
            links = await links_of(connection, lot, month.start_ms, month.end_ms)
            loaded = [
                (
                    facts,
                    tuple(links[facts.facts.tenant]),
                    await late.corrections_of(connection, facts.facts.tenant),
                )
                for facts in await load_all(connection, lot, month)
            ]
        rows, waited = await asyncio.to_thread(timed, partial(_made, files, loaded))
        await _keep(engine, files, rows)
        rest_s = rest(time.monotonic() - began_s, waited)
    return files.made(breaks)


async def _breaks(engine: AsyncEngine, heads: dict[int, Head], rest: Rest) -> list[dict[str, Any]]:
    """Walk each partition's chain from where the latest closed month left it; give where one does not hold."""
    async with reading(engine) as connection:
        closed = await closed_months.listed(connection)
    found: list[dict[str, Any]] = []
    for partition, head in heads.items():
        walked = Head()
        for month in closed:
            for known in month.signed["chain"]:
                if known["partition"] == partition and walked.pos < known["pos"] <= head.pos:
                    walked = Head(known["pos"], known["hash"])
        async with reading(engine) as connection:
            broken = await chain.first_broken(connection, partition, walked, head, rest)
        if broken is not None:
            found.append({"what": "chain", "partition": partition, "pos": broken})
    return found


def _script() -> bytes:
    return Path(verify_bundle.__file__).read_bytes()


def _made(month_files: _Files, loaded: list[Any]) -> list[dict[str, Any]]:
    """Make the parts of some tenants' files; a tenant without a line in any is in none."""
    rows: list[dict[str, Any]] = []
    for facts, links, corrections in loaded:
        month = TenantMonth.of(facts, links, corrections, month_files.opened)
        contents = {each.name: each.made(month) for each in FILES}
        if not any(contents.values()):
            continue
        tenant, files = facts.facts.tenant, own_files(contents)
        month_files.leaves.append(leaf(tenant, files))
        for name, data in {**contents, TENANTS: canonical({"tenant": tenant, "files": files})}.items():
            rows += month_files.rows(name, tenant, data)
    return rows


async def _keep(engine: AsyncEngine, files: _Files, rows: list[dict[str, Any]]) -> None:
    if rows:
        async with writing(engine) as connection:
            if connection.dialect.name == "postgresql":
                # Whoever says later that the month is closed waits for the disk, and with that for all of these.
                await connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            await hold(connection, files.opened.month.period, files.token)
            await connection.execute(insert(month_parts), rows)


async def hold(connection: AsyncConnection, period: str, token: str) -> None:
    """Hold a month to the end of the transaction; raises `Refusal` `conflict` where another attempt has it."""
    query = locked(select(months.c.token).where(months.c.period == period, months.c.state == CLOSING))
    if (await connection.execute(query)).scalar_one_or_none() != token:
        raise Refusal("conflict", f"{period} is being closed by another seatd.")
