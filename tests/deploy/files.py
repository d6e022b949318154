"""Where the files of deploy/ are, and what they say."""

import json
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # PyYAML brings no types

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd/seatd.service"
PROMETHEUS = DEPLOY / "prometheus/prometheus.yml"
RULES = DEPLOY / "prometheus/seatd.rules.yml"
RULES_TEST = DEPLOY / "prometheus/seatd.rules.test.yml"
DASHBOARD = DEPLOY / "grafana/seatd.json"
CONTAINERFILE = DEPLOY / "Containerfile"


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it says is text."""
    return subprocess.run(command, check=False, capture_output=True, text=True, **options)


def read_yaml(path: Path) -> Any:
    """Read a YAML file."""
    return yaml.safe_load(path.read_text())


def write_yaml(path: Path, data: Any) -> None:
    """Write a YAML file."""
    path.write_text(yaml.safe_dump(data))


def rules() -> list[dict[str, Any]]:
    """The alerts, as they are written."""
    return [rule for group in read_yaml(RULES)["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The dashboard, as it is written."""
    return json.loads(DASHBOARD.read_text())


@dataclass(frozen=True)
class Panel:
    """One panel that shows something: its title, and each expression with its legend."""

    title: str
    targets: tuple[tuple[str, str], ...]


def panels() -> list[Panel]:
    """The panels that show something, rows left out."""
    return [
        Panel(panel["title"], tuple((target["expr"], target["legendFormat"]) for target in panel["targets"]))
        for panel in dashboard()["panels"]
        if panel["type"] != "row"
    ]


def filled_in(expression: str, *, interval: str = "5m") -> str:
    """A dashboard's expression as Grafana sends it, with every variable at All."""
    for name, value in {
        "$__rate_interval": interval,
        "$job": "seatd",
        "$instance": ".*",
        "$tenant": ".*",
    }.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


@cache
def unit() -> dict[str, list[str]]:
    """The unit's settings, every value of a name in order."""
    settings: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        settings.setdefault(name, []).append(value)
    return settings
