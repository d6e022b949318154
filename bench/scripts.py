"""Peer (d): the scripts alone, in batches, with nothing in front of them; and what a lease costs the store.

Decides what is counted as the store's work: `used_cpu` of its process (fsync, sockets and all) and the time inside
of scripts, by its own INFO.
"""

import itertools
import time
from typing import Any

from bench.plane import Plane, plane
from bench.stores import StoreProcess

BATCHES = (64, 256)
SIZES = (100, 1_000, 10_000, 100_000)
SIZES_FULL = (*SIZES, 1_000_000)
TENANTS = (1, 100, 1_000, 10_000)
RENEWED = 5_000
FILL = 20_000
FILL_S = 60.0


def _people(count: int, tenants: int = 1) -> list[tuple[str, str]]:
    return [(f"t{number % tenants:04}", f"us{number:014}") for number in range(count)]


def _caps(people: list[tuple[str, str]]) -> dict[str, int]:
    return dict.fromkeys((tenant for tenant, _ in people), len(people))


async def _renewed(
    ours: Plane, store: StoreProcess, operations: list[Any], batch: int, seconds: float
) -> dict[str, Any]:
    """Renew in batches for so long; gives renewals a second and what each cost the store."""
    lots = [operations[first : first + batch] for first in range(0, len(operations), batch)]
    lots = [lot for lot in lots if len(lot) == batch] or lots
    turn = itertools.cycle(lots)
    for _ in range(min(len(lots), 20)):
        await ours.store.run(0, [("renew", next(turn))])
    cpu_s, script_us, began_s, count = store.used_cpu_s(), store.script_us(), time.perf_counter(), 0
    while time.perf_counter() < began_s + seconds:
        lot = next(turn)
        (outcome,) = await ours.store.run(0, [("renew", lot)])
        if isinstance(outcome, Exception):
            raise outcome
        if outcome[0][0] != "renewed":
            raise RuntimeError(f"a renewal came to {outcome[0]}")
        count += len(lot)
    took_s = time.perf_counter() - began_s
    return {
        "batch": batch,
        "per_s": round(count / took_s, 1),
        "cpu_us": round((store.used_cpu_s() - cpu_s) * 1e6 / count, 3),
        "script_us": round((store.script_us() - script_us) / count, 3),
    }


async def batches(seconds: float, fsync: str) -> list[dict[str, Any]]:
    """Renew 5,000 leases of one tenant in batches of 64 and 256."""
    people = _people(RENEWED)
    with StoreProcess(fsync) as store:
        async with plane(store.url, _caps(people)) as ours:
            operations = await ours.renewals(await ours.acquire(people))
            return [
                {"fsync": fsync, **await _renewed(ours, store, operations, batch, seconds)}
                for batch in BATCHES
            ]


async def sizes(seconds: float, *, full: bool) -> tuple[list[dict[str, Any]], list[int]]:
    """Renew up to 5,000 leases of tenants of 10^2 to 10^5 or 10^6; gives rows, and the sizes that took too long to seat."""
    rows: list[dict[str, Any]] = []
    left_out: list[int] = []
    for size in SIZES_FULL if full else SIZES:
        people = _people(min(size, RENEWED))
        with StoreProcess("no") as store:
            async with plane(store.url, {"t0000": size + 1}) as ours:
                leases = await ours.acquire(people)
                if not await _filled(ours, store, size - len(people)):
                    left_out.append(size)
                    continue
                operations = await ours.renewals(leases)
                rows.append({"leases": size, **await _renewed(ours, store, operations, 64, seconds)})
    return rows, left_out


async def _filled(ours: Plane, store: StoreProcess, count: int) -> bool:
    """Seat so many more; False where that takes too long.  Their events are dropped: nobody records here."""
    give_up_s = time.monotonic() + FILL_S
    for first in range(0, count, FILL):
        await ours.fill("t0000", first, min(FILL, count - first))
        ours.drop_events(store.client)
        if time.monotonic() > give_up_s:
            return False
    return True


async def tenants(seconds: float) -> list[dict[str, Any]]:
    """Renew leases of 1 to 10,000 tenants that share the load evenly: one of each in turn."""
    rows = []
    for count in TENANTS:
        people = _people(max(count, 1_000), count)
        with StoreProcess() as store:
            async with plane(store.url, _caps(people)) as ours:
                operations = await ours.renewals(await ours.acquire(people))
                rows.append({"tenants": count, **await _renewed(ours, store, operations, 64, seconds)})
    return rows


async def memory(leases: int) -> dict[str, Any]:
    """Weigh a live lease: all keys of its tenant, recorded events excepted; ids of 16 characters, a request id too."""
    people = _people(leases)
    with StoreProcess("no") as store:
        async with plane(store.url, _caps(people)) as ours:
            await ours.acquire(people[:1])
            before = store.info()["used_memory"]
            await ours.acquire(people[1:], request="r")
            ours.drop_events(store.client)
            bytes_each = (store.info()["used_memory"] - before) / (leases - 1)
    return {"leases": leases, "bytes": round(bytes_each, 1)}
