"""Print the part of constraints.txt that some packages need: names, versions, hashes, nothing else.

`python3 pinned.py` prints what seatd needs to run; `python3 pinned.py hatchling` what hatchling needs.  Run it
beside constraints.txt and pyproject.toml; the output is for `pip install --require-hashes --no-deps -r`.
It needs nothing but Python's own library, since it runs before anything is installed.
"""
# ruff: noqa: INP001 - a script that is run by its path, in no package

import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of the constraints: its lines as they stand, and who wants it."""

    lines: tuple[str, ...]
    wanted_by: frozenset[str]


def name_of(requirement: str) -> str:
    """Read the package's normal name off a requirement."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    if found is None:
        raise ValueError(f"{requirement!r} is no requirement")
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def read_pins(text: str) -> dict[str, Pin]:
    """Read a constraints file: a package begins at a line's start, and who wants it follows `# via`."""
    pins = {}
    for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE):
        lines = block.splitlines()
        said = [line.strip().removeprefix("#").strip() for line in lines if line.lstrip().startswith("#")]
        wanted_by = {name_of(who) for line in said if (who := line.removeprefix("via").strip())}
        kept = tuple(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
        if kept:
            pins[name_of(kept[0])] = Pin(kept, frozenset(wanted_by))
    return pins


def needed(pins: dict[str, Pin], roots: Iterable[str]) -> list[str]:
    """Name the roots and all that they need, however far away; raises `KeyError` for a root without a pin."""
    found = {name_of(root) for root in roots}
    if not found <= pins.keys():  # nothing may be installed that is not pinned
        raise KeyError(", ".join(sorted(found - pins.keys())))
    grown = True
    while grown:
        more = {name for name, pin in pins.items() if pin.wanted_by & found} - found
        found |= more
        grown = bool(more)
    return sorted(found)


def main(roots: list[str]) -> None:
    """Print the pins that `roots`, or else the project itself, need."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    pins = read_pins(Path("constraints.txt").read_text())
    for name in needed(pins, roots or project["dependencies"]):
        sys.stdout.write("\n".join(pins[name].lines).rstrip(" \\") + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
