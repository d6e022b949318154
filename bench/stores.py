"""A Valkey of the measurement's own, on a unix socket, with the fsync policy that is asked for; and what it says of itself."""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import redis

from seatd.embedded import find_binary

START_S = 20.0


class StoreProcess:
    """One store; `fsync`: `always`, `everysec` or `no`."""

    def __init__(self, fsync: str = "always") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="seatd-bench-store-"))
        self.url = f"unix://{self.folder}/s"
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        options = {"port": "0", "unixsocket": f"{self.folder}/s", "dir": str(self.folder), "save": ""}
        options |= {"appendonly": "yes", "appendfsync": self._fsync, "logfile": f"{self.folder}/log"}
        command = [find_binary(), *(part for name, value in options.items() for part in (f"--{name}", value))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.client = redis.Redis(unix_socket_path=f"{self.folder}/s")
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.client.ping()
            except redis.exceptions.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def info(self) -> dict[str, Any]:
        """Read INFO."""
        told: dict[str, Any] = self.client.info()
        return told

    def used_cpu_s(self) -> float:
        """Read how much CPU the process has used, all of its threads."""
        info = self.info()
        return float(info["used_cpu_sys"]) + float(info["used_cpu_user"])

    def script_us(self) -> float:
        """Read how many microseconds scripts have run."""
        told: Any = self.client.info("commandstats")
        return float(told.get("cmdstat_evalsha", {}).get("usec", 0))
