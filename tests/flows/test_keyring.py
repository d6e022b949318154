"""Following the keys of receipts: another seatd's rotation, SQL away, a copy lost, an overlap that ends."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from seatd.accounts.receipt_keys import OVERLAP_MS, WrongSecretError
from seatd.accounts.service import Accounts
from seatd.database.engine import make_engine
from seatd.flows import keyring
from seatd.flows.keyring import KEPT_AS, Keys
from seatd.model import Refusal
from seatd.seats.store import Store, StoreOptions, connect
from tests.accounts.conftest import Clock
from tests.valkey import ValkeyServer

SECRET = bytes(range(32))
Make = Callable[..., AbstractAsyncContextManager[Keys]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def away(tmp_path: Path) -> AsyncIterator[Accounts]:
    """The account plane while its database is away."""
    engine = make_engine(f"sqlite:///{tmp_path}/nowhere/seatd.db")
    yield Accounts(engine)
    await engine.dispose()


@pytest.fixture
async def accounts(database_url: str, clock: Clock) -> AsyncIterator[Accounts]:
    engine = make_engine(database_url)
    yield Accounts(engine, clock)
    await engine.dispose()


@pytest.fixture
def seatd_keys(valkey: ValkeyServer, accounts: Accounts, clock: Clock) -> Make:
    """Makes what follows the keys in one seatd, loaded; `of` is its account plane."""

    @contextlib.asynccontextmanager
    async def make(of: Accounts = accounts, secret: bytes = SECRET) -> AsyncIterator[Keys]:
        options = StoreOptions(timeout_ms=300)
        store = Store(connect(valkey.url, options), options)
        try:
            keys = Keys(of, store, secret, "seatd", clock)
            await keys.load()
            yield keys
        finally:
            await store.close()

    return make


def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "LOOK_AGAIN_S", 0)


async def test_all_seatds_sign_with_the_new_key_from_one_instant(seatd_keys: Make, clock: Clock) -> None:
    async with seatd_keys() as a, seatd_keys() as b:
        old = a.keyring
        assert b.keyring == old
        new = await a.rotate(signs_in_ms=5_000, actor="k")
        assert a.keyring.signing == old.signing
        assert len(a.keyring.keys) == len(a.jwks["keys"]) == 2
        await b.load()
        assert b.keyring == a.keyring
        clock.now_ms = new.signs_from_ms
        await a.load()
        await b.load()
        assert a.keyring.signing == b.keyring.signing != old.signing
        assert old.signing in a.keyring.keys


async def test_who_does_not_know_a_key_looks_at_most_once_a_second(
    seatd_keys: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seatd_keys() as a, seatd_keys() as b:
        known = b.keyring
        await a.rotate(signs_in_ms=5_000, actor="k")
        assert not await b.newer(known)  # it has looked within this second
        at_once(monkeypatch)
        assert await b.newer(known)
        assert b.keyring == a.keyring
        assert not await b.newer(b.keyring)


async def test_sql_away_the_copy_beside_the_seats_serves(
    seatd_keys: Make, away: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    async with seatd_keys() as a, seatd_keys(away) as b:
        assert b.keyring == a.keyring
        known = b.keyring
        await a.rotate(signs_in_ms=5_000, actor="k")
        assert await b.newer(known)
        assert b.keyring == a.keyring


async def test_a_copy_that_was_lost_or_rolled_back_is_made_good_and_takes_nothing_away(
    seatd_keys: Make,
    away: Accounts,
    accounts: Accounts,
    valkey: ValkeyServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_once(monkeypatch)
    with valkey.client() as store:
        async with seatd_keys() as a:
            older = store.get(f"seatd:kept:{KEPT_AS}")
            await a.rotate(signs_in_ms=5_000, actor="k")
            newest = a.keyring
            for kept in (None, older, b"rubbish", b"rubbish" * 9):
                store.flushall()
                if kept is not None:
                    store.set(f"seatd:kept:{KEPT_AS}", kept)
                await a.newer(a.keyring)
                async with seatd_keys(away) as b:
                    assert b.keyring == newest
            a._accounts = away
            for kept in (None, older, b"rubbish", b"rubbish" * 9):
                store.flushall()
                if kept is not None:
                    store.set(f"seatd:kept:{KEPT_AS}", kept)
                await a.newer(a.keyring)
                assert a.keyring == newest
                async with seatd_keys(away) as b:
                    assert b.keyring == newest


async def test_a_first_start_needs_sql_and_the_secret(
    seatd_keys: Make, away: Accounts, accounts: Accounts
) -> None:
    with pytest.raises(Refusal, match="database_unavailable"):
        async with seatd_keys(away):
            pass
    async with seatd_keys():
        for of in (accounts, away):
            with pytest.raises(WrongSecretError):
                async with seatd_keys(of, SECRET[::-1]):
                    pass


async def test_an_overlap_ends_though_nobody_can_be_asked(
    seatd_keys: Make, away: Accounts, valkey: ValkeyServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    async with seatd_keys() as a:
        old = a.keyring.signing
        new = await a.rotate(signs_in_ms=5_000, actor="k")
        a._accounts = away
        own = ValkeyServer()  # a store that nobody started
        options = StoreOptions(timeout_ms=100)
        a._store = Store(connect(own.url, options), options)
        clock.now_ms = new.signs_from_ms
        await a.newer(a.keyring)
        assert a.keyring.signing != old
        clock.now_ms = new.signs_from_ms + OVERLAP_MS - 1
        await a.newer(a.keyring)
        assert old in a.keyring.keys
        clock.now_ms += 1
        await a.newer(a.keyring)
        assert old not in a.keyring.keys
        assert len(a.keyring.keys) == len(a.jwks["keys"]) == 1
        own.remove()
