"""The composition root: opens resources, starts loops, mounts the listeners.  No business.

Everything is opened in one place, in one order, and closed in the other: the listeners close first, so that what
is in flight is answered; then the loops stop, the recorder drains, the batchers flush; the embedded store
goes last.
"""

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd import folder
from seatd.accounts import people
from seatd.accounts.base import wall_clock_ms
from seatd.accounts.receipt_keys import SECRET_BYTES_MIN, WrongSecretError
from seatd.accounts.service import Accounts
from seatd.accounts.tokens import make as make_key
from seatd.config import SENTINEL_SCHEME, SettingError, Settings, checked
from seatd.database import migrations
from seatd.database.engine import make_engine, reading
from seatd.embedded import EmbeddedStore
from seatd.flows import demo, lost_leases
from seatd.flows.burials import Burials
from seatd.flows.closed_months import ClosedMonths
from seatd.flows.closing import Closing, Waits
from seatd.flows.epochs import Epochs, Trust
from seatd.flows.failover import Failovers
from seatd.flows.inquiries import Inquiries
from seatd.flows.keyring import Keys
from seatd.flows.keys_used import KeysUsed
from seatd.flows.months import Months
from seatd.flows.policy import Projector
from seatd.flows.price_lists import PriceLists
from seatd.flows.services import Services
from seatd.flows.signing import Signer
from seatd.model import Refusal, Scope
from seatd.seats.batch import Batcher
from seatd.seats.news import Subscription
from seatd.seats.service import Seats
from seatd.seats.store import Store, StoreAwayError, StoreOptions, connect, watchers
from seatd.telemetry import configure_logging, log
from seatd.usage import cursors
from seatd.usage.recorder import Recorder
from seatd.web import client
from seatd.web.admin import add_admin_routes
from seatd.web.billing import add_billing_routes
from seatd.web.billing_inquiries import add_inquiry_routes
from seatd.web.channel import add_channel
from seatd.web.channels import Channels
from seatd.web.closed import add_closed_routes
from seatd.web.listener import listen
from seatd.web.ops import Probes, TenantNow, add_ops_routes
from seatd.web.problems import problems
from seatd.web.receipt_keys import add_receipt_key_routes
from seatd.web.usage import add_usage_routes

DRAIN_MS: Final = 5_000
CATCH_UP_MS: Final = 5_000
INTERNAL_BODY_MAX: Final = 1024 * 1024 - 1
LOOP_PAUSE_S: Final = 1.0
DATABASE_AGAIN_S: Final = 2.0
ACTOR: Final = "seatd"


@dataclass(frozen=True, slots=True)
class Running:
    """A seatd that serves: where its listeners are."""

    url: str
    internal_url: str


class Database:
    """The account database's readiness: it is prepared once, as soon as it answers."""

    def __init__(self, settings: Settings, accounts: Accounts) -> None:
        self._url = settings.database_url
        self._accounts = accounts
        self._key = folder.write_once(settings.data / "admin.key", lambda: make_key(Scope.ADMIN, None))
        self.prepared = False

    async def prepare(self) -> None:
        """Bring the schema up to date and let the admin key open it; go on without where SQL is away."""
        try:
            await migrations.upgrade(self._url)
            await self._accounts.install_key(self._key, actor=ACTOR)
            self.prepared = True
        except Refusal as refusal:
            log.warning("database not ready", code=refusal.code)

    async def prepare_for_ever(self) -> None:
        """Prepare the database when it comes back, if it was away at the start."""
        while not self.prepared:
            await asyncio.sleep(DATABASE_AGAIN_S)
            await self.prepare()
        await asyncio.Event().wait()


