"""Several workers on one port: they share the load, die alone, drain together, and are counted as one."""

import asyncio
import os
import re
import signal
import socket
import time
from collections.abc import Callable

import psutil  # type: ignore[import-untyped]  # it brings no types
import pytest

from tests.servers import SeatdProcess, call
from tests.system.test_faults import ledger
from tests.system.test_seats_http import acquire, interval, release, renew
from tests.valkey import ValkeyServer
from tests.web.channels import lines

WORKERS = 2


def workers_of(server: SeatdProcess) -> list[psutil.Process]:
    assert server.process is not None
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if "seatd.workers.process" in child.cmdline()]


def metrics(server: SeatdProcess) -> dict[str, float]:
    shown = call("GET", f"{server.internal_url}/metrics").raw.decode()
    rows = [line.rpartition(" ") for line in shown.splitlines() if line and not line.startswith("#")]
    assert len({name for name, _, _ in rows}) == len(rows)
    return {name: float(value) for name, _, value in rows}


def eventually(what: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def crew(new_seatd) -> SeatdProcess:
    server: SeatdProcess = new_seatd("--workers", str(WORKERS)).start()
    return server


async def by_channel(server: SeatdProcess, key: str, count: int) -> set[int]:
    """Take seats over many sockets; tells which workers had them."""
    async with lines(server.url, key, count) as desks:
        for number, desk in enumerate(desks):
            await desk.ok("acquire", user=f"u{number}", client="c1")
        assert metrics(server)["seatd_channels"] == count
        return {worker.pid for worker in workers_of(server) if len(worker.net_connections()) > 3}


async def test_workers_share_one_port_and_are_counted_as_one(crew):
    key = crew.tenant("acme", tariff="team", seats=40)
    assert len(workers_of(crew)) == WORKERS
    before = metrics(crew)
    had = await by_channel(crew, key, 40)
    assert len(had) == WORKERS
    after = metrics(crew)
    counted = 'seatd_requests_total{code="ok",op="acquire"}'
    assert after[counted] - before[counted] == 40
    timed = 'seatd_request_duration_seconds_count{op="acquire"}'
    assert after[timed] - before[timed] == 40
    assert after["seatd_workers"] == WORKERS
    assert after["seatd_store_up"] == after["seatd_database_up"] == 1
    assert after['seatd_tenant_seats_in_use{tenant="acme"}'] == 40
    assert crew.stop() == 0
    assert '"level": "error"' not in crew.log


def test_what_one_worker_granted_another_renews_and_releases(crew):
    key = crew.tenant("acme", tariff="team", seats=3)
    lease = acquire(crew, key, "ana").body
    for _ in range(20):  # each over a connection of its own
        lease |= renew(crew, key, lease).body
    assert release(crew, key, lease).status == 204
    eventually(lambda: interval(crew, "acme", lease["lease"])["ended_ms"] is not None)
    assert call("GET", f"{crew.internal_url}/v1/tenants/acme", key=crew.admin_key).body["in_use"] == 0


async def test_a_revocation_reaches_the_socket_whichever_worker_has_it(crew):
    key = crew.tenant("acme", tariff="team", seats=12)
    async with lines(crew.url, key, 12) as desks:
        taken = [await desk.ok("acquire", user=f"u{n}", client="c1") for n, desk in enumerate(desks)]
        for desk, lease in zip(desks, taken, strict=True):
            path = f"/v1/tenants/acme/leases/{lease['lease']}"
            assert (await asyncio.to_thread(crew.admin, "DELETE", path)).status == 200
            assert (await desk.push())["lease"] == lease["lease"]


def test_a_worker_that_is_killed_is_started_again_and_its_counts_stay(crew):
    key = crew.tenant("acme", tariff="team", seats=50)
    for number in range(20):
        assert acquire(crew, key, f"u{number}").status == 201
    counted = 'seatd_requests_total{code="ok",op="acquire"}'
    before = metrics(crew)[counted]
    victim = workers_of(crew)[0]
    victim.kill()
    eventually(lambda: metrics(crew)["seatd_workers"] == WORKERS - 1 or "worker ended" in crew.log)
    eventually(lambda: len(workers_of(crew)) == WORKERS and metrics(crew)["seatd_workers"] == WORKERS)
    assert victim.pid not in {worker.pid for worker in workers_of(crew)}
    after = metrics(crew)
    assert after[counted] >= before
    assert after["seatd_worker_restarts_total"] == 1
    for number in range(20, 40):
        assert acquire(crew, key, f"u{number}").status == 201
    assert metrics(crew)[counted] == after[counted] + 20


def test_a_worker_that_is_told_to_go_drains_and_another_comes(crew):
    key = crew.tenant("acme", tariff="team", seats=5)
    workers_of(crew)[0].terminate()
    eventually(lambda: "worker ended" in crew.log)
    assert re.search(r'"status": 0[,}]', crew.log)
    eventually(lambda: metrics(crew)["seatd_workers"] == WORKERS)
    assert acquire(crew, key, "ana").status == 201


def test_a_killed_parent_takes_its_workers_along(crew):
    key = crew.tenant("acme", tariff="team", seats=5)
    lease = acquire(crew, key, "ana").body
    workers = workers_of(crew)
    crew.kill()
    gone, alive = psutil.wait_procs(workers, timeout=5)
    assert (len(gone), alive) == (WORKERS, [])
    crew.start()
    assert renew(crew, key, lease).status == 200


def test_the_store_that_comes_back_empty_is_learnt_by_every_worker(new_seatd):
    store = ValkeyServer()
    store.start()
    try:
        server: SeatdProcess = new_seatd("--workers", str(WORKERS), "--store", store.url).start()
        key = server.tenant("acme", tariff="team", seats=9, lease_ttl_ms=20_000)
        taken = [acquire(server, key, f"u{number}").body for number in range(9)]
        store.kill()
        store.start()
        for lease in taken:
            eventually(lambda lease=lease: renew(server, key, lease).status == 200)  # type: ignore[misc]
        assert {acquire(server, key, "late").status for _ in range(8)} == {503}
        # What the lost stream held, the workers that heard of it bring into the new one, each its own.
        eventually(lambda: len(ledger(server, "acme")) == 9)
        rows = {row["lease"]: row["started_ms"] for row in ledger(server, "acme")}
        assert rows == {lease["lease"]: lease["started_ms"] for lease in taken}
        assert len(re.findall('"event": "epoch opened"', server.log)) == 2
    finally:
        store.remove()


def test_nobody_else_listens_where_workers_do(crew, new_seatd):
    other: SeatdProcess = new_seatd("--workers", str(WORKERS))
    other.url = crew.url
    with pytest.raises(AssertionError, match="Cannot listen on"):
        other.start()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        other.url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AssertionError, match="Cannot listen on"):
            other.start()


def test_ctrl_c_is_the_parents_to_hear(crew):
    for worker in workers_of(crew):
        worker.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert len(workers_of(crew)) == WORKERS
    assert crew.process is not None
    os.killpg(crew.process.pid, signal.SIGINT)
    assert crew.process.wait(30) == 0
