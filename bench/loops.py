"""Closed and open loops.

Closed: each connection sends its next request when the one before was answered; this finds the capacity.  Open: requests
are due at instants drawn beforehand (Poisson), whether or not answers come; each latency counts from when its request was
due, waiting for a free connection included.  A server that stands still is charged for all that came meanwhile.
"""

import asyncio
import itertools
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from bench.latencies import Latencies
from bench.workloads import Workload, in_turn

DRAIN_S = 5.0
now_ns = time.perf_counter_ns


class Pool:
    """The connections of each tenant, and which of them are free."""

    def __init__(self, connections: list[list[Any]]) -> None:
        self.connections = connections
        self.free = [deque(each) for each in connections]
        self._waiting: list[deque[Callable[[Any], None]]] = [deque() for _ in connections]
        for tenant, each in enumerate(connections):
            for connection in each:
                connection.idle = self._idle(tenant)

    def _idle(self, tenant: int) -> Callable[[Any], None]:
        waiting, free = self._waiting[tenant], self.free[tenant]

        def idle(connection: Any) -> None:
            if waiting:
                waiting.popleft()(connection)
            else:
                free.append(connection)

        return idle

    def use(self, tenant: int, send: Callable[[Any], None]) -> None:
        """Send on a free connection, now or when one is."""
        if self.free[tenant]:
            send(self.free[tenant].popleft())
        else:
            self._waiting[tenant].append(send)


async def closed(pool: Pool, workload: Workload, latencies: Latencies) -> None:
    """Keep every connection busy until the time is up, then wait for the last answers."""
    under_way = 0
    done = asyncio.get_running_loop().create_future()

    def send(connection: Any, tenant: int) -> None:
        nonlocal under_way
        began_ns = now_ns()
        if began_ns >= latencies.until_ns or not connection.alive:
            return

        def told(kind: str, code: str) -> None:
            nonlocal under_way
            under_way -= 1
            latencies.add(kind, code, began_ns, now_ns())

        under_way += 1
        if not workload.send(connection, tenant, told):
            under_way -= 1

    def idle(tenant: int) -> Callable[[Any], None]:
        def again(connection: Any) -> None:
            send(connection, tenant)
            if not under_way and not done.done():
                done.set_result(None)

        return again

    for tenant, connections in enumerate(pool.connections):
        for connection in connections:
            connection.idle = idle(tenant)
            send(connection, tenant)
    seconds = (latencies.until_ns - now_ns()) / 1e9 + DRAIN_S
    await asyncio.wait([done], timeout=max(seconds, DRAIN_S))


async def opened(pool: Pool, workload: Workload, latencies: Latencies, rate: float, seed: int) -> None:
    """Send what is due when it is due; what found no answer in the end is counted as `none`, with its age."""
    rng, turn, numbers = random.Random(seed), in_turn(len(pool.connections)), itertools.count()
    due: dict[int, int] = {}  # what is due or under way, and since when
    next_ns = float(now_ns())

    def request(number: int, at_ns: int, tenant: int) -> Callable[[Any], None]:
        def told(kind: str, code: str) -> None:
            due.pop(number, None)
            latencies.add(kind, code, at_ns, now_ns())

        def send(connection: Any) -> None:
            if not workload.send(connection, tenant, told):
                due.pop(number, None)
                connection.idle(connection)

        return send

    while next_ns < latencies.until_ns:
        now = now_ns()
        while next_ns <= now and next_ns < latencies.until_ns:
            number, at_ns, tenant = next(numbers), int(next_ns), next(turn)
            due[number] = at_ns
            pool.use(tenant, request(number, at_ns, tenant))
            next_ns += rng.expovariate(rate) * 1e9
        # Timers are a millisecond coarse; the generator has a core of its own to look at the clock instead.
        await asyncio.sleep(0.005 if next_ns - now > 2e7 else 0)
    give_up_ns = now_ns() + DRAIN_S * 1e9
    while due and now_ns() < give_up_ns:  # noqa: ASYNC110 - many end, one after the other
        await asyncio.sleep(0.005)
    for at_ns in due.values():
        latencies.add("unanswered", "none", at_ns, now_ns())
