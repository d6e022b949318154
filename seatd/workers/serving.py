"""What serves clients: the seat plane over its own connections, the keys of receipts, channels, the public listener.

One seatd opens it in its only process; with several workers each opens its own, and the parent one without a
listener, for its administrators.  Which process opens epochs, records and sweeps is not decided here.
"""

import asyncio
import gc
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from seatd import folder
from seatd.accounts.base import wall_clock_ms
from seatd.accounts.receipt_keys import SECRET_BYTES_MIN, WrongSecretError
from seatd.accounts.service import Accounts
from seatd.config import SENTINEL_SCHEME, Address, SettingError, Settings
from seatd.database.engine import reading
from seatd.flows.burials import Burials
from seatd.flows.failover import follow_for_ever
from seatd.flows.keyring import Keys
from seatd.flows.keys_used import KeysUsed
from seatd.flows.policy import Projector
from seatd.flows.price_lists import PriceLists
from seatd.model import Refusal
from seatd.seats import load
from seatd.seats.batch import Batcher
from seatd.seats.news import Subscription
from seatd.seats.service import OpenEpoch, Seats
from seatd.seats.store import Store, StoreOptions, connect, watchers
from seatd.seats.upkeep import Upkeep
from seatd.telemetry import log
from seatd.usage import cursors
from seatd.web import client
from seatd.web.channel import add_channel
from seatd.web.channels import Channels
from seatd.web.connection import ClientConnection
from seatd.web.listener import listen

LOOP_PAUSE_S: Final = 1.0
CANCEL_AGAIN_S: Final = 1.0
GARBAGE_AFTER: Final = 10_000
"""New containers, beyond those that went, after which garbage is searched for."""

Loop = Callable[[], Coroutine[Any, Any, None]]


def store_options(settings: Settings) -> StoreOptions:
    """Tell how the store is spoken to under these settings."""
    return StoreOptions(
        q_ms=settings.q_ms, stream_max=settings.stream_max, delta_ms=settings.delta_ms, w_ms=settings.w_ms
    )


class Stores:
    """Opens connections to one store, each closed with the stack."""

    def __init__(self, stack: AsyncExitStack, url: str, options: StoreOptions) -> None:
        self._stack = stack
        self.url = url
        self.options = options
        self.opened: list[Store] = []

    def open(self) -> Store:
        """Open one more; nothing is sent yet."""
        store = Store(connect(self.url, self.options), self.options)
        self.opened.append(store)
        self._stack.push_async_callback(store.close)
        return store


@dataclass(frozen=True, slots=True)
class Serving:
    """What is open: the planes as one process uses them, and its own loops."""

    stores: Stores
    accounts: Accounts
    price_lists: PriceLists
    seats: Seats
    upkeep: Upkeep
    keys: Keys
    used: KeysUsed
    burials: Burials
    projector: Projector
    loops: dict[str, Loop]


def account_plane(engine: AsyncEngine) -> tuple[Accounts, PriceLists]:
    """Open the account plane over a database."""
    price_lists = PriceLists(engine, wall_clock_ms)
    return Accounts(engine, wall_clock_ms, price_lists.zone_of), price_lists


async def opened(
    stack: AsyncExitStack,
    settings: Settings,
    stores: Stores,
    accounts: Accounts,
    price_lists: PriceLists,
    *,
    open_epoch: OpenEpoch,
) -> Serving:
    """Open the seat plane; raises `SettingError` where the keys of receipts cannot be had."""

    async def project(tenant: str) -> bool:
        return await projector.project(tenant)

    async def committed(partition: int) -> tuple[int, int]:
        async with reading(accounts.engine) as connection:
            cursor = await cursors.load(connection, partition)
        return cursor.epoch, cursor.seq

    store = stores.open()
    batchers = [
        await stack.enter_async_context(Batcher(stores.open(), partition))
        for partition in range(stores.options.partitions)
    ]
    burials = Burials(accounts, store.partition_of, settings.w_ms + settings.q_ms)
    keys = await _keys(accounts, store, settings)
    seats = Seats(
        store,
        batchers,
        keys.keyring,
        project=project,
        open_epoch=open_epoch,
        bury=burials.bury,
    )
    keys.serve(seats)
    upkeep = Upkeep(seats, store, batchers, committed)
    projector = Projector(accounts, seats, price_lists.tenant_scoped)
    used = KeysUsed(accounts)
    loops: dict[str, Loop] = {
        "open": upkeep.keep_open_for_ever,
        "again": upkeep.add_lost_again_for_ever,
        "keys": used.note_for_ever,
        "receipt keys": keys.follow_for_ever,
        **_follows(stores),
    }
    return Serving(stores, accounts, price_lists, seats, upkeep, keys, used, burials, projector, loops)


