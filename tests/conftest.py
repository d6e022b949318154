"""Fixtures that every test may use; servers are real, private to the run and shared where they start slowly."""

from collections.abc import Callable, Iterator

import pytest

from tests.databases import database_url, empty_database_url, migrated_sqlite, new_postgres, postgres
from tests.servers import SeatdProcess
from tests.valkey import ValkeyServer

__all__ = ["database_url", "empty_database_url", "migrated_sqlite", "new_postgres", "postgres"]


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """One store for the run of this worker; tests that kill theirs make their own."""
    server = ValkeyServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> ValkeyServer:
    """The shared store, empty."""
    with valkey_server.client() as client:
        client.flushall()
    return valkey_server


@pytest.fixture(scope="session")
def seatd() -> Iterator[SeatdProcess]:
    """One server for the run of this worker: embedded store, SQLite.  Each test makes tenants of its own."""
    server = SeatdProcess()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def new_seatd() -> Iterator[Callable[..., SeatdProcess]]:
    """Makes servers of the test's own, for it to kill; not started yet."""
    made: list[SeatdProcess] = []

    def make(*options: str, environ: dict[str, str] | None = None) -> SeatdProcess:
        made.append(SeatdProcess(*options, environ=environ))
        return made[-1]

    yield make
    for server in made:
        server.remove()
