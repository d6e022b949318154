"""Latency over offered load, open loop, for each: the bare handler, one script call a request, PostgreSQL, seatd, the channel."""

from typing import Any

from bench.parts import TENANT, Bench, Served
from bench.parts.http import SEATS
from bench.processes import peer
from bench.server import Server
from bench.stores import StoreProcess

SHARES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0)
SHARES_QUICK = (0.25, 0.5, 0.9)
CONNECTIONS = 256


async def run(bench: Bench) -> None:
    """Find each one's capacity for renewals, then offer shares of it."""
    found = {"bare handler": await _curve(bench, bench.bare)}
    with StoreProcess() as store:
        async with peer("scripted", store.url, str(SEATS)) as served:
            found["one script call a request"] = await _curve(bench, served)
    if database := bench.database():
        async with peer("sql", database, str(SEATS), "guarded") as served:
            found["PostgreSQL, guarded counter"] = await _curve(bench, served)
    async with Server() as server:
        key = await server.tenant(TENANT, tariff="team", seats=SEATS)
        found["seatd, HTTP"] = await _curve(bench, server, key)
        found["seatd, channel"] = await _curve(bench, server, key, transport="channel", prefix="v")
    bench.found["curves"] = found


async def _curve(bench: Bench, served: Served, key: str = "none", **plan: Any) -> list[dict[str, Any]]:
    seconds = max(bench.seconds / 2, 1.0)
    plan = {"seconds": seconds, "desks": 1_024, "connections": CONNECTIONS, **plan}
    capacity = (await bench.renewals(served, key, **plan))["all"]["per_s"]
    points = []
    for share in SHARES_QUICK if bench.quick else SHARES:
        counted = await bench.renewals(served, key, **plan, rate=max(capacity * share, 1))
        points.append({"share": share, "offered_per_s": round(capacity * share, 1), **counted["all"]})
    return points
