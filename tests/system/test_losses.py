"""The store is lost under real servers: who works keeps working, and the ledger tells one story."""

import asyncio
import contextlib
import shutil
import sqlite3
import time

import pytest

from seatd.database.engine import make_engine
from seatd.flows.epochs import next_epoch
from seatd.seats.store import Store, StoreOptions, connect
from tests.servers import SeatdProcess, call
from tests.system.test_faults import ledger
from tests.system.test_seats_http import acquire, in_use, release, renew
from tests.valkey import ValkeyServer

SHORT = ("--delta-ms", "100", "--q-ms", "300")


def learning(server: SeatdProcess) -> list[str]:
    return [row["tenant"] for row in call("GET", server.internal_url + "/readyz").body["learning"]]


def wait_for(what, seconds: float = 10.0):
    deadline = time.monotonic() + seconds
    while not (seen := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return seen


@pytest.mark.parametrize("loss", ["flushed", "restarted empty"])
def test_a_lost_store_throws_nobody_out_and_sells_no_seat_twice(new_seatd, loss: str):
    store = ValkeyServer()
    store.start()
    try:
        server = new_seatd("--store", store.url, *SHORT).start()
        key = server.tenant("acme", tariff="team", seats=2, lease_ttl_ms=2000)
        ana, bob = acquire(server, key, "ana").body, acquire(server, key, "bob").body
        assert release(server, key, bob).status == 204
        cy = acquire(server, key, "cy").body
        if loss == "flushed":
            with store.client() as client:
                client.flushall()
        else:
            store.kill()
            store.start()
        renewed = wait_for(lambda: (got := renew(server, key, ana)).status == 200 and got)
        assert renewed.body["lease"] == ana["lease"]
        assert renew(server, key, cy).status == 200
        gone = renew(server, key, bob)
        assert (gone.status, gone.body["reason"]) == (410, "released")
        refused = acquire(server, key, "dan")
        assert (refused.status, refused.body["code"]) == (503, "learning")
        assert int(refused.headers["Retry-After"]) <= 4
        wait_for(lambda: learning(server) == ["acme"])

        held = renewed.body
        deadline = time.monotonic() + 10
        while (answer := acquire(server, key, "dan")).status == 503:
            again = renew(server, key, held)
            assert again.status == 200
            held = again.body
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert answer.status == 201  # cy did not renew again
        assert learning(server) == []
        assert in_use(server, "acme") == 2
        leases = {ana["lease"], bob["lease"], cy["lease"], answer.body["lease"]}
        rows = wait_for(lambda: len(found := ledger(server, "acme")) == 4 and found)
        assert {row["lease"] for row in rows} == leases
        by_lease = {row["lease"]: row for row in rows}
        for lease in (ana, bob, cy):  # what was acknowledged before the loss is not lost
            assert by_lease[lease["lease"]]["started_ms"] == lease["started_ms"]
        assert by_lease[ana["lease"]]["ended_ms"] is None
    finally:
        store.remove()


def test_an_embedded_store_that_lost_nothing_is_known_again(new_seatd):
    server = new_seatd(*SHORT).start()
    key = server.tenant("acme", tariff="team", seats=2, lease_ttl_ms=60_000)
    held = acquire(server, key, "ana").body
    time.sleep(1.2)
    for stop in (server.kill, server.stop):
        stop()
        server.start()
        assert acquire(server, key, "bob").status in (200, 201)
        assert renew(server, key, held).status == 200
    assert learning(server) == []


def test_an_older_copy_of_the_embedded_store_is_noticed(new_seatd):
    server = new_seatd(*SHORT).start()
    key = server.tenant("acme", tariff="team", seats=1, lease_ttl_ms=60_000)
    server.stop()
    file = server.data / "store" / "appendonlydir"
    copy = server.folder / "copy"
    shutil.copytree(file, copy)
    server.start()
    held = acquire(server, key, "ana").body
    time.sleep(1.2)  # the clock is noted every second
    server.stop()
    shutil.rmtree(file)
    shutil.copytree(copy, file)
    server.start()
    refused = acquire(server, key, "bob")
    assert (refused.status, refused.body["code"]) == (503, "learning")
    assert renew(server, key, held).status == 200
    assert in_use(server, "acme") == 1


def test_whoever_dies_right_after_opening_an_epoch_leaves_nobody_unprojected(new_seatd):
    store = ValkeyServer()
    store.start()
    try:
        server = new_seatd("--store", store.url, *SHORT).start()
        acquire(server, server.tenant("acme", tariff="team", seats=2, lease_ttl_ms=60_000), "ana")
        wait_for(lambda: not waits_to_be_projected(server))
        server.stop()
        asyncio.run(open_an_epoch(store, f"sqlite:///{server.data / 'seatd.db'}"))
        server.start()
        wait_for(lambda: learning(server) == ["acme"])  # though nobody asked for anything
    finally:
        store.remove()


def waits_to_be_projected(server: SeatdProcess) -> bool:
    with contextlib.closing(sqlite3.connect(server.data / "seatd.db")) as connection:
        return connection.execute("SELECT 1 FROM outbox").fetchone() is not None


async def open_an_epoch(server: ValkeyServer, database: str) -> None:
    engine, store = make_engine(database), Store(connect(server.url, StoreOptions()), StoreOptions())
    await store.open_epoch(0, 1, await next_epoch(engine, 0, 1))
    await store.close()
    await engine.dispose()
