"""A real Valkey (or Redis, by SEATD_STORE_BIN) on a unix socket of its own."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import redis

from seatd.embedded import find_binary


class ValkeyServer:
    """One store process; `kill` and `start` again as a fault would."""

    def __init__(self, *, appendonly: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vk-"))
        self.socket = self.folder / "s"
        self.url = f"unix://{self.socket}"
        self.appendonly = appendonly
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [find_binary(), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        command += [
            "--save",
            "",
            "--appendonly",
            "yes" if self.appendonly else "no",
            "--appendfsync",
            "always",
        ]
        command += ["--logfile", str(self.folder / "log")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                with self.client() as client:
                    client.ping()
                    return
            except redis.exceptions.ConnectionError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.01)

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket))

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.socket.unlink(missing_ok=True)

    def remove(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