def _follows(stores: Stores) -> dict[str, Loop]:
    if not stores.url.startswith(SENTINEL_SCHEME):
        return {}
    return {"primary": lambda: follow_for_ever(watchers(stores.url, stores.options), stores.opened)}


def settle_memory() -> None:
    """Keep what a start made out of every later search for garbage, and search less often: most goes by itself."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER)


async def serve_clients(
    stack: AsyncExitStack, serving: Serving, address: Address, *, shared: bool = False
) -> str:
    """Serve clients on an address until `stack` closes; `shared` with other processes.  Returns the URL."""
    seats, stores = serving.seats, serving.stores
    channels = Channels(seats.admit, seats.epochs)
    news = Subscription(
        lambda: connect(stores.url, stores.options), range(stores.options.partitions), channels.tell
    )
    loops: dict[str, Loop] = {
        "channels": channels.look_for_ever,
        "news": news.hear_for_ever,
        "line": seats.line.look_for_ever,
        "load": lambda: load.look_for_ever(seats.waited_s),
    }
    await keep_going(stack, loops)
    clients = client.make_app(seats, serving.keys, serving.used.add)
    add_channel(clients, channels)
    settle_memory()
    url = await listen(
        stack, clients, address, channels.drain, shared=shared, connection=partial(ClientConnection, clients)
    )
    # Before the listener closes, so that nobody who waits in line keeps it waiting.
    stack.callback(seats.line.close)
    return url


def _secret(path: Path) -> bytes:
    secret = folder.write_once(path, lambda: secrets.token_hex(SECRET_BYTES_MIN)).encode()
    if len(secret) < SECRET_BYTES_MIN:
        raise SettingError(f"{path} must hold at least {SECRET_BYTES_MIN} bytes of secret.")
    return secret


async def _keys(accounts: Accounts, store: Store, settings: Settings) -> Keys:
    keys = Keys(accounts, store, _secret(settings.secret_path), settings.issuer)
    try:
        await keys.load()
    except Refusal:
        raise SettingError(
            "The database does not answer, and the store holds no receipt keys yet: a first start needs both."
        ) from None
    except WrongSecretError as error:
        raise SettingError(f"{settings.secret_path} is not this database's secret: {error}.") from None
    return keys


async def keep_going(stack: AsyncExitStack, loops: dict[str, Loop]) -> None:
    """Run loops until `stack` closes, the last one first."""
    for name, loop in loops.items():
        await stack.enter_async_context(_kept_going(name, loop))


@asynccontextmanager
async def _kept_going(name: str, loop: Loop) -> AsyncIterator[None]:
    """Run a loop beside the listeners; what it did not expect is logged, and it goes on."""

    async def go_on() -> None:
        while True:
            try:
                await loop()
            except Exception:  # noqa: BLE001 - a loop that dies in silence is worse
                log.exception("loop failed", loop=name)
            await asyncio.sleep(LOOP_PAUSE_S)

    task = asyncio.create_task(go_on(), name=name)
    try:
        yield
    finally:
        # A library that loses a cancellation, as may happen where what it waits for fails at that instant, is told again.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_AGAIN_S)
            if not task.done():
                log.warning("loop does not stop", loop=name)
