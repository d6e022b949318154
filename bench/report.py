"""What is told of a run: one table, and JSON that says which commit on which machine."""

import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.figures import Figure

ROOT = Path(__file__).parents[1]
WIDTH = 160


def commit() -> str:
    """Name the commit, and whether the tree differs from it; `unknown` outside of a clone."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return asked.stdout.strip()


def load() -> float:
    """Read how busy the machine was in the last minute; 0 where that is not known."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0


def machine() -> dict[str, Any]:
    """Describe the machine, and how busy it is before anything is measured."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), model)
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": load(),
    }


def draw(title: str, figures: Iterable[Figure]) -> None:
    """Print the table."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=WIDTH)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "reached", "to reach", "", "of"):
        table.add_column(column, justify="right" if column in ("reached", "to reach") else "left")
    for figure in figures:
        unit = f" {figure.unit}" if figure.unit not in ("", "x") else ""
        sign = "" if figure.aim is None else ">= " if figure.at_least else "<= "
        aim = "" if figure.aim is None else f"{sign}{figure.aim:g}{unit}"
        said = {None: "", True: "yes", False: "MISSED"}[figure.met]
        table.add_row(figure.what, f"{figure.value:,.2f}{unit}", aim, said, figure.of)
    console.print(table)


def failures(found: Any, where: str = "") -> list[str]:
    """Find answers that were no success, outside of the parts that are made to provoke some."""
    if isinstance(found, dict) and "codes" in found:
        bad = {code: count for code, count in found["codes"].items() if code != "ok"}
        return [f"{where}: {bad}"] if bad else []
    if isinstance(found, dict):
        inner = (
            (f"{where}.{name}".lstrip("."), each) for name, each in found.items() if name not in PROVOKED
        )
    elif isinstance(found, list):
        inner = ((where, each) for each in found)
    else:
        return []
    return [said for name, each in inner for said in failures(each, name)]


PROVOKED = ("storm", "overload", "kinds")
