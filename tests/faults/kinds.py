"""The faults: which house each wants, and what is done to it while clients work.

A fault is a coroutine over a running house; it returns when what it broke is whole again.  Instants are drawn from the
history's own dice, so that a seed repeats the schedule.
"""

import asyncio
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.faults.desks import Habits
from tests.faults.houses import Plan
from tests.faults.proxy import CALM, Mood
from tests.faults.scene import Fault, Scene
from tests.sentinels import Node

DYING = Path(__file__).parent / "dying"
RECORDER_STEPS = 24
BAD_NETWORK = Mood(slow=0.1, late=0.01, cut=0.01, reply_lost=0.04)
BAD_CABLE = Mood(slow=0.02, slow_s=(0.01, 0.2), late=0.004, cut=0.01, reply_lost=0.05)


async def kill_store(scene: Scene) -> None:
    """kill -9 of a store; now and then once more while the tenants learn."""
    store = scene.house.store
    assert store
    for _ in range(scene.rng.choice((1, 2, 2))):
        scene.note("store killed", counted="store kills", lossy=True)
        await asyncio.to_thread(store.kill)
        await scene.wait(0, 0.5)
        await scene.house.restart_store()
        await scene.wait(0, 1.5)


async def flush_store(scene: Scene) -> None:
    """FLUSHALL, under everybody's feet."""
    store = scene.house.store
    assert store
    for _ in range(scene.rng.choice((1, 2))):
        scene.note("FLUSHALL", lossy=True)
        with store.client() as client:
            client.flushall()
        await scene.wait(0, 1.5)


async def pause_store(scene: Scene) -> None:
    """SIGSTOP of the store, often past the ttl."""
    scene.note("store paused")
    scene.house.signal_store(signal.SIGSTOP)
    await scene.wait(0.1, 3)
    scene.house.signal_store(signal.SIGCONT)


async def kill_seatd(scene: Scene) -> None:
    """kill -9 of seatd; an embedded store dies with it."""
    scene.note("seatd killed", counted="seatd kills")
    await asyncio.to_thread(scene.house.seatd.kill)
    await scene.wait(0, 0.5)
    await scene.house.restart_seatd()


async def pause_seatd(scene: Scene) -> None:
    """SIGSTOP of seatd, often past the ttl."""
    scene.note("seatd paused")
    scene.house.signal_seatd(signal.SIGSTOP)
    await scene.wait(0.1, 3)
    scene.house.signal_seatd(signal.SIGCONT)


async def kill_embedded_store(scene: Scene) -> None:
    """kill -9 of the store that seatd runs; seatd starts it again."""
    scene.note("embedded store killed", counted="store kills")
    scene.house.signal_store(signal.SIGKILL)
    await scene.wait(0.5, 1)


async def set_store_back(scene: Scene) -> None:
    """Restart the store from an older copy of its append-only file."""
    house = scene.house
    assert house.store
    copy = await asyncio.to_thread(house.copy_store)
    await scene.wait(0.2, 2.5)
    scene.note("store set back", counted="rollbacks", lossy=True)
    await asyncio.to_thread(house.store.kill)
    await asyncio.to_thread(house.put_back, copy)
    await house.restart_store()


async def set_embedded_store_back(scene: Scene) -> None:
    """The same with the store that seatd runs, while seatd is held still or after it was stopped."""
    house = scene.house
    copy = await asyncio.to_thread(house.copy_store)
    await scene.wait(2.2, 3.5)  # its clock is noted every second: this copy is older than the latest note
    scene.note("embedded store set back", counted="rollbacks", lossy=True)
    if scene.rng.random() < 0.5:
        await asyncio.to_thread(house.seatd.stop)
        await asyncio.to_thread(house.put_back, copy)
        await house.restart_seatd()
        return
    house.signal_seatd(signal.SIGSTOP)
    house.signal_store(signal.SIGKILL)
    await scene.wait(0.05, 0.2)
    await asyncio.to_thread(house.put_back, copy)
    house.signal_seatd(signal.SIGCONT)


async def fail_over(scene: Scene) -> None:
    """The primary dies or hangs, another is promoted, and the old one comes back: at once as a replica, or not at once."""
    nodes = scene.house.sentinels
    assert nodes
    hangs = scene.rng.random() < 0.5
    scene.note("primary hangs" if hangs else "primary killed", counted="failovers", lossy=True)
    old, _ = await asyncio.to_thread(nodes.fail_over, Node.pause if hangs else Node.kill)
    scene.note("another was promoted")
    await scene.wait(0, 1)
    if hangs and scene.rng.random() < 0.7:
        scene.note("the old primary goes on")
        old.go_on()
        await scene.wait(0.2, 2)
    await asyncio.to_thread(nodes.bring_back, old)


