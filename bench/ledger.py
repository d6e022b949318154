"""How fast usage events come from the stream into the ledger: seatd's own recorder, on SQLite and on PostgreSQL."""

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.plane import KEY, plane
from bench.stores import StoreProcess
from seatd.accounts.people import persons_for
from seatd.database import migrations
from seatd.database.engine import make_engine
from seatd.seats.model import Caller
from seatd.usage.recorder import Recorder

TENANTS = 50


async def ingest(leases: int, postgres_url: str) -> list[dict[str, Any]]:
    """Record a start and an end of each of so many leases; gives events a second on each database."""
    with TemporaryDirectory(prefix="seatd-bench-") as folder:
        urls = {"SQLite": f"sqlite:///{Path(folder) / 'ledger.db'}", "PostgreSQL": postgres_url}
        rows = []
        for name, url in urls.items():
            if url:
                await asyncio.to_thread(asyncio.run, migrations.upgrade(url))
                rows.append({"database": name, **await _recorded(leases, url)})
        return rows


async def _recorded(leases: int, url: str) -> dict[str, Any]:
    people = [(f"t{number % TENANTS:04}", f"us{number:014}") for number in range(leases)]
    engine = make_engine(url)
    try:
        with StoreProcess() as store:
            async with plane(store.url, dict.fromkeys((tenant for tenant, _ in people), leases)) as ours:
                taken = await ours.acquire(people)
                await asyncio.gather(
                    *(
                        ours.seats.release(Caller(each.tenant, KEY), each.lease, each.receipt)
                        for each in taken
                    )
                )
                recorder = Recorder(
                    engine, ours.store, persons_for, clock=lambda: time.time_ns() // 1_000_000
                )
                began_s, events = time.perf_counter(), 0
                while recorded := await recorder.record_once(0):
                    events += recorded
                took_s = time.perf_counter() - began_s
    finally:
        await engine.dispose()
    return {"events": events, "per_s": round(events / took_s, 1)}
