"""A house: one seatd, its store and its database, with a proxy wherever a fault wants to stand in between.

Everything is a real process with short times (ttl 2 s), started, killed, paused and set back here.  What a fault is,
and what follows of it, is not decided here.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.faults.disk import Disk
from tests.faults.proxy import Proxy
from tests.faults.wire import Connection, NoAnswerError, NotSentError
from tests.sentinels import Sentinels
from tests.servers import SeatdProcess
from tests.valkey import ValkeyServer

TTL_MS = 2_000
DELTA_MS = 50


@dataclass(frozen=True)
class Plan:
    """What a house is made of: `embedded`, or a Valkey beside it (`fsync`ed always or never), or a set with sentinels.

    `q_ms` and `w_ms` are seatd's; proxies stand before the store or before seatd; `small_disk` can be filled.
    """

    embedded: bool = False
    fsync: bool = True
    sentinels: bool = False
    store_proxy: bool = False
    client_proxy: bool = False
    small_disk: bool = False
    q_ms: int = 300
    w_ms: int = 0
    environ: dict[str, str] = field(default_factory=dict)


class House:
    """A seatd and what it needs; use with `async with`."""

    def __init__(self, plan: Plan, rng: random.Random) -> None:
        self.plan = plan
        self.tenants = 0
        self.folder = Path(tempfile.mkdtemp(prefix="fh-"))
        self.disk = Disk(self.folder / "disk", mounted=plan.small_disk)
        self.store = None if plan.embedded or plan.sentinels else ValkeyServer(appendonly=plan.fsync)
        self.sentinels = Sentinels() if plan.sentinels else None
        self.store_proxy: Proxy | None = None
        self.client_proxy: Proxy | None = None
        self.seatd = SeatdProcess(folder=self.disk.path)
        if not plan.small_disk:
            self.seatd.log_path = self.folder / "seatd.log"
        self.seatd.environ = {**plan.environ, "DIES_AT": str(self.folder / "dies-at")}
        self._rng = rng

    async def __aenter__(self) -> Self:
        try:
            self.seatd.options = ("--delta-ms", str(DELTA_MS), *await self._stores())
            await asyncio.to_thread(self.seatd.start)
            if self.plan.client_proxy:
                self.client_proxy = Proxy(self._public, self._rng)
                await self.client_proxy.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _stores(self) -> tuple[str, ...]:
        options: tuple[str, ...] = ("--q-ms", str(self.plan.q_ms), "--w-ms", str(self.plan.w_ms))
        if self.sentinels:
            await asyncio.to_thread(self.sentinels.start)
            return (*options, "--store", self.sentinels.url)
        if self.store is None:
            return options
        await asyncio.to_thread(self.store.start)
        if not self.plan.store_proxy:
            return (*options, "--store", self.store.url)
        path = self.store.folder / "proxy"
        self.store_proxy = Proxy(self.store.socket, self._rng, path)
        await self.store_proxy.start()
        return (*options, "--store", f"unix://{path}")

    async def __aexit__(self, *_: object) -> None:
        for proxy in (self.client_proxy, self.store_proxy):
            if proxy:
                await proxy.stop()
        await asyncio.to_thread(self._remove)

    def _remove(self) -> None:
        self.signal_seatd(signal.SIGCONT)
        if self.seatd.process:
            self.seatd.kill()
        if self.store:
            self.signal_store(signal.SIGCONT)
            self.store.remove()
        if self.sentinels:
            self.sentinels.remove()
        self.disk.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what clients and admins see ---------------------------------------------------------------

    @property
    def _public(self) -> tuple[str, int]:
        host, _, port = self.seatd.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    @property
    def address(self) -> tuple[str, int]:
        """Where clients reach it."""
        return self.client_proxy.address if self.client_proxy else self._public

    @property
    def database(self) -> Path:
        return self.seatd.data / "seatd.db"

    async def tenant(self, name: str, seats: int, ttl_ms: int) -> str:
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
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.store_pid, number)

    @property
    def store_pid(self) -> int:
        """The process that serves seats now."""
        if self.store:
            assert self.store.process
            return self.store.process.pid
        return int((self.seatd.data / "store" / "store.pid").read_text())

    @property
    def store_file(self) -> Path:
        """The store's append-only file, which is a folder."""
        folder = self.store.folder if self.store else self.seatd.data / "store"
        return folder / "appendonlydir"

    def copy_store(self) -> Path:
        """Copy the append-only file as it is now."""
        copy = self.folder / "older"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.store_file, copy)
        return copy

    def put_back(self, copy: Path) -> None:
        """Put an older copy in the file's place; nobody may have it open."""
        shutil.rmtree(self.store_file)
        shutil.copytree(copy, self.store_file)

    async def restart_seatd(self) -> None:
        await asyncio.to_thread(self.seatd.start)

    async def restart_store(self) -> None:
        assert self.store
        await asyncio.to_thread(self.store.start)
