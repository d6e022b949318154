"""A real Prometheus on a free port, with the configuration of deploy/ pointed at a server of the test."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.deploy.files import PROMETHEUS, RULES, read_yaml, write_yaml
from tests.needs import needs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Watcher:
    """Scrapes `target` twice a second and answers queries."""

    def __init__(self, folder: Path, target: str) -> None:
        program = needs("prometheus")
        config = read_yaml(PROMETHEUS)
        config["global"] = {
            "scrape_interval": "500ms",
            "scrape_timeout": "500ms",
            "evaluation_interval": "1s",
        }
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        write_yaml(folder / "prometheus.yml", config)
        shutil.copy(RULES, folder)
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}/api/v1"
        self.log_path = folder / "log"
        command = [program, f"--config.file={folder / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of an expression; an error of Prometheus is one of the test."""
        return self._get("/query?" + urllib.parse.urlencode({"query": expression}))["result"]

    def value(self, expression: str) -> float:
        (row,) = self.query(expression)
        return float(row["value"][1])

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._get("/rules")["groups"] for rule in group["rules"]]

    def wait_for(self, expression: str, *, wait_s: float = 30) -> None:
        """Wait until the expression has a result."""
        deadline = time.monotonic() + wait_s
        while True:
            try:
                if self.query(expression):
                    return
            except urllib.error.HTTPError as error:
                if error.code != 503:  # it listens, and is not ready yet
                    raise
            except OSError:  # it is not listening yet
                assert self.process.poll() is None, self.log_path.read_text()
            assert time.monotonic() < deadline, f"{expression} stays empty\n{self.log_path.read_text()}"
            time.sleep(0.2)
