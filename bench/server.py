"""A real seatd in a process of its own, on free ports and a data folder that is thrown away."""

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import aiohttp

START_S = 60.0
STOP_S = 30.0
ANSWER_S = 10.0
CLOSE_S = 900.0


class AwayError(Exception):
    """The server does not answer now."""


class Server:
    """`seatd serve` in a folder of its own; use with `async with`, kill and start it in between."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self.folder = Path(tempfile.mkdtemp(prefix="seatd-bench-"))
        self.url = ""
        self.internal_url = ""
        self._log = self.folder / "seatd.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        try:
            await self.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await self.stop()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._session is not None:
            await self._session.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start, and wait until it serves; on the same ports as before."""
        command = [sys.executable, "-m", "seatd", "serve", "--data", str(self.folder / "data")]
        command += ["--listen", self.url.removeprefix("http://") or "127.0.0.1:0"]
        command += [
            "--internal-listen",
            self.internal_url.removeprefix("http://") or "127.0.0.1:0",
            *self._options,
        ]
        began = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - forks once
                command, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_S
        while not self._serves(began):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AwayError(f"seatd does not start:\n{self._log.read_text()[began:]}")
            await asyncio.sleep(0.02)

    def _serves(self, began: int) -> bool:
        for line in self._log.read_bytes()[began:].splitlines():
            if b'"event": "serving"' in line:
                event = json.loads(line)
                self.url, self.internal_url = event["url"], event["internal_url"]
                return True
        return False

    def kill(self) -> None:
        """Kill it with signal 9, which no process hears coming."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def stop(self) -> None:
        """Stop it politely, and wait."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(asyncio.to_thread(self._process.wait), STOP_S)

    async def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call an internal route with the admin key; raises `AwayError`, `RuntimeError` for a refusal."""
        raw = await self._asked(method, path, None if body is None else json.dumps(body), "application/json")
        return json.loads(raw) if raw else None

    async def text(self, path: str) -> str:
        """Read a file of the internal listener."""
        return await self._asked("GET", path, None, "")

    async def put_prices(self, toml: str) -> None:
        """Add a price list."""
        await self._asked("POST", "/v1/billing/price-lists", toml, "application/toml")

    async def close_month(self, period: str) -> None:
        """Close a month, however long that takes."""
        await self._asked("POST", f"/v1/billing/{period}/close", "{}", "application/json", within_s=CLOSE_S)

    async def _asked(
        self, method: str, path: str, body: str | None, content_type: str, within_s: float = ANSWER_S
    ) -> str:
        assert self._session is not None
        key = (self.folder / "data" / "admin.key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}"} | ({"Content-Type": content_type} if body else {})
        try:
            async with self._session.request(
                method,
                self.internal_url + path,
                data=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=within_s),
            ) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise AwayError(f"{method} {path}: {error}") from error
        if answer.status >= 500:
            raise AwayError(f"{method} {path}: {answer.status} {text}")
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text}")
        return text

    async def tenant(self, name: str, **fields: Any) -> str:
        """Make a tenant, and return a client key of it."""
        await self.admin("PUT", f"/v1/tenants/{name}", {"name": name, **fields})
        made = await self.admin("POST", f"/v1/tenants/{name}/keys", {"scope": "client"})
        return str(made["key"])
