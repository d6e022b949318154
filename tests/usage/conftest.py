"""An engine on each database, a store, and recorders between them."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts.people import persons_for
from seatd.database.engine import make_engine
from seatd.seats.store import Store, StoreAwayError, StoreOptions, connect
from seatd.usage.recorder import Recorder
from tests.valkey import ValkeyServer

NOW_MS = 1_773_309_600_000


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    made = make_engine(database_url)
    yield made
    await made.dispose()


@pytest.fixture
async def store(valkey: ValkeyServer) -> AsyncIterator[Store]:
    options = StoreOptions(partitions=2)
    made = Store(connect(valkey.url, options), options)
    yield made
    await made.close()


@pytest.fixture
def recorder_of(engine: AsyncEngine) -> Callable[..., Recorder]:
    """Makes recorders over a stream, as a seatd that has just started does."""

    def make(stream: Any, **options: Any) -> Recorder:
        return Recorder(engine, stream, persons_for, clock=lambda: NOW_MS, away=(StoreAwayError,), **options)

    return make
