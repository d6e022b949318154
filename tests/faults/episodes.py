"""One episode: clients of a few tenants work, a fault strikes, they go on, go home, and are judged.

Each tenant's part is a history of its own.  Decides how long to wait for what: for seats to be given or refused again, and for
the ledger to be written.
"""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

from tests.faults import judge, order
from tests.faults.desks import Desk
from tests.faults.history import History, now_us
from tests.faults.houses import DELTA_MS, House
from tests.faults.scene import Fault, Scene
from tests.sim.checker import Violation

TENANTS = 2
DECIDES_AGAIN_S = 15.0
WRITTEN_S = 20.0


@dataclass
class Judged:
    """A history and what was found in it."""

    history: History
    found: list[Violation]
    ledger: list[judge.Row]


async def play(
    house: House,
    fault: Fault,
    seed: int,
    number: int,
    counts: Counter[str],
    *,
    tenants: int = TENANTS,
    written_s: float = WRITTEN_S,
) -> list[Judged]:
    """Play one episode; its ledger has `written_s` to be written."""
    rng = random.Random(f"{seed} {fault.name} {number}")
    histories = [await _open(house, fault, seed, number, rng) for _ in range(tenants)]
    desks = [desk for history in histories for desk in _desks(house, fault, history, rng)]
    tasks = [asyncio.create_task(desk.work()) for desk in desks]
    try:
        scene = Scene(house, rng, histories, counts, number)
        await scene.wait(0.4, 1.2)
        await fault.strike(scene)
        scene.note("whole again")
        stuck = set() if fault.linear else await _decided_again(histories, now_us())
        await scene.wait(0.3, 1)
        for history in histories:
            history.ending = True
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    judged = await asyncio.gather(*(_judge(house, history, written_s) for history in histories))
    for one in judged:
        if fault.linear and not order.explains(one.history):
            one.found.append(Violation("linearizability", 0, "no order explains the answers"))
        if one.history.tenant in stuck:
            one.found.append(
                Violation("I3", 0, f"nobody who asked for a seat was told yes or no for {DECIDES_AGAIN_S} s")
            )
    return judged


async def _open(house: House, fault: Fault, seed: int, number: int, rng: random.Random) -> History:
    house.tenants += 1
    tenant, cap = f"t{house.tenants}", rng.randint(1, 2 if fault.linear else 4)
    key = await house.tenant(tenant, cap, fault.ttl_ms)
    return History(fault.name, seed, number, tenant, key, cap, fault.ttl_ms)


def _desks(house: House, fault: Fault, history: History, rng: random.Random) -> list[Desk]:
    users = [f"u{i}" for i in range(history.cap + rng.randint(1, 1 if fault.linear else 3))]
    names = [(user, "c0") for user in users]
    if rng.random() < 0.3:
        names.append((users[0], "c1"))
    return [
        Desk(history, house.address, user, name, random.Random(rng.random()), fault.habits)
        for user, name in names
    ]


async def _decided_again(histories: list[History], since_us: int) -> set[str]:
    """Wait until somebody of every tenant who asked since was told yes or no; returns those without, in time."""
    deadline_us = now_us() + int(DECIDES_AGAIN_S * 1e6)
    while stuck := {h.tenant for h in histories if not h.decided_since(since_us)}:
        if now_us() > deadline_us:
            return stuck
        await asyncio.sleep(0.05)
    return set()


async def _judge(house: House, history: History, written_s: float) -> Judged:
    found = judge.of_clients(history, DELTA_MS)
    deadline_us = now_us() + int(written_s * 1e6)
    while True:
        rows = await asyncio.to_thread(judge.ledger_of, house.database, history.tenant)
        of_ledger = judge.of_ledger(history, rows)
        if not of_ledger or now_us() > deadline_us:
            return Judged(history, [*found, *of_ledger], rows)
        await asyncio.sleep(0.2)
