"""A house: one seatd, its store and its database, with a proxy wherever a fault wants to stand in between.

Everything is a real process with short times (ttl 2 s), started, killed, paused and set back here.  What a fault is,
and what follows of it, is not decided here.
"""

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Any, Self

from tests.faults.wire import Connection, NoAnswerError, NotSentError
from tests.servers import SeatdProcess
from tests.valkey import ValkeyServer

TTL_MS = 2_000
DELTA_MS = 50
Q_MS = 300
OPTIONS = ("--delta-ms", str(DELTA_MS), "--q-ms", str(Q_MS))


class House:
    """A seatd with a store of its own (embedded, or a Valkey beside it); use with `async with`."""

    def __init__(
        self, *, embedded: bool = False, fsync: bool = True, environ: dict[str, str] | None = None
    ) -> None:
        self.store = None if embedded else ValkeyServer(appendonly=fsync)
        self.environ = environ or {}
        self.seatd = SeatdProcess()
        self.tenants = 0

    async def __aenter__(self) -> Self:
        if self.store:
            await asyncio.to_thread(self.store.start)
        self.seatd = SeatdProcess(*self.options(), environ=self.environ)
        await asyncio.to_thread(self.seatd.start)
        return self

    def options(self) -> tuple[str, ...]:
        return ("--store", self.store.url, *OPTIONS) if self.store else OPTIONS

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._remove)

    def _remove(self) -> None:
        self.signal_seatd(signal.SIGCONT)
        if self.seatd.process:
            self.seatd.kill()
        if self.store:
            self.signal_store(signal.SIGCONT)
            self.store.remove()
        shutil.rmtree(self.seatd.folder, ignore_errors=True)

    # -- what clients and admins see ---------------------------------------------------------------

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.seatd.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    @property
    def database(self) -> Path:
        return self.seatd.data / "seatd.db"

    async def tenant(self, name: str, seats: int, ttl_ms: int = TTL_MS) -> str:
        """Make a tenant; returns a client key of it."""
        fields = {"name": name, "tariff": "team", "seats": seats, "lease_ttl_ms": ttl_ms}
        await self.admin("PUT", f"/v1/tenants/{name}", fields)
        return str((await self.admin("POST", f"/v1/tenants/{name}/keys", {"scope": "client"}))["key"])

    async def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call an internal route until it answers well."""
        host, _, port = self.seatd.internal_url.removeprefix("http://").rpartition(":")
        headers = {"Authorization": f"Bearer {self.seatd.admin_key}"}
        for _ in range(100):
            connection = Connection(host, int(port))
            try:
                status, answer = await connection.ask(method, path, headers, body, within_s=5)
                if status < 300:
                    return answer
            except (NoAnswerError, NotSentError):
                pass
            finally:
                connection.close()
            await asyncio.sleep(0.1)
        raise AssertionError(f"{method} {path} is not answered\n{self.seatd.log[-2000:]}")

    # -- what is done to it ------------------------------------------------------------------------

    def signal_seatd(self, number: signal.Signals) -> None:
        if self.seatd.process and self.seatd.process.poll() is None:
            os.kill(self.seatd.process.pid, number)

    def signal_store(self, number: signal.Signals) -> None:
        assert self.store
        if self.store.process and self.store.process.poll() is None:
            os.kill(self.store.process.pid, number)

    async def restart_seatd(self) -> None:
        await asyncio.to_thread(self.seatd.start)

    async def restart_store(self) -> None:
        assert self.store
        await asyncio.to_thread(self.store.start)
