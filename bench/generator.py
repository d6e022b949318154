"""The load generator, a process of its own: reads a plan from standard input, prints what it counted.

    {"url": ..., "transport": "http" | "channel", "keys": [a key a tenant], "connections": in all,
     "work": "renew" | "cycle" | "mix" | "arrivals" | "storm" | "gateway" | "idle" | "pulse",
     "desks": who sit (renew, mix), "standing": who come, "share": of renewals in a mix,
     "rate": offered a second (0: closed loop), "seconds": ..., "core": which CPU, "prefix": of the users, "seed": ...}

Decides in which order a run goes: connect, seat who is to sit, let the work run, count.
"""

import asyncio
import gc
import json
import os
import resource
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import uvloop

from bench import loops
from bench.http1 import HttpConnection
from bench.latencies import Latencies
from bench.websocket import ChannelConnection
from bench.workloads import Arriving, Cycling, Desk, Mixed, Renewing, Workload, desks

WARM_UP = 0.25  # of the time, before anything is counted
CONNECT_AT_ONCE, CONNECT_TRIES, CONNECT_PAUSE_S = 100, 5, 1.0
SEAT_TRIES, SEAT_PAUSE_S = 50, 0.2
PASSING = ("busy", "store_unavailable")
GATEWAY_LEASES = 256
PULSE_S = 0.01


