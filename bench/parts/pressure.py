"""Everybody at once: a login storm, and twice the load that there is room for.

A storm's users have a connection each, opened before.  Under overload there are as many connections as it takes for the
server to see the queue, not the generator.
"""

from typing import Any

from bench.parts import TENANT, Bench
from bench.server import Server

TENANTS, USERS, SEATS, WITHIN_S = 50, 10_000, 8_000, 2.0
CAPACITY_CONNECTIONS, OVERLOAD_CONNECTIONS, OVERLOAD_DESKS = 256, 2_000, 4_000
RENEWALS, OFFERED = 0.4, 2.0
"""Of the capacity: renewals offered, and all that is offered."""
PROPER = ("ok", "no_seat")


async def storm(bench: Bench) -> None:
    """Let all users of 50 tenants acquire within two seconds, a fifth more than there are seats."""
    scale = 10 if bench.quick else 1
    users, seats = USERS // scale, SEATS // scale
    async with Server() as server:
        keys = [
            await server.tenant(f"t{number:02}", tariff="team", seats=seats // TENANTS)
            for number in range(TENANTS)
        ]
        counted = await bench.generator.run(
            server.url,
            work="storm",
            keys=keys,
            standing=users,
            connections=users,
            rate=users / WITHIN_S,
            seconds=WITHIN_S * 1.25,  # instants are drawn: the last few come a little later
        )
    kinds = counted["kinds"]
    granted, denied = kinds.get("granted", {}), kinds.get("denied", {})
    grants, full = granted.get("count", 0), denied.get("codes", {}).get("no_seat", 0)
    bench.found["storm"] = {
        "users": users,
        "seats": seats,
        "granted": granted,
        "denied": denied,
        # No answer, or another refusal; a grant beyond the caps; `no_seat` while there were seats.
        "wrong": users - grants - full + max(grants - seats, 0) + max(full - (users - seats), 0),
        "generator_busy": counted["generator_busy"],
    }


async def overload(bench: Bench) -> None:
    """Find the capacity for renewals and acquires of newcomers, one to four; then offer twice that."""
    share = RENEWALS / OFFERED
    async with Server() as server:
        key = await server.tenant(TENANT, tariff="team", seats=10_000_000)
        plan = {
            "work": "arrivals",
            "share": share,
            "desks": OVERLOAD_DESKS,
            "connections": OVERLOAD_CONNECTIONS,
        }
        full = await bench.load(
            server, key, standing=200_000, **{**plan, "connections": CAPACITY_CONNECTIONS}
        )
        capacity = _good(full) / full["seconds"]
        over = await bench.load(
            server,
            key,
            standing=int(capacity * OFFERED * bench.seconds * 2),
            rate=capacity * OFFERED,
            prefix="v",
            **plan,
        )
    renewals = over["kinds"].get("renew", {"count": 0, "codes": {}})
    bench.found["overload"] = {
        "capacity_per_s": round(capacity, 1),
        "offered_per_s": round(capacity * OFFERED, 1),
        "goodput_per_s": round(_good(over) / over["seconds"], 1),
        "renewals_refused": renewals["count"] - renewals["codes"].get("ok", 0),
        "renewals": renewals,
        "closed": full,
        "over": over,
    }


def _good(counted: dict[str, Any]) -> int:
    """Count the answers that are what was asked for: a grant, a renewal, a seat that there is not."""
    return sum(counted["all"]["codes"].get(code, 0) for code in PROPER)