async def serve(settings: Settings, welcome: Callable[[Running], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is in flight and return.

    `welcome` is told once, when the listeners are open.  Raises `SettingError` where it cannot start; the message
    says why and what to do.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with running(settings) as served:
        log.info("serving", url=served.url, internal_url=served.internal_url)
        if welcome is not None:
            welcome(served)
        await stopping.wait()
        log.info("stopping")


def run(settings: Settings, welcome: Callable[[Running], None] | None = None) -> None:
    """Run `serve` on the fast event loop."""
    configure_logging(settings.log_level, console=settings.log_console)
    os.umask(0o077)  # what is written under the data folder is for this user alone
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, welcome))


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Open everything, serve, and close everything again."""
    checked(settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(folder.held(settings.data))
        engine = make_engine(settings.database_url)
        stack.push_async_callback(engine.dispose)
        embedded = None
        if not settings.store:
            embedded = await stack.enter_async_context(EmbeddedStore(settings.data / "store"))
        yield await _compose(stack, settings, engine, embedded)


async def _compose(
    stack: AsyncExitStack, settings: Settings, engine: AsyncEngine, embedded: EmbeddedStore | None
) -> Running:
    url = embedded.url if embedded else settings.store
    options = StoreOptions(
        q_ms=settings.q_ms, stream_max=settings.stream_max, delta_ms=settings.delta_ms, w_ms=settings.w_ms
    )

    async def opened_store() -> Store:
        store = Store(connect(url, options), options)
        stack.push_async_callback(store.close)
        return store

    async def project(tenant: str) -> bool:
        return await projector.project(tenant)

    async def open_epoch(partition: int, stepped: int) -> None:
        if await partitions.open(partition, stepped):
            projector.everything = True

    async def committed(partition: int) -> tuple[int, int]:
        async with reading(engine) as connection:
            cursor = await cursors.load(connection, partition)
        return cursor.epoch, cursor.seq

    price_lists = PriceLists(engine, wall_clock_ms)
    accounts = Accounts(engine, wall_clock_ms, price_lists.zone_of)
    database = Database(settings, accounts)
    await database.prepare()
    store = await opened_store()
    batchers = [
        await stack.enter_async_context(Batcher(await opened_store(), partition))
        for partition in range(options.partitions)
    ]
    trust = Trust(settings.data / "hwm", embedded.loaded_whole if embedded else None)
    partitions = Epochs(engine, store, trust)
    burials = Burials(accounts, store.partition_of, settings.w_ms + settings.q_ms)
    keys = await _keys(accounts, store, settings)
    seats = Seats(
        store,
        batchers,
        keys.keyring,
        project=project,
        open_epoch=open_epoch,
        bury=burials.bury,
        committed=committed,
    )
    keys.serve(seats)
    projector = Projector(accounts, seats, price_lists.tenant_scoped)
    used = KeysUsed(accounts)
    channels = Channels(seats.admit, seats.epochs)
    news = Subscription(lambda: connect(url, options), range(options.partitions), channels.tell)
    recorder = Recorder(
        engine,
        await opened_store(),
        people.persons_for,
        clock=wall_clock_ms,
        partitions=range(options.partitions),
        away=(StoreAwayError,),
    )
    loops: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "database": database.prepare_for_ever,
        "open": seats.keep_open_for_ever,
        "again": seats.add_lost_again_for_ever,
        "note": partitions.note_for_ever,
        "tidy": burials.tidy_for_ever,
        "lost": lambda: lost_leases.end_for_ever(engine, wall_clock_ms, lambda: recorder.waiting),
        "sweep": seats.sweep_for_ever,
        "project": projector.project_for_ever,
        "keys": used.note_for_ever,
        "channels": channels.look_for_ever,
        "news": news.hear_for_ever,
        "receipt keys": keys.follow_for_ever,
        "record": lambda: recorder.run_for_ever(settings.recorder_every_ms),
    }
    loops |= _after_failovers(url, store, options)
    for name, loop in loops.items():
        await stack.enter_async_context(_kept_going(name, loop))
    stack.push_async_callback(recorder.close, DRAIN_MS)
    services = Services(accounts, seats, projector.project, settings.revoke_hold_ms)
    if settings.demo:
        await _demo(settings, services, price_lists)
    clients = client.make_app(seats, keys, used.add)
    add_channel(clients, channels)
    public = await listen(stack, clients, settings.listen, channels.drain)
    months = Months(engine, price_lists, clock=wall_clock_ms, waiting=lambda: recorder.waiting)
    house = web.Application(middlewares=[problems], client_max_size=INTERNAL_BODY_MAX)
    house[client.KEY_USED] = used.add
    add_admin_routes(house, services)
    add_receipt_key_routes(house, keys)
    add_usage_routes(house)
    add_billing_routes(house, months, price_lists)
    add_closed_routes(house, _closing(months, recorder, keys, settings), ClosedMonths(engine))
    add_inquiry_routes(house, Inquiries(engine, months))
    add_ops_routes(house, _probes(seats, store, projector))
    internal = await listen(stack, house, settings.internal_listen)
    return Running(public, internal)


def _after_failovers(
    url: str, store: Store, options: StoreOptions
) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
    if not url.startswith(SENTINEL_SCHEME):
        return {}
    failovers = Failovers(store, watchers(url, options), options, range(options.partitions))
    return {"failover": failovers.close_earlier_for_ever}


def _closing(months: Months, recorder: Recorder, keys: Keys, settings: Settings) -> Closing:
    return Closing(
        months,
        clock=wall_clock_ms,
        recorded=lambda: recorder.caught_up(CATCH_UP_MS),
        waiting=lambda: recorder.waiting,
        signer=lambda: Signer(keys.keyring),
        waits=Waits(settings.q_ms, settings.delta_ms, settings.w_ms),
    )


def _probes(seats: Seats, store: Store, projector: Projector) -> Probes:
    async def tenants_now() -> list[TenantNow]:
        return [TenantNow(*row) for row in await seats.everywhere()]

    async def store_ok() -> bool:
        return await store.now_ms() > 0

    return Probes(tenants_now, store_ok, seats.reachable, lambda: projector.database_up)


async def _demo(settings: Settings, services: Services, price_lists: PriceLists) -> None:
    try:
        await demo.prepare(services, price_lists, settings.data / demo.KEYS)
    except Refusal as refusal:
        raise SettingError(f"The demo tenants cannot be made: {refusal.detail}") from None


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


@asynccontextmanager
async def _kept_going(name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
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
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
