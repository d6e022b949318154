"""Make the files of a frozen month and keep them in parts, here or in a process of its own.

Decides that a large month does not slow the seats: `made_aside` runs this module as another process, at a lower priority, which dies with
its parent.  What is made belongs to a token; as soon as another attempt has the month, nothing more is kept.  Whether a
month may be closed, and when its files are shown to anybody, is `closing`'s.
"""

import asyncio
import hashlib
import json
import os
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from seatd.accounts.facts import tenant_ids
from seatd.accounts.price_lists import listed as price_lists
from seatd.billing import verify_bundle
from seatd.billing.months import Month
from seatd.billing.verify_bundle import canonical, leaf
from seatd.database.engine import locked, make_engine, reading, writing
from seatd.database.schema import month_parts, months
from seatd.flows.corrections import Late
from seatd.flows.month_facts import load_all
from seatd.flows.month_files import FILES, HEADS, NAMES, PRICES, TENANTS, VERIFY, TenantMonth, own_files
from seatd.flows.months import TENANTS_A_LOT, OpenMonth
from seatd.flows.price_lists import read
from seatd.model import Refusal
from seatd.usage.ledger import links_of

CLOSING: Final = "closing"
_PART_BYTES: Final = 1 << 20
_NICE: Final = 15


@dataclass(frozen=True, slots=True)
class Made:
    """What was made: size and digest of each file, and the leaf of each tenant, in order."""

    files: dict[str, dict[str, object]]
    leaves: list[bytes]


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
            content = zlib.compress(data[at : at + _PART_BYTES])
            self.parts[name] += 1
            row = {"token": self.token, "name": name, "part": self.parts[name]}
            yield row | {"tenant": tenant, "content": content}

    @property
    def made(self) -> Made:
        files: dict[str, dict[str, object]] = {
            name: {"bytes": self.sizes[name], "sha256": self.digests[name].hexdigest()} for name in NAMES
        }
        return Made(files, self.leaves)


async def make_files(engine: AsyncEngine, opened: OpenMonth, token: str) -> Made:
    """Make every file of a frozen month, and keep it; raises `Refusal` `conflict` where another attempt has the month."""
    month, files = opened.month, _Files(opened, token)
    async with reading(engine) as connection:
        late = await Late.before(connection, month.period)
        names = iter(await tenant_ids(connection))
        lists = {each.version: each.toml for each in await price_lists(connection)}
    heads = {**HEADS, PRICES: lists[opened.price_list.version].encode(), VERIFY: _script()}
    await _keep(engine, files, [row for name in heads for row in files.rows(name, "", heads[name])])
    while lot := list(islice(names, TENANTS_A_LOT)):
        async with reading(engine) as connection:
            loaded = [
                (
                    facts,
                    await links_of(connection, facts.facts.tenant, month.start_ms, month.end_ms),
                    await late.corrections_of(connection, facts.facts.tenant),
                )
                for facts in await load_all(connection, lot, month)
            ]
        await _keep(engine, files, await asyncio.to_thread(_made, files, loaded))
    return files.made


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
            await hold(connection, files.opened.month.period, files.token)
            await connection.execute(insert(month_parts), rows)


async def hold(connection: AsyncConnection, period: str, token: str) -> None:
    """Hold a month to the end of the transaction; raises `Refusal` `conflict` where another attempt has it."""
    query = locked(select(months.c.token).where(months.c.period == period, months.c.state == CLOSING))
    if (await connection.execute(query)).scalar_one_or_none() != token:
        raise Refusal("conflict", f"{period} is being closed by another seatd.")


# --- as a process --------------------------------------------------------------------------------------------


async def made_aside(engine: AsyncEngine, opened: OpenMonth, token: str) -> Made:
    """Do what `make_files` does in another process; raises what it raises."""
    asked = {
        "url": engine.url.render_as_string(hide_password=False),
        "period": opened.month.period,
        "timezone": opened.month.timezone,
        "price_list": opened.price_list.version,
        "until_ms": opened.until_ms,
        "token": token,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )
    try:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process without the pipes that it was given")
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        answer = await process.stdout.readline()
    finally:
        if process.returncode is None:
            process.kill()  # it has answered, or nobody waits for its answer
        await process.wait()
    if not answer:
        raise RuntimeError("the process that makes a month's files died")
    told = json.loads(answer)
    if "code" in told:
        raise Refusal(told["code"], told["detail"], **told["fields"])
    return Made(told["files"], [bytes.fromhex(each) for each in told["leaves"]])


async def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    engine = make_engine(asked["url"], pool_size=2)
    try:
        async with reading(engine) as connection:
            lists = {each.version: each.toml for each in await price_lists(connection)}
        month = Month.parse(asked["period"], asked["timezone"])
        opened = OpenMonth(month, read(lists[asked["price_list"]]), asked["until_ms"])
        made = await make_files(engine, opened, asked["token"])
    except Refusal as refusal:
        return {"code": refusal.code, "detail": refusal.detail, "fields": refusal.fields}
    finally:
        await engine.dispose()
    return {"files": made.files, "leaves": [each.hex() for each in made.leaves]}


def _die_with_parent() -> None:
    sys.stdin.read()  # its end: the parent is gone, or has what it wanted
    os._exit(1)


def main() -> None:
    """Make what one line on standard input asks for, and answer with one line."""
    os.nice(_NICE)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    answers.write(json.dumps(asyncio.run(_answer(asked))) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
