"""Fixtures of databases: what is tested with `database_url` is tested on SQLite and on PostgreSQL."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.postgres import PostgresServer, in_own_loop


def _server() -> PostgresServer:
    try:
        return PostgresServer()
    except FileNotFoundError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for the run of this worker; tests that stop theirs make their own."""
    server = _server()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def new_postgres() -> Iterator[Callable[[], PostgresServer]]:
    """Makes servers of the test's own, started, for it to stop, kill or freeze."""
    made: list[PostgresServer] = []

    def make() -> PostgresServer:
        made.append(_server())
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        server.resume()
        server.remove()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the newest schema, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "seatd.db"
    in_own_loop(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own with the newest schema, once of each kind."""
    if request.param == "sqlite":
        path = tmp_path / "seatd.db"
        shutil.copyfile(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.migrated_database()
    yield url
    server.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own with nothing in it, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/seatd.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.empty_database()
    yield url
    server.drop(url)
