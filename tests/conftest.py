"""Fixtures that every test may use; servers are real, private to the run and shared where they start slowly."""

from collections.abc import Iterator

import pytest

from tests.valkey import ValkeyServer


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
