"""The parent's side: as many workers as were asked for, on one port, each started again when it dies.

Decides when a worker is started anew (at once, then with growing pauses), how all are drained, and what becomes of the
counters of one that has ended.  What a worker does is `process`.
"""

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

from prometheus_client import Metric

import seatd
from seatd.config import Address, SettingError, Settings
from seatd.telemetry import REGISTRY, WORKER_RESTARTS, WORKERS, log
from seatd.web.listener import why
from seatd.workers import process
from seatd.workers.link import Link, LinkLostError
from seatd.workers.totals import Snapshot, Totals

START_S: Final = 60.0
STOP_S: Final = 25.0
"""How long a worker has to drain before it is killed: channels, then requests in flight, then the batch."""
READ_S: Final = 0.5
LOOK_EVERY_S: Final = 5.0
PAUSE_S: Final = (0.1, 5.0)
STEADY_S: Final = 30.0
"""After so long a worker's death is no sign of a fault that lasts."""

OpenEpoch = Callable[[int, int], Awaitable[None]]


def reserve(address: Address) -> socket.socket:
    """Hold a port for workers to share, as nobody else listens there; raises `SettingError`.

    The socket does not listen, so that no connection ever reaches it.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(where)  # fails where somebody listens, whoever shares
            where = alone.getsockname()
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(where)
    except OSError as error:
        raise SettingError(f"Cannot listen on {address}: {why(error)}.") from None
    return held


class _Member:
    """One worker: its process now, and what it has counted."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.link: Link | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.ready = asyncio.Event()
        self.gave_up = asyncio.Event()
        self.taken: Snapshot = []


class Crew:
    """The workers of one seatd; use with `async with`, which returns when all serve."""

    def __init__(
        self, settings: Settings, store_url: str, held: socket.socket, open_epoch: OpenEpoch
    ) -> None:
        self._settings = settings
        self._store_url = store_url
        self._held = held
        self._open_epoch = open_epoch
        self._members = [_Member(number) for number in range(1, settings.workers + 1)]
        self._tasks: list[asyncio.Task[None]] = []
        self._past = Totals()
        self._stopping = False

    @property
    def url(self) -> str:
        """Where the workers serve."""
        host, port = self._held.getsockname()[:2]
        return f"http://{Address(host, port)}"

    @property
    def serving(self) -> int:
        """Count the workers that serve now."""
        return sum(member.ready.is_set() for member in self._members)

    async def __aenter__(self) -> "Crew":  # noqa: PYI034 - typing.Self buys nothing in a final class
        """Start all; raises `SettingError` where one does not come up."""
        self._tasks = [asyncio.create_task(self._keep(member)) for member in self._members]
        try:
            async with asyncio.timeout(START_S):
                for member in self._members:
                    await self._up(member)
        except (TimeoutError, SettingError):
            await self.__aexit__()
            raise SettingError("The workers do not start; the log says why.") from None
        self._tasks.append(asyncio.create_task(self._look_for_ever()))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drain all, and wait until they have ended."""
        self._stopping = True
        await asyncio.gather(*(self._stop(member) for member in self._members))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._held.close()

    async def _up(self, member: _Member) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (member.ready, member.gave_up)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not member.ready.is_set():
            raise SettingError("a worker ended")

    async def _stop(self, member: _Member) -> None:
        if member.process is None or member.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            member.process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await member.process.wait()
        except TimeoutError:
            log.error("worker killed", worker=member.number, why="it did not drain in time")
            with contextlib.suppress(ProcessLookupError):
                member.process.kill()
            await member.process.wait()

    # -- one worker -------------------------------------------------------------------------------

    async def _keep(self, member: _Member) -> None:
        """Run a worker again and again; one that has never served ends the start instead."""
        pause_s = PAUSE_S[0]
        while not self._stopping:
            began_s = time.monotonic()
            status = await self._run(member)
            served = member.ready.is_set()
            member.ready.clear()
            WORKERS.set(self.serving)
            if self._stopping:
                return
            log.error("worker ended", worker=member.number, status=status)
            if not served and pause_s == PAUSE_S[0]:
                member.gave_up.set()
            if time.monotonic() - began_s > STEADY_S:
                pause_s = PAUSE_S[0]
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S[1])
            WORKER_RESTARTS.inc()

    async def _run(self, member: _Member) -> int:
        """Start a worker and wait for its end; returns its status."""
        ours, theirs = socket.socketpair()
        with theirs:
            member.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "seatd.workers.process", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": _import_path()},
                start_new_session=True,
            )
        order = process.pack(self._order(member))
        ours.sendall(len(order).to_bytes(4, "big") + order)
        ours.settimeout(0)

        async def ready() -> None:
            member.ready.set()
            WORKERS.set(self.serving)

        async def last(taken: Snapshot) -> None:
            member.taken = taken

        async def open_epoch(partition: int, stepped: int) -> None:
            await self._open_epoch(partition, stepped)

        member.link = Link(ours, {"ready": ready, "last": last, "open": open_epoch})
        serving = asyncio.create_task(member.link.serve())
        try:
            status = await member.process.wait()
            await asyncio.wait([serving], timeout=READ_S)  # what it said last
        finally:
            serving.cancel()
            member.link = None
        self._past.add(member.taken, only_growing=True)
        member.taken = []
        return status

    def _order(self, member: _Member) -> process.Order:
        host, port = self._held.getsockname()[:2]
        return process.Order(member.number, self._settings, self._store_url, host, port)

    # -- what they count --------------------------------------------------------------------------

    async def families(self) -> Iterable[Metric]:
        """Give every family of this process and the workers, added up."""
        await asyncio.gather(*(self._take(member) for member in self._members))
        totals = Totals()
        totals.add(self._past.taken())
        for member in self._members:
            totals.add(member.taken)
        return totals.collect(REGISTRY.collect())

    async def _take(self, member: _Member) -> None:
        """Ask a worker what it counts; one that does not answer in time is shown as it was."""
        with contextlib.suppress(LinkLostError, TimeoutError):
            async with asyncio.timeout(READ_S):
                if member.link is not None:
                    member.taken = await member.link.ask("metrics")

    async def _look_for_ever(self) -> None:
        """Take the counters now and then, so that little of them is lost with a worker that is killed."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await asyncio.gather(*(self._take(member) for member in self._members))


def _import_path() -> str:
    """Have a worker import the very code that runs here."""
    rest = os.environ.get("PYTHONPATH")
    here = str(Path(seatd.__file__).parents[1])
    return f"{here}{os.pathsep}{rest}" if rest else here
