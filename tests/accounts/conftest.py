"""The account plane over a migrated database, with a clock that tests turn."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts.service import Accounts
from seatd.database.engine import make_engine
from seatd.model import Tariff

START_MS = 1_773_309_600_000
"""2026-03-12T10:00:00Z."""


class Clock:
    """Gives what it was set to."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    made = make_engine(database_url)
    yield made
    await made.dispose()


@pytest.fixture
def accounts(engine: AsyncEngine, clock: Clock) -> Accounts:
    return Accounts(engine, clock)


@pytest.fixture
async def acme(accounts: Accounts) -> str:
    """A tenant on the Agent tariff, with two seats booked."""
    await accounts.put_tenant("acme", {"name": "Acme", "tariff": Tariff.AGENT, "seats": 2}, actor="k_test")
    return "acme"