async def _connect(plan: dict[str, Any]) -> list[list[Any]]:
    """Open the connections, spread evenly over the tenants' keys."""
    url = urlsplit(plan["url"])
    kind = HttpConnection if plan["transport"] == "http" else ChannelConnection
    loop = asyncio.get_running_loop()
    turn = asyncio.Semaphore(CONNECT_AT_ONCE)

    async def one(key: str) -> Any:
        for tries_left in reversed(range(CONNECT_TRIES)):
            async with turn:
                _, made = await loop.create_connection(lambda: kind(url.netloc, key), url.hostname, url.port)
                try:
                    if isinstance(made, ChannelConnection):
                        await made.opened
                except ConnectionError:  # a busy server asks to come back
                    if not tries_left:
                        raise
                else:
                    return made
            await asyncio.sleep(CONNECT_PAUSE_S)
        return None

    keys = plan["keys"]
    each = max(plan["connections"] // len(keys), 1)
    flat = await asyncio.gather(*(one(key) for key in keys for _ in range(each)))
    return [list(flat[number * each : (number + 1) * each]) for number in range(len(keys))]


async def _seat(connections: list[list[Any]], sitting: list[Desk]) -> None:
    """Let everybody sit before the work begins."""
    if not sitting:
        return
    pool = loops.Pool(connections)
    left = len(sitting)
    done = asyncio.get_running_loop().create_future()

    def seat(desk: Desk, tries_left: int) -> None:
        def told(_: str, code: str) -> None:
            nonlocal left
            if code in PASSING and tries_left:
                asyncio.get_running_loop().call_later(SEAT_PAUSE_S, seat, desk, tries_left - 1)
                return
            left -= 1
            if code != "ok" and not done.done():
                done.set_exception(RuntimeError(f"a seat could not be taken: {code}"))
            elif not left and not done.done():
                done.set_result(None)

        pool.use(desk.tenant, lambda connection: desk.acquire(connection, told))

    for desk in sitting:
        seat(desk, SEAT_TRIES)
    await done


def _workload(plan: dict[str, Any], tenants: int, sitting: list[Desk], standing: list[Desk]) -> Workload:
    work = plan["work"]
    if work == "renew":
        return Renewing(sitting, tenants)
    if work == "cycle":
        return Cycling(standing, tenants)
    if work == "storm":
        return Arriving(standing, tenants)
    if work == "arrivals":
        return Mixed(Renewing(sitting, tenants), Arriving(standing, tenants), plan["share"], plan["seed"])
    return Mixed(Renewing(sitting, tenants), Cycling(standing, tenants), plan["share"], plan["seed"])


async def _run(plan: dict[str, Any]) -> dict[str, Any]:
    connections = await _connect(plan)
    tenants = len(connections)
    sitting = desks(plan.get("desks", 0), tenants, plan.get("prefix", "u") + "s")
    standing = desks(plan.get("standing", 0), tenants, plan.get("prefix", "u") + "c")
    if plan["work"] == "idle":
        return await _idle(plan)
    await _seat(connections, sitting)
    gc.collect()
    gc.freeze()  # what stands now stands to the end; the collector would look at it again and again
    seconds, storm = plan["seconds"], plan["work"] == "storm"
    began_ns = loops.now_ns()
    latencies = Latencies(
        began_ns + (0 if storm else int(seconds * WARM_UP * 1e9)),
        began_ns + int(seconds * 1e9),
        by_due=bool(plan.get("rate")),
    )
    busy_s, wall_s = time.process_time(), time.perf_counter()
    if plan["work"] == "gateway":
        await _gateway(connections, sitting, latencies)
    elif plan["work"] == "pulse":
        await _pulse(connections[0][0], sitting, latencies)
    else:
        workload, pool = _workload(plan, tenants, sitting, standing), loops.Pool(connections)
        if plan.get("rate"):
            await loops.opened(pool, workload, latencies, plan["rate"], plan.get("seed", 1))
        else:
            await loops.closed(pool, workload, latencies)
    report = latencies.report()
    report["requests"] = latencies.answered + len(sitting)
    report["offered_per_s"] = plan.get("rate", 0)
    report["generator_busy"] = round((time.process_time() - busy_s) / (time.perf_counter() - wall_s), 3)
    return report


async def _gateway(connections: list[list[Any]], sitting: list[Desk], latencies: Latencies) -> None:
    """Renew lists of leases, a frame under way on each socket; each lease counts."""
    sockets = [socket for each in connections for socket in each]
    share = len(sitting) // len(sockets)

    async def one(socket: ChannelConnection, mine: list[Desk]) -> None:
        while (began_ns := loops.now_ns()) < latencies.until_ns:
            answer: asyncio.Future[tuple[str, Any]] = asyncio.get_running_loop().create_future()
            socket.renew_many(
                [(desk.lease, desk.receipt) for desk in mine],
                lambda code, body, answer=answer: answer.set_result((code, body)),  # type: ignore[misc]
            )
            code, body = await answer
            for desk, item in zip(mine, body or [{}] * len(mine), strict=True):
                desk.receipt = item.get("receipt", desk.receipt)
                latencies.add("renew", "ok" if "receipt" in item else code, began_ns, loops.now_ns())

    lots = [sitting[number * share : (number + 1) * share][:GATEWAY_LEASES] for number in range(len(sockets))]
    await asyncio.gather(*(one(socket, lot) for socket, lot in zip(sockets, lots, strict=True)))


async def _pulse(connection: Any, sitting: list[Desk], latencies: Latencies) -> None:
    """Renew one lease at a time with a pause in between: how long a lone renewal takes."""
    desk = sitting[0]
    while loops.now_ns() < latencies.until_ns:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        began_ns = loops.now_ns()

        def told(kind: str, code: str, began_ns: int = began_ns, answer: Any = answer) -> None:
            latencies.add(kind, code, began_ns, loops.now_ns())
            answer.set_result(None)

        desk.renew(connection, told)
        await answer
        await asyncio.sleep(PULSE_S)


async def _idle(plan: dict[str, Any]) -> dict[str, Any]:
    """Hold the connections open, and say so, until standard input ends."""
    print(json.dumps({"open": plan["connections"]}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return {}


def main() -> None:
    """Run the plan on standard input."""
    plan = json.loads(sys.stdin.readline())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if plan.get("core") is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {plan["core"]})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_run(plan))), flush=True)


if __name__ == "__main__":
    main()
