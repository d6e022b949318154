"""Statements, rows and errors through the driver, as SQLAlchemy hands them on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.database.engine import make_engine, reading, writing
from seatd.database.sqlite_driver import CHUNK, Connection

COUNTS = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 7)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    made = make_engine(f"sqlite:///{tmp_path / 'a.db'}")
    async with writing(made) as connection:
        await connection.exec_driver_sql("CREATE TABLE t (n INTEGER PRIMARY KEY, name TEXT)")
        rows = [(number, f"n{number}") for number in range(max(COUNTS))]
        await connection.exec_driver_sql("INSERT INTO t VALUES (?, ?)", rows)
    yield made
    await made.dispose()


@pytest.mark.parametrize("count", COUNTS)
async def test_rows_come_whole_and_in_order(engine: AsyncEngine, count: int) -> None:
    query, wanted = text("SELECT n, name FROM t ORDER BY n LIMIT :count"), {"count": count}
    expected = [(number, f"n{number}") for number in range(count)]
    async with reading(engine) as connection:
        assert (await connection.execute(query, wanted)).all() == expected
        async with connection.stream(query, wanted) as rows:
            assert [row async for row in rows] == expected
        async with connection.stream(query, wanted) as rows:
            assert await rows.fetchmany(3) == expected[:3]
            left = await rows.fetchmany(CHUNK)
        assert left == expected[3 : 3 + CHUNK]
        assert (await connection.execute(query, wanted)).first() == (expected[0] if expected else None)


async def test_what_was_changed_is_counted_and_given(engine: AsyncEngine) -> None:
    async with writing(engine) as connection:
        changed = await connection.execute(text("UPDATE t SET name = 'x' WHERE n < 5"))
        assert changed.rowcount == 5
        given = await connection.execute(text("DELETE FROM t WHERE n < 3 RETURNING n"))
        assert sorted(given.scalars()) == [0, 1, 2]
    async with reading(engine) as connection:
        assert (await connection.execute(text("SELECT count(*) FROM t"))).scalar() == max(COUNTS) - 3


async def test_what_fails_changes_nothing_and_the_connection_goes_on(engine: AsyncEngine) -> None:
    twice = [(max(COUNTS), "new"), (0, "there already")]
    with pytest.raises(IntegrityError):
        async with writing(engine) as connection:
            await connection.exec_driver_sql("INSERT INTO t VALUES (?, ?)", twice)
    async with writing(engine) as connection:
        await connection.execute(text("DELETE FROM t"))
        with pytest.raises(OperationalError):
            await connection.execute(text("SELECT nothing FROM nowhere"))
        await connection.rollback()
    async with reading(engine) as connection:
        assert (await connection.execute(text("SELECT count(*) FROM t"))).scalar() == max(COUNTS)


async def test_a_cancelled_reader_leaves_the_connection_usable(engine: AsyncEngine) -> None:
    async def read() -> None:
        async with reading(engine) as connection, connection.stream(text("SELECT n FROM t")) as rows:
            async for _ in rows:
                await asyncio.sleep(0)

    reader = asyncio.create_task(read())
    await asyncio.sleep(0.01)
    reader.cancel()
    await asyncio.wait([reader])
    async with writing(engine) as connection:
        await connection.execute(text("DELETE FROM t"))


async def test_a_rollback_of_nothing_is_no_step(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[Any] = []
    step = Connection._execute

    async def counted(self: Connection, doing: Any, *arguments: Any) -> Any:
        steps.append(doing)
        return await step(self, doing, *arguments)

    monkeypatch.setattr(Connection, "_execute", counted)
    async with writing(engine) as connection:
        assert (await connection.execute(text("SELECT n FROM t LIMIT 2"))).scalars().all() == [0, 1]
    assert len(steps) == 3, "begin, the statement with its rows, commit"