async def bad_store_network(scene: Scene) -> None:
    """Between seatd and store: delays, cuts, replies that are lost after the execution."""
    proxy = scene.house.store_proxy
    assert proxy
    scene.note("the store's network is bad")
    proxy.mood = BAD_CABLE
    await scene.wait(2, 3)
    proxy.mood = CALM


async def bad_client_network(scene: Scene) -> None:
    """Between clients and seatd: the same, and clients that walk away."""
    proxy = scene.house.client_proxy
    assert proxy
    scene.note("the clients' network is bad")
    proxy.mood = BAD_NETWORK
    await scene.wait(2, 3)
    proxy.mood = CALM


async def lose_messages(scene: Scene) -> None:
    """A moment of a bad network, in which seatd may die: short enough to ask whether some order explains it all."""
    proxy = scene.house.client_proxy
    assert proxy
    scene.note("the clients' network is bad")
    proxy.mood = BAD_NETWORK
    if scene.rng.random() < 0.3:
        await kill_seatd(scene)
    await scene.wait(0.3, 1)
    proxy.mood = CALM


async def kill_recorder(scene: Scene) -> None:
    """Seatd dies between two steps of its recorder."""
    seatd = scene.house.seatd
    note = Path(seatd.environ["DIES_AT"])
    # Each step once in a whole run, and one between the first read and the commit in a short one.
    note.write_text(str((scene.number + RECORDER_STEPS // 3) % RECORDER_STEPS + 1))
    assert seatd.process
    scene.house.signal_seatd(signal.SIGUSR1)
    while seatd.process.poll() is None:
        await asyncio.sleep(0.02)
    scene.counts["recorder kills"] += 1
    scene.note(f"recorder killed: {note.read_text()}", counted=f"of them at {note.read_text()!r}")
    await scene.house.restart_seatd()


async def lock_database(scene: Scene) -> None:
    """Another process holds SQLite's lock."""
    path = scene.house.database
    with closing(
        sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    ) as connection:
        await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
        scene.note("database locked")
        await scene.wait(0.5, 5)
        connection.execute("ROLLBACK")


async def fill_disk(scene: Scene) -> None:
    """The disk is full; where the store is on it as well, the store cannot write either."""
    house = scene.house
    assert house.seatd.process

    def pids() -> list[int]:
        assert house.seatd.process
        return [house.seatd.process.pid, *([house.store_pid] if house.plan.embedded else [])]

    scene.note("disk full")
    await asyncio.to_thread(house.disk.fill, pids())
    await scene.wait(0.5, 3)
    for _ in range(5):  # a store that was started again meanwhile has inherited a limit
        await asyncio.to_thread(house.disk.empty, pids())
        await asyncio.sleep(0.1)


RUDE = Habits(cancel=0.2)
BUSY = Habits(stay_s=(0.01, 0.2), long_stay_s=(0.1, 1), lazy=0.1)
"""They come and go all the time: many starts and ends."""
SHORT = Habits(
    pause_s=(0.01, 0.15),
    stay_s=(0.05, 0.6),
    long_stay_s=(0.05, 0.6),
    cancel=0.1,
    crash=0,
    again=0.1,
    lazy=0,
    wait=0,
)
"""Nobody waits in line: who is refused, and why, the sequential keeper of seats knows without time."""
HOUR_MS = 3_600_000

FAULTS = [
    Fault("store killed", kill_store, full=105),
    Fault("store killed, restarts empty", kill_store, Plan(fsync=False), full=20),
    Fault("store flushed", flush_store, Plan(fsync=False)),
    Fault("store paused", pause_store),
    Fault("store set back", set_store_back, full=34),
    Fault("failover", fail_over, Plan(sentinels=True, q_ms=2_000, w_ms=2_000), full=52),
    Fault("store's network", bad_store_network, Plan(store_proxy=True), BUSY, full=20),
    Fault("seatd killed", kill_seatd),
    Fault("seatd paused", pause_seatd),
    Fault("seatd and embedded store killed", kill_seatd, Plan(embedded=True)),
    Fault("embedded store killed", kill_embedded_store, Plan(embedded=True), full=30),
    Fault("embedded store set back", set_embedded_store_back, Plan(embedded=True), full=20),
    Fault(
        "clients' network, walking away",
        bad_client_network,
        Plan(embedded=True, client_proxy=True),
        RUDE,
        full=20,
    ),
    Fault(
        "linearizable",
        lose_messages,
        Plan(embedded=True, client_proxy=True),
        SHORT,
        full=20,
        short=2,
        linear=True,
        ttl_ms=HOUR_MS,
    ),
    Fault("recorder killed", kill_recorder, Plan(environ={"PYTHONPATH": str(DYING)}), full=RECORDER_STEPS),
    Fault("database locked", lock_database),
    Fault("disk full", fill_disk, Plan(small_disk=True), short=0),
    Fault("disk full, embedded store", fill_disk, Plan(small_disk=True, embedded=True)),
]
