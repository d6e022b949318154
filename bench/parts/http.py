"""seatd over HTTP beside the bare handler: capacity, a lone renewal, half the load; before and after, for the drift."""

import asyncio
from typing import Any

from bench.parts import DESKS, IN_USE, TENANT, Bench
from bench.processes import peer
from bench.server import Server
from bench.stores import StoreProcess

SEATS = 1_000_000
TENANTS = 1_000
MADE_AT_ONCE = 20


async def run(bench: Bench) -> None:
    """Measure seatd with everything switched on, fsync always, and then a lone renewal with everysec."""
    bare = {
        "renew": await bench.renewals(bench.bare),
        "cycle": await bench.cycles(bench.bare),
        "pulse": await bench.pulse(bench.bare),
    }
    async with Server() as server:
        key = await server.tenant(TENANT, tariff="team", seats=SEATS)
        ours = {
            "renew": await bench.renewals(server, key),
            "cycle": await bench.cycles(server, key, prefix="v"),
            "cycle_in_use": await bench.cycles(server, key, prefix="w", desks=IN_USE),
            "pulse": await bench.pulse(server, key, prefix="x"),
        }
        rate = ours["renew"]["all"]["per_s"] / 2
        ours["half"] = await bench.renewals(server, key, prefix="y", rate=rate)
        bare["half"] = await bench.renewals(bench.bare, rate=rate)
    with StoreProcess("everysec") as store:
        async with Server("--store", store.url) as server:
            key = await server.tenant(TENANT, tariff="team", seats=DESKS)
            ours["pulse_everysec"] = await bench.pulse(server, key)
    bare["renew_after"] = await bench.renewals(bench.bare)
    bare["cycle_after"] = await bench.cycles(bench.bare)
    bench.found["http"] = {"bare": bare, "seatd": ours}


async def tenants(bench: Bench) -> None:
    """Renew over as many connections, of one tenant and of many."""
    found = []
    for count in (1, TENANTS // 10 if bench.quick else TENANTS):
        async with Server() as server:
            names = [f"t{number:04}" for number in range(count)]
            keys: list[str] = []
            for first in range(0, count, MADE_AT_ONCE):
                lot = names[first : first + MADE_AT_ONCE]
                keys += await asyncio.gather(
                    *(server.tenant(name, tariff="team", seats=SEATS) for name in lot)
                )
            plan: dict[str, Any] = {"work": "renew", "connections": TENANTS, "desks": 2 * TENANTS}
            found.append({"tenants": count, **await bench.load(server, keys=keys, **plan)})
    bench.found["many"] = found


async def script(bench: Bench) -> None:
    """Measure the bare handler with one script call a request."""
    with StoreProcess() as store:
        async with peer("scripted", store.url, str(SEATS)) as served:
            bench.found["script"] = {"renew": await bench.renewals(served)}


async def sql(bench: Bench) -> None:
    """Measure the bare handler with PostgreSQL, in both designs, with so many seats in use."""
    if bench.postgres is None:
        return
    found = {}
    for design in ("counted", "guarded"):
        async with peer("sql", bench.database(), str(SEATS), design) as served:
            found[design] = {
                "cycle": await bench.cycles(served, desks=IN_USE),
                "renew": await bench.renewals(served, prefix="v"),
            }
    bench.found["sql"] = found
