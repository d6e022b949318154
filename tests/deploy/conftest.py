"""A real Prometheus for the tests that ask one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.watcher import Watcher


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[str], Watcher]]:
    """Makes a Prometheus that scrapes a target; it ends with the test."""
    made: list[Watcher] = []

    def watch(target: str) -> Watcher:
        made.append(Watcher(tmp_path, target))
        return made[-1]

    yield watch
    for watcher in made:
        watcher.stop()
