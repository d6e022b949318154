"""A worker: a process that serves clients beside others on one port, and does nothing else.

It has connections and a registry of its own, asks its parent to open epochs, drains on SIGTERM, and is gone at once
when its parent is: nobody else would restart it, or end the embedded store.
"""

import asyncio
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from seatd.config import Address, SettingError, Settings
from seatd.database.engine import make_engine
from seatd.embedded import die_with_parent
from seatd.telemetry import configure_logging, log
from seatd.workers.link import Link, LinkLostError
from seatd.workers.serving import Stores, account_plane, keep_going, opened, serve_clients, store_options
from seatd.workers.totals import snapshot

FAILED: Final = 1


class Order(msgspec.Struct, frozen=True):
    """What the parent tells a worker: its number, the settings, where the store is, and where to listen."""

    number: int
    settings: Settings
    store_url: str
    host: str
    port: int


def pack(order: Order) -> bytes:
    """Write an order down."""
    return msgspec.msgpack.encode(order, enc_hook=str)


def unpack(packed: bytes) -> Order:
    """Read an order."""
    return msgspec.msgpack.decode(packed, type=Order, dec_hook=_path)


def _path(kind: type[Any], written: Any) -> Any:
    if kind is not Path:
        raise NotImplementedError(kind)
    return Path(written)


async def _work(end: socket.socket, order: Order) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C is the parent's to hear

    async def metrics() -> Any:
        return snapshot()

    link = Link(end, {"metrics": metrics})
    linked = asyncio.create_task(link.serve())
    linked.add_done_callback(_orphaned)
    settings = order.settings

    async def open_epoch(partition: int, stepped: int) -> None:
        await link.ask("open", partition, stepped)

    async with AsyncExitStack() as stack:
        engine = make_engine(settings.database_url)
        stack.push_async_callback(engine.dispose)
        stores = Stores(stack, order.store_url, store_options(settings))
        try:
            planes = await opened(stack, settings, stores, *account_plane(engine), open_epoch=open_epoch)
            await keep_going(stack, planes.loops)
            await serve_clients(stack, planes, Address(order.host, order.port), shared=True)
            await link.ask("ready")
        except (SettingError, LinkLostError) as error:
            log.error("worker does not start", worker=order.number, error=str(error))
            return FAILED
        log.info("worker serves", worker=order.number, pid=os.getpid())
        await stopping.wait()
        log.info("worker stops", worker=order.number)
    try:
        await link.ask("last", snapshot())
    except LinkLostError:
        return FAILED
    linked.remove_done_callback(_orphaned)
    return 0


def _orphaned(_: object) -> None:
    os._exit(FAILED)  # the parent has gone, and with it all that would be flushed to


def main() -> None:
    """Run the worker whose end of the line is the file descriptor that the first argument names."""
    die_with_parent()
    os.umask(0o077)
    end = socket.socket(fileno=int(sys.argv[1]))
    head = end.recv(4, socket.MSG_WAITALL)
    order = unpack(end.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))
    end.settimeout(0)
    configure_logging(order.settings.log_level, console=order.settings.log_console)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(_work(end, order))
        # All is closed and flushed.  A thread of the SQL driver that was cut off in a query must not hold the process.
        os._exit(status)


if __name__ == "__main__":
    main()
