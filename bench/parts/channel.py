"""seatd over the channel: one lease a frame, lists of a gateway, and what an idle socket costs."""

import asyncio
import gc

from bench.parts import TENANT, Bench
from bench.processes import resident_bytes
from bench.server import Server

SEATS = 1_000_000
IDLE = 8_000
GATEWAYS, GATEWAY_LEASES = 4, 256


async def run(bench: Bench) -> None:
    """Renew over 64 sockets with one frame under way on each; then as four gateways with lists of 256."""
    async with Server() as server:
        key = await server.tenant(TENANT, tariff="team", seats=SEATS)
        bench.found["channel"] = {
            "renew": await bench.renewals(server, key, transport="channel"),
            "pulse": await bench.pulse(server, key, transport="channel", prefix="v"),
            "gateway": await bench.load(
                server,
                key,
                transport="channel",
                work="gateway",
                prefix="w",
                connections=GATEWAYS,
                desks=GATEWAYS * GATEWAY_LEASES,
            ),
        }


async def idle(bench: Bench) -> None:
    """Hold sockets open that say nothing; weigh seatd before and with them."""
    count = IDLE // 8 if bench.quick else IDLE
    gc.collect()
    async with Server() as server:
        key = await server.tenant(TENANT, tariff="team", seats=1)
        async with bench.generator.holding(
            server.url, transport="channel", keys=[key], connections=count // 4
        ):
            pass  # what only the first sockets cost is not an idle socket's
        await asyncio.sleep(1)
        before = resident_bytes(server.pid)
        async with bench.generator.holding(server.url, transport="channel", keys=[key], connections=count):
            await asyncio.sleep(1)
            each = (resident_bytes(server.pid) - before) / count
    bench.found["idle"] = {"channels": count, "bytes": round(each)}
