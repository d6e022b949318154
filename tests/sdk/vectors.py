"""The golden wire vectors, read."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "vectors"


def load(*files: str) -> list[dict[str, Any]]:
    """Read the vectors of `files`, or of all."""
    paths = [FOLDER / f"{name}.json" for name in files] or sorted(FOLDER.glob("*.json"))
    return [vector for path in paths for vector in json.loads(path.read_text("utf-8"))]


def named(file: str, name: str) -> dict[str, Any]:
    """Return one vector."""
    [found] = [vector for vector in load(file) if vector["name"] == name]
    return found


def title(vector: dict[str, Any]) -> str:
    """Name a vector for pytest."""
    return str(vector["name"])
