"""Migrations: what they make equals the schema, on both databases; several may start at once."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text

from seatd.database import migrations
from seatd.database.engine import make_engine, reading, writing
from seatd.database.schema import metadata
from seatd.model import Refusal
from seatd.usage import chain
from seatd.usage.ledger import links_of


def described(connection: Connection) -> dict[str, object]:
    """All that a database knows of its tables: columns, types, keys, indexes, by name."""
    inspector = inspect(connection)
    return {
        name: [
            [{**column, "type": repr(column["type"])} for column in inspector.get_columns(name)],
            inspector.get_pk_constraint(name),
            sorted(map(repr, inspector.get_foreign_keys(name))),
            sorted(map(repr, inspector.get_unique_constraints(name))),
            sorted(map(_index, inspector.get_indexes(name))),
        ]
        for name in sorted(inspector.get_table_names())
        if name != "alembic_version"
    }


def _index(index: Any) -> str:
    options = {option: str(value) for option, value in index.pop("dialect_options", {}).items()}
    return repr((index, options))


async def test_migrations_make_what_the_schema_says(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    async with writing(engine) as connection:
        await connection.run_sync(metadata.create_all)
    async with reading(engine) as connection:
        wanted = await connection.run_sync(described)
    async with writing(engine) as connection:
        await connection.run_sync(metadata.drop_all)
    assert await migrations.current(empty_database_url) is None

    assert await migrations.upgrade(empty_database_url) == migrations.newest()

    async with reading(engine) as connection:
        assert await connection.run_sync(described) == wanted
    assert await migrations.check(empty_database_url) == []
    assert await migrations.current(empty_database_url) == migrations.newest()
    await engine.dispose()


async def test_ids_sort_by_code_point_on_both(empty_database_url: str) -> None:
    await migrations.upgrade(empty_database_url)
    engine = make_engine(empty_database_url)
    async with writing(engine) as connection:
        for number, name in enumerate(["b", "B", "a", "_", "-", "a.b"]):
            values = f"('{name}', '2026-01-0{number + 1}', '', '', 0)"
            await connection.execute(
                text(f"INSERT INTO price_lists (version, valid_from, toml, digest, added_ms) VALUES {values}")
            )
        rows = await connection.execute(text("SELECT version FROM price_lists ORDER BY version"))
        assert list(rows.scalars()) == ["-", "B", "_", "a", "a.b", "b"]
    await engine.dispose()


async def test_check_tells_a_difference(database_url: str) -> None:
    engine = make_engine(database_url)
    async with writing(engine) as connection:
        await connection.execute(text("DROP INDEX ix_meters_tenant_at_ms"))
        await connection.execute(text("ALTER TABLE people ADD COLUMN surname TEXT"))
    await engine.dispose()
    told = " ".join(await migrations.check(database_url))
    assert "ix_meters_tenant_at_ms" in told
    assert "surname" in told


async def test_upgrading_again_changes_nothing(database_url: str) -> None:
    assert await migrations.upgrade(database_url) == await migrations.current(database_url)


async def test_a_newer_database_is_refused(database_url: str) -> None:
    engine = make_engine(database_url)
    async with writing(engine) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(CommandError):
        await migrations.upgrade(database_url)


async def test_a_failed_migration_leaves_nothing(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    async with writing(engine) as connection:
        await connection.execute(text("CREATE TABLE price_lists (x INTEGER)"))
    with pytest.raises(Exception, match="already exists"):
        await migrations.upgrade(empty_database_url)
    async with reading(engine) as connection:
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    await engine.dispose()
    assert names == ["price_lists"]


async def test_processes_that_start_at_once_migrate_once(empty_database_url: str) -> None:
    program = "import asyncio, sys; from seatd.database.migrations import upgrade; asyncio.run(upgrade(sys.argv[1]))"
    started = [
        subprocess.Popen([sys.executable, "-c", program, empty_database_url], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in started:
        _, said = await asyncio.to_thread(process.communicate, None, 60)
        assert process.returncode == 0, said.decode()
    assert await migrations.check(empty_database_url) == []


async def test_a_migration_waits_for_who_is_writing(empty_database_url: str) -> None:
    """It must take its lock before it looks: what it saw earlier would be out of date when it writes."""
    engine = make_engine(empty_database_url)
    async with writing(engine) as connection:
        await connection.execute(text("CREATE TABLE another (x INTEGER)"))
        waiting = asyncio.create_task(migrations.upgrade(empty_database_url))
        await asyncio.sleep(0.5)
    assert await waiting == migrations.newest()
    await engine.dispose()


async def test_leases_of_before_the_chain_begin_it(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    async with writing(engine) as connection:
        await connection.run_sync(lambda sync: command.upgrade(migrations._config(sync), "0002"))
        for partition, lease, started_ms in ((0, "b", "7"), (0, "a", "9"), (1, "c", "NULL")):
            await connection.execute(
                text(
                    "INSERT INTO ledger_leases (tenant, lease, partition, person, tariff, started_ms, ended_ms, labels)"
                    f" VALUES ('t', '{lease}', {partition}, 'p', 'team', {started_ms}, 12, '{{}}')"
                )
            )
    await migrations.upgrade(empty_database_url)
    async with reading(engine) as connection:
        heads = await chain.heads(connection)
        assert {partition: head.pos for partition, head in heads.items()} == {0: 2, 1: 1}
        for partition, head in heads.items():
            assert await chain.first_broken(connection, partition, chain.Head(), head) is None
        links = (await links_of(connection, ["t"], 0, 99))["t"]
    assert [link.row for link in links] == [
        '["lease","t","b","p","team",7,12,null]',
        '["lease","t","a","p","team",9,12,null]',
        '["lease","t","c","p","team",null,12,null]',
    ]
    await engine.dispose()


async def test_a_lease_whose_start_was_lost_may_end_after_a_frozen_month(database_url: str) -> None:
    """An adoption opens it, and the instant of its end says nothing of when it began."""
    engine = make_engine(database_url)
    lease = (
        "INSERT INTO ledger_leases (tenant, lease, partition, person, tariff, end_epoch, labels)"
        " VALUES ('t', 'l', 0, 'p', 'team', 1, '{}')"
    )
    month = (
        "INSERT INTO months (period, state, token, start_ms, end_ms, timezone, price_list, began_ms)"
        " VALUES ('2026-03', 'closing', 'c', 1000, 2000, 'UTC', 'v1', 0)"
    )
    async with writing(engine) as connection:
        await connection.execute(text(lease))
        await connection.execute(text(month))
    for ended_ms, allowed in ((2001, True), (None, True), (2000, True), (1999, False)):
        update = text("UPDATE ledger_leases SET ended_ms = :ended_ms").bindparams(ended_ms=ended_ms)
        if allowed:
            async with writing(engine) as connection:
                await connection.execute(update)
        else:
            with pytest.raises(Refusal, match="closed month"):
                async with writing(engine) as connection:
                    await connection.execute(update)
    await engine.dispose()
