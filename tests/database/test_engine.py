"""The engine: transactions are real, and a database that is away answers as a refusal, soon."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import Executable, Text, column, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.database import engine as engine_module
from seatd.database.engine import locked, make_engine, normalise, reading, write_at_once, writing
from seatd.database.schema import partitions
from seatd.database.sqlite_driver import Statement
from seatd.model import Refusal
from tests.postgres import PostgresServer


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    made = make_engine(database_url)
    yield made
    await made.dispose()


async def put(engine: AsyncEngine, partition: int, epoch: int = 0) -> None:
    async with writing(engine) as connection:
        await connection.execute(partitions.insert().values(partition=partition, epoch=epoch, opened_ms=0))


async def epochs(engine: AsyncEngine) -> list[int]:
    async with reading(engine) as connection:
        return list((await connection.execute(select(partitions.c.epoch).order_by("partition"))).scalars())


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("sqlite:////tmp/x.db", "sqlite+aiosqlite"),
        ("sqlite+pysqlite:////tmp/x.db", "sqlite+aiosqlite"),
        ("postgresql://u:p@h:1/d", "postgresql+asyncpg"),
        ("postgres://u@h/d", "postgresql+asyncpg"),
        ("postgresql+psycopg://u@/d?host=/run/pg", "postgresql+asyncpg"),
    ],
)
def test_urls_get_the_asynchronous_driver(given: str, driver: str) -> None:
    assert normalise(given).drivername == driver


@pytest.mark.parametrize("given", ["mysql://u:geheim@h/d", "sqlite://", "sqlite:///:memory:"])
def test_other_databases_are_refused_without_telling_the_password(given: str) -> None:
    with pytest.raises(ValueError, match="sqlite") as refused:
        normalise(given)
    assert "geheim" not in str(refused.value)


class GivenUpError(Exception):
    """What a writer raises in the middle of its transaction."""


async def give_up_after(engine: AsyncEngine, *statements: Executable) -> None:
    async with writing(engine) as connection:
        for statement in statements:
            await connection.execute(statement)
        raise GivenUpError


async def test_what_fails_is_undone(engine: AsyncEngine) -> None:
    with pytest.raises(GivenUpError):
        await give_up_after(engine, partitions.insert().values(partition=1, epoch=1, opened_ms=0))
    assert await epochs(engine) == []


async def test_schema_changes_are_undone_too(engine: AsyncEngine) -> None:
    with pytest.raises(GivenUpError):
        await give_up_after(engine, text("DROP TABLE partitions"))
    assert await epochs(engine) == []


async def test_a_reader_sees_one_instant(engine: AsyncEngine) -> None:
    await put(engine, 1)
    async with reading(engine) as connection:
        count = select(text("count(*)")).select_from(partitions)
        before = (await connection.execute(count)).scalar_one()
        await put(engine, 2)
        assert (await connection.execute(count)).scalar_one() == before == 1
    assert len(await epochs(engine)) == 2


async def test_a_reader_writes_nothing(engine: AsyncEngine) -> None:
    async with reading(engine) as connection:
        await connection.execute(partitions.insert().values(partition=1, epoch=1, opened_ms=0))
    assert await epochs(engine) == []


PUT = "INSERT INTO partitions (partition, epoch, opened_ms) VALUES (?, ?, ?)"
EPOCHS = Statement("SELECT partition, epoch FROM partitions ORDER BY partition")


async def test_what_is_written_at_once_stands_and_is_given(engine: AsyncEngine) -> None:
    several = Statement(PUT, [(1, 7, 0), (2, 8, 0)])
    assert await write_at_once(engine, [several, Statement(PUT, []), EPOCHS]) == [(1, 7), (2, 8)]
    assert await epochs(engine) == [7, 8]


async def test_what_is_written_at_once_is_whole_or_not_at_all(engine: AsyncEngine) -> None:
    with pytest.raises(Exception, match=r"(?i)unique"):
        await write_at_once(
            engine, [Statement(PUT, [(1, 7, 0)]), Statement(PUT, [(2, 8, 0), (1, 9, 0)]), EPOCHS]
        )
    assert await epochs(engine) == []
    await put(engine, 3, 5)  # nothing is held
    assert await epochs(engine) == [5]


async def test_what_is_written_at_once_is_refused_as_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "LOCK_TIMEOUT_MS", 50)
    url = f"sqlite:///{tmp_path / 'a.db'}"
    first, second = make_engine(url), make_engine(url)
    async with writing(first):
        with pytest.raises(Refusal) as refused:
            await write_at_once(second, [EPOCHS])
    assert refused.value.code == "busy"
    for engine in (first, second):
        await engine.dispose()


async def test_two_engines_count_without_losing_one(database_url: str) -> None:
    """Read, wait, write: lost updates show where the row is not held from the reading on."""
    engines = [make_engine(database_url), make_engine(database_url)]
    await put(engines[0], 1)

    async def count_up(engine: AsyncEngine) -> None:
        for _ in range(10):
            async with writing(engine) as connection:
                epoch = (await connection.execute(locked(select(partitions.c.epoch)))).scalar_one()
                await asyncio.sleep(0)
                await connection.execute(partitions.update().values(epoch=epoch + 1))

    await asyncio.gather(*(count_up(engine) for engine in engines for _ in range(3)))
    assert await epochs(engines[0]) == [60]
    for engine in engines:
        await engine.dispose()


async def test_a_cancelled_writer_leaves_no_lock(engine: AsyncEngine) -> None:
    entered = asyncio.Event()

    async def write_for_ever() -> None:
        async with writing(engine) as connection:
            await connection.execute(partitions.insert().values(partition=1, epoch=1, opened_ms=0))
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(write_for_ever())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(put(engine, 2, epoch=7), 2)
    assert await epochs(engine) == [7]


async def test_sqlite_is_durable_and_minds_foreign_keys(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/x.db")
    async with reading(engine) as connection:
        found = [
            (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    await engine.dispose()
    assert found == ["wal", 2, 1, 5000]


async def test_a_sqlite_held_by_others_says_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "LOCK_TIMEOUT_MS", 100)
    url = f"sqlite:///{tmp_path}/x.db"
    first, second = make_engine(url), make_engine(url)
    async with writing(first):
        with pytest.raises(Refusal) as refused:
            async with writing(second):
                pass
    assert refused.value.code == "busy"
    assert refused.value.fields["retry_after_ms"] > 0
    await first.dispose()
    await second.dispose()


async def refused_in_s(engine: AsyncEngine) -> tuple[str, float]:
    """What reading and writing are refused with, and the longer time that it took."""
    codes, longest = set(), 0.0
    for begin in (reading, writing):
        began = time.monotonic()
        with pytest.raises(Refusal) as refused:
            async with begin(engine) as connection:
                await connection.execute(select(column("1", Text)))
        codes.add(refused.value.code)
        longest = max(longest, time.monotonic() - began)
    (code,) = codes
    return code, longest


async def test_a_missing_folder_is_a_database_away(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/none/x.db")
    assert (await refused_in_s(engine))[0] == "database_unavailable"
    await engine.dispose()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_stopped_postgres_refuses_at_once_and_serves_again(
    new_postgres: Callable[[], PostgresServer], how: str
) -> None:
    server = new_postgres()
    engine = make_engine(server.migrated_database())
    await put(engine, 1)
    getattr(server, how)()
    code, took_s = await refused_in_s(engine)
    assert code == "database_unavailable"
    assert took_s < 1
    server.start()
    await put(engine, 2)
    assert len(await epochs(engine)) == 2
    await engine.dispose()


async def test_a_session_cut_in_the_middle_is_a_database_away(
    new_postgres: Callable[[], PostgresServer],
) -> None:
    server = new_postgres()
    engine = make_engine(server.migrated_database())

    async def write_through_a_crash() -> None:
        async with writing(engine) as connection:
            await connection.execute(partitions.insert().values(partition=1, epoch=1, opened_ms=0))
            server.kill()
            await connection.execute(select(partitions))

    with pytest.raises(Refusal) as refused:
        await write_through_a_crash()
    assert refused.value.code == "database_unavailable"
    server.start()
    assert await epochs(engine) == []
    await engine.dispose()


async def test_a_frozen_postgres_refuses_within_its_timeouts(
    new_postgres: Callable[[], PostgresServer],
) -> None:
    server = new_postgres()
    engine = make_engine(server.migrated_database(), command_timeout_s=1)
    await put(engine, 1)
    server.pause()
    code, took_s = await refused_in_s(engine)
    assert code == "database_unavailable"
    assert took_s < 10
    server.resume()
    await put(engine, 2)
    await engine.dispose()


async def test_a_pool_that_is_all_out_says_so(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "CONNECT_TIMEOUT_S", 0.1)
    engine = make_engine(database_url, pool_size=1)
    async with reading(engine):
        assert (await refused_in_s(engine))[0] == "database_unavailable"
    await engine.dispose()
