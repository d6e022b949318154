"""The line between parent and worker: answers, refusals, and the end of either."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from seatd.config import Address, SettingError, Settings
from seatd.model import Refusal
from seatd.workers import crew, process
from seatd.workers.link import Link, LinkLostError
from tests.valkey import ValkeyServer


async def double(number: int) -> int:
    await asyncio.sleep(0.01 * (5 - number))
    return 2 * number


async def refuse() -> None:
    raise Refusal("learning", "Later.", retry_after_ms=7)


async def fail() -> None:
    raise ZeroDivisionError


async def never() -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, Link, list[asyncio.Task[None]]]]:
    handlers: dict[str, Any] = {"double": double, "refuse": refuse, "fail": fail, "never": never}
    one, other = socket.socketpair()
    ends = [Link(end, handlers) for end in (one, other)]
    tasks = [asyncio.create_task(end.serve()) for end in ends]
    yield ends[0], ends[1], tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_both_ends_ask_and_answers_come_in_any_order():
    async with linked() as (one, other, _):
        asked = [one.ask("double", n) for n in range(5)] + [other.ask("double", n) for n in range(5)]
        assert await asyncio.gather(*asked) == [0, 2, 4, 6, 8] * 2


async def test_a_refusal_arrives_as_it_was_raised():
    async with linked() as (one, _, _):
        with pytest.raises(Refusal) as caught:
            await one.ask("refuse")
        assert (caught.value.code, caught.value.detail) == ("learning", "Later.")
        assert caught.value.fields == {"retry_after_ms": 7}
        with pytest.raises(Refusal) as caught:
            await one.ask("fail")
        assert caught.value.code == "internal"
        assert await one.ask("double", 1) == 2


async def test_who_asks_is_told_when_the_other_end_has_gone():
    async with linked() as (one, _, tasks):
        asked = asyncio.create_task(one.ask("never"))
        await asyncio.sleep(0.05)
        tasks[1].cancel()
        with pytest.raises(LinkLostError):
            await asked
        with pytest.raises(LinkLostError):
            await one.ask("double", 1)


def test_an_order_arrives_as_it_was_written(tmp_path):
    settings = Settings(data=tmp_path, secret_file=tmp_path / "s", listen=Address("::1", 1), workers=3)
    order = process.Order(2, settings, "unix:///x", "127.0.0.1", 8470)
    assert process.unpack(process.pack(order)) == order


async def test_workers_that_cannot_start_end_the_start(tmp_path):
    async def open_epoch(_: int, __: int) -> None:
        return None

    held = crew.reserve(Address("127.0.0.1", 0))
    settings = Settings(data=tmp_path, workers=2, database="sqlite:///" + str(tmp_path / "no" / "such.db"))
    with pytest.raises(SettingError, match="do not start"):
        async with crew.Crew(settings, ValkeyServer().url, held, open_epoch):
            pass


def test_a_port_is_held_for_workers_and_nobody_else():
    held = crew.reserve(Address("127.0.0.1", 0))
    where = held.getsockname()
    with socket.socket() as worker:
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(where)
        worker.listen()
        with socket.create_connection(where), pytest.raises(SettingError, match="Cannot listen"):
            crew.reserve(Address(*where))
    held.close()
    with pytest.raises(SettingError, match="Cannot listen"):
        crew.reserve(Address("192.0.2.1", 1))
