"""Servers of the admin tests: the same on both databases."""

from collections.abc import Iterator

import pytest

from tests.postgres import PostgresServer
from tests.servers import SeatdProcess
from tests.web.house import House


@pytest.fixture(scope="session")
def sqlite_house(seatd: SeatdProcess) -> House:
    """The shared server on SQLite."""
    return House(seatd, f"sqlite:///{seatd.data / 'seatd.db'}")


@pytest.fixture(scope="session")
def postgres_house(postgres: PostgresServer) -> Iterator[House]:
    """A server on PostgreSQL."""
    url = postgres.empty_database()
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
