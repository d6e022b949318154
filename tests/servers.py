"""A real seatd process on free ports, with its embedded store and database in a folder of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgpack


class Reply:
    """An HTTP answer: status, headers, decoded body."""

    def __init__(self, status: int, headers: Any, raw: bytes) -> None:
        self.status = status
        self.headers = headers
        self.raw = raw

    @property
    def body(self) -> Any:
        if not self.raw:
            return None
        if "msgpack" in self.headers.get("Content-Type", ""):
            return msgpack.unpackb(self.raw)
        return json.loads(self.raw)


def call(
    method: str,
    url: str,
    *,
    key: str | None = None,
    body: Any = None,
    raw: bytes | None = None,
    headers: dict[str, str] | None = None,
    msg: bool = False,
    timeout: float = 10,
) -> Reply:
    """One request; problems are answers like others."""
    content_type = "application/msgpack" if msg else "application/json"
    sent = {"Accept": content_type, **({"Authorization": f"Bearer {key}"} if key else {})}
    if body is not None:
        raw = msgpack.packb(body) if msg else json.dumps(body).encode()
    if raw is not None:
        sent["Content-Type"] = content_type
    sent.update(headers or {})
    request = urllib.request.Request(url, data=raw, method=method, headers=sent)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return Reply(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.headers, error.read())


class SeatdProcess:
    """`python -m seatd serve` in a folder; kill and start it again as a fault would."""

    def __init__(
        self, *options: str, folder: Path | None = None, environ: dict[str, str] | None = None
    ) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="sd-"))
        self.options = options
        self.environ = environ or {}
        self.log_path = self.folder / "seatd.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.internal_url = ""

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def admin_key(self) -> str:
        return (self.data / "admin.key").read_text().strip()

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def start(self, *, wait_s: float = 60) -> "SeatdProcess":
        """Start and wait until it serves; on the same ports as before where there were any."""
        listen = self.url.removeprefix("http://") or "127.0.0.1:0"
        internal = self.internal_url.removeprefix("http://") or "127.0.0.1:0"
        command = [sys.executable, "-m", "seatd", "serve", "--data", str(self.data)]
        command += ["--listen", listen, "--internal-listen", internal, *self.options]
        began = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **self.environ}, start_new_session=True
            )
        deadline = time.monotonic() + wait_s
        while True:
            for line in self.log_path.read_bytes()[began:].decode().splitlines():
                if '"event": "serving"' in line:
                    event = json.loads(line)
                    self.url, self.internal_url = event["url"], event["internal_url"]
                    return self
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def remove(self) -> None:
        if self.process and self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def admin(self, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        """Call an internal route with the admin key (or another `key`)."""
        return call(method, self.internal_url + path, **{"key": self.admin_key, "body": body, **options})

    def client(self, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        """Call a public route."""
        return call(method, self.url + path, body=body, **options)

    def tenant(self, name: str, **fields: Any) -> str:
        """Make a tenant and return a client key of it."""
        made = self.admin("PUT", f"/v1/tenants/{name}", {"name": name, **fields})
        assert made.status in (200, 201), made.raw
        key = self.admin("POST", f"/v1/tenants/{name}/keys", {"scope": "client"})
        assert key.status == 201, key.raw
        return str(key.body["key"])
