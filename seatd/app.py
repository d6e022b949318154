"""The composition root: opens resources, starts loops, mounts the listeners.  No business.

Everything is opened in one place, in one order, and closed in the other: the listeners close first, so that what
is in flight is answered; then the loops stop, the recorder drains, the batchers flush; the embedded store
goes last.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import uvloop
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd import folder
from seatd.accounts import people
from seatd.accounts.base import wall_clock_ms
from seatd.accounts.service import Accounts
from seatd.accounts.tokens import make as make_key
from seatd.config import SENTINEL_SCHEME, SettingError, Settings, checked
from seatd.database import migrations
from seatd.database.engine import make_engine
from seatd.embedded import EmbeddedStore
from seatd.flows import demo, erasure, lost_leases
from seatd.flows.aside import made_aside
from seatd.flows.closed_months import ClosedMonths
from seatd.flows.closing import Closing, Waits
from seatd.flows.epochs import Epochs, Trust
from seatd.flows.failover import Failovers
from seatd.flows.inquiries import Inquiries
from seatd.flows.keyring import Keys
from seatd.flows.month_exports import Bookings
from seatd.flows.months import Months
from seatd.flows.policy import Projector
from seatd.flows.price_lists import PriceLists
from seatd.flows.retention import FOLDER as ARCHIVE
from seatd.flows.retention import Archiving
from seatd.flows.services import Services
from seatd.flows.signing import Signer
from seatd.model import Refusal, Scope
from seatd.seats.service import Seats
from seatd.seats.store import Store, StoreAwayError, StoreOptions, watchers
from seatd.telemetry import configure_logging, log
from seatd.usage.recorder import Recorder
from seatd.web import client
from seatd.web.admin import add_admin_routes
from seatd.web.archive import add_archive_routes
from seatd.web.billing import add_billing_routes
from seatd.web.billing_inquiries import add_inquiry_routes
from seatd.web.closed import add_closed_routes
from seatd.web.listener import listen
from seatd.web.month_exports import add_month_export_routes
from seatd.web.ops import Probes, TenantNow, add_ops_routes
from seatd.web.problems import problems
from seatd.web.receipt_keys import add_receipt_key_routes
from seatd.web.usage import add_usage_routes
from seatd.workers.crew import Crew, reserve
from seatd.workers.serving import (
    Loop,
    Serving,
    Stores,
    account_plane,
    keep_going,
    opened,
    serve_clients,
    store_options,
)

DRAIN_MS: Final = 5_000
CATCH_UP_MS: Final = 5_000
INTERNAL_BODY_MAX: Final = 1024 * 1024 - 1
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
    opening = asyncio.Lock()

    async def open_epoch(partition: int, stepped: int) -> None:
        async with opening:  # every worker may ask at the same time
            if await partitions.open(partition, stepped):
                planes.projector.everything = True

    stores = Stores(stack, embedded.url if embedded else settings.store, store_options(settings))
    accounts, price_lists = account_plane(engine)
    database = Database(settings, accounts)
    await database.prepare()
    store = stores.open()
    partitions = Epochs(
        engine, store, Trust(settings.data / "hwm", embedded.loaded_whole if embedded else None)
    )
    planes = await opened(stack, settings, stores, accounts, price_lists, open_epoch=open_epoch)
    recorder = _recorder(engine, stores)
    archiving = Archiving(
        engine,
        settings.data / ARCHIVE,
        clock=wall_clock_ms,
        signer=lambda: Signer(planes.keys.keyring),
    )
    loops: dict[str, Loop] = {
        "database": database.prepare_for_ever,
        **planes.loops,
        "note": partitions.note_for_ever,
        "tidy": planes.burials.tidy_for_ever,
        "forget": lambda: erasure.forget_for_ever(engine, wall_clock_ms, settings.forget_users_after_days),
        "archive": lambda: archiving.archive_for_ever(settings.keep_usage_months),
        "lost": lambda: lost_leases.end_for_ever(engine, wall_clock_ms, lambda: recorder.waiting),
        "sweep": planes.upkeep.sweep_for_ever,
        "project": planes.projector.project_for_ever,
        "record": lambda: recorder.run_for_ever(settings.recorder_every_ms),
        **_after_failovers(stores.url, store, stores.options),
    }
    await keep_going(stack, loops)
    stack.push_async_callback(recorder.close, DRAIN_MS)
    services = Services(accounts, planes.seats, planes.projector.project, settings.revoke_hold_ms)
    if settings.demo:
        await _demo(settings, services, price_lists)
    probes = _probes(planes.seats, store, planes.projector)
    if settings.workers == 1:
        public = await serve_clients(stack, planes, settings.listen)
    else:
        crew = Crew(settings, stores.url, reserve(settings.listen), open_epoch)
        public = (await stack.enter_async_context(crew)).url
        probes = replace(probes, families=crew.families)
    house = _house(settings, planes, services, recorder, probes, archiving=archiving)
    return Running(public, await listen(stack, house, settings.internal_listen))


def _recorder(engine: AsyncEngine, stores: Stores) -> Recorder:
    return Recorder(
        engine,
        stores.open(),
        people.persons_for,
        clock=wall_clock_ms,
        partitions=range(stores.options.partitions),
        away=(StoreAwayError,),
    )


def _house(
    settings: Settings,
    planes: Serving,
    services: Services,
    recorder: Recorder,
    probes: Probes,
    *,
    archiving: Archiving,
) -> web.Application:
    """Mount everything that the internal listener serves."""
    engine, price_lists = planes.accounts.engine, planes.price_lists
    months = Months(engine, price_lists, clock=wall_clock_ms, waiting=lambda: recorder.waiting)
    house = web.Application(middlewares=[problems], client_max_size=INTERNAL_BODY_MAX)
    house[client.KEY_USED] = planes.used.add
    add_admin_routes(house, services)
    add_receipt_key_routes(house, planes.keys)
    add_usage_routes(house)
    _add_money_routes(house, months, price_lists, _closing(months, recorder, planes.keys, settings), settings)
    add_archive_routes(house, archiving)
    add_ops_routes(house, probes)
    return house


def _add_money_routes(
    house: web.Application, months: Months, price_lists: PriceLists, closing: Closing, settings: Settings
) -> None:
    closed = ClosedMonths(months.engine)
    add_billing_routes(house, months, price_lists)
    add_closed_routes(house, closing, closed)
    add_month_export_routes(house, Bookings(closed, settings.datev_accounts))
    add_inquiry_routes(house, Inquiries(months.engine, months))


def _after_failovers(url: str, store: Store, options: StoreOptions) -> dict[str, Loop]:
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
        make=made_aside,
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
