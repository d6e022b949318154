"""What breaks and what goes on: kill -9 of seatd, SQL away, the store away."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tests.servers import SeatdProcess, call
from tests.system.test_seats_http import acquire, in_use, interval, release, renew
from tests.valkey import ValkeyServer


def ledger(server: SeatdProcess, tenant: str) -> list[dict[str, Any]]:
    now = int(time.time() * 1000)
    path = f"/v1/tenants/{tenant}/usage?from_ms={now - 3_600_000}&to_ms={now + 3_600_000}&intervals=true"
    rows: list[dict[str, Any]] = []
    page = {"next": ""}
    while "next" in page:
        after = f"&after={page['next']}" if page["next"] else ""
        page = server.admin("GET", f"{path}&limit=1000{after}").body
        rows += page["items"]
    return rows


def test_kill_between_the_steps_of_a_lease_loses_nothing(new_seatd):
    server = new_seatd().start()
    key = server.tenant("acme", tariff="team", seats=2, lease_ttl_ms=60_000)

    def crash() -> None:
        server.kill()
        server.start()

    crash()
    assert server.admin("GET", "/v1/tenants/acme").body["capacity"] == 2
    taken = acquire(server, key, "ana", request_id="r1").body
    crash()
    again = acquire(server, key, "ana", request_id="r1")
    assert (again.status, again.body["lease"]) == (200, taken["lease"])
    crash()
    renewed = renew(server, key, taken)
    assert renewed.status == 200
    crash()
    assert in_use(server, "acme") == 1
    assert release(server, key, renewed.body).status == 204
    crash()
    assert in_use(server, "acme") == 0
    row = interval(server, "acme", taken["lease"])
    assert row["started_ms"] == taken["started_ms"]
    assert row["ended_ms"] >= row["started_ms"]
    assert server.stop() == 0


def test_kill_at_random_instants_under_load_keeps_one_start_and_one_end_a_lease(new_seatd):
    server = new_seatd().start()
    key = server.tenant("acme", tariff="team", seats=3, lease_ttl_ms=60_000)
    dice = random.Random(7)
    stop = threading.Event()
    granted: dict[str, bool] = {}  # lease -> a release of it was acknowledged

    def agent(number: int) -> None:
        mine = random.Random(number)
        while not stop.is_set():
            request_id = f"r{number}-{mine.random()}"
            lease = _insist(partial(acquire, server, key, f"u{number}", request_id=request_id), stop)
            if lease is None or lease.status not in (200, 201):
                continue
            granted[lease.body["lease"]] = False
            freed = _insist(partial(release, server, key, lease.body), stop)
            if freed is not None:
                granted[lease.body["lease"]] = freed.status == 204

    agents = [threading.Thread(target=agent, args=(n,)) for n in range(4)]
    for thread in agents:
        thread.start()
    for _ in range(4):
        time.sleep(0.2 + dice.random() * 0.3)
        server.kill()
        server.start()
    time.sleep(0.3)
    stop.set()
    for thread in agents:
        thread.join()
    deadline = time.monotonic() + 15
    ended = {lease for lease, freed in granted.items() if freed}
    while True:
        rows = ledger(server, "acme")
        if ended <= {row["lease"] for row in rows if row["ended_ms"]} and set(granted) <= {
            r["lease"] for r in rows
        }:
            break
        assert time.monotonic() < deadline, "the ledger lacks leases that were granted"
        time.sleep(0.2)
    assert len(rows) == len({row["lease"] for row in rows})
    assert all(row["ended_ms"] is None or row["ended_ms"] >= row["started_ms"] for row in rows)
    assert in_use(server, "acme") == sum(row["ended_ms"] is None for row in rows)
    assert len(granted) > 20
    assert server.admin("GET", "/v1/tenants/acme").body["capacity"] == 3


def _insist(request, stop: threading.Event):
    """Ask until there is an answer, as a client does whose server is being killed."""
    while True:
        try:
            answer = request()
            if answer.status != 503:
                return answer
        except (OSError, HTTPException):
            pass
        if stop.is_set():
            return None
        time.sleep(0.02)


def test_the_store_away_is_said_within_a_second_and_service_comes_back(new_seatd):
    store = ValkeyServer(appendonly=True)
    store.start()
    try:
        server = new_seatd("--store", store.url).start()
        key = server.tenant("acme", tariff="team", seats=2)
        held = acquire(server, key, "ana").body
        pause, resume = partial(_send, store, signal.SIGSTOP), partial(_send, store, signal.SIGCONT)
        for stop, go_on in ((store.kill, store.start), (pause, resume)):
            stop()
            began = time.monotonic()
            away = acquire(server, key, "bob")
            assert time.monotonic() - began < 1.2
            assert (away.status, away.body["code"]) == (503, "store_unavailable")
            assert away.headers["Retry-After"] in {"1", "2"}  # spread, so that not all come at once
            assert call("GET", server.internal_url + "/readyz").status == 503
            go_on()
            deadline = time.monotonic() + 5
            while (answer := renew(server, key, held)).status != 200:
                assert answer.body["code"] == "store_unavailable"
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        store.remove()


def _send(store: ValkeyServer, number: signal.Signals) -> None:
    assert store.process is not None
    os.kill(store.process.pid, number)


def test_the_embedded_store_is_started_again_with_its_leases(new_seatd):
    server = new_seatd().start()
    key = server.tenant("acme", tariff="team", seats=1)
    held = acquire(server, key, "ana").body
    pid = int((server.data / "store" / "store.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (answer := renew(server, key, held)).status != 200:
        assert answer.status == 503
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_second_seatd_is_kept_out_of_the_folder(new_seatd):
    server = new_seatd().start()
    command = ["python", "-m", "seatd", "serve", "--data", str(server.data), "--listen", "127.0.0.1:0"]
    second = subprocess.run(
        [sys.executable, *command[1:], "--internal-listen", "127.0.0.1:0"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 2
    assert "Another seatd serves from" in second.stderr
    assert "Traceback" not in second.stderr


def test_nothing_of_a_killed_seatd_stays_behind(new_seatd):
    server = new_seatd().start()
    pid = int((server.data / "store" / "store.pid").read_text())
    server.kill()
    deadline = time.monotonic() + 10
    stat = Path(f"/proc/{pid}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_stop_answers_leaves_leases_and_is_clean(new_seatd):
    server = new_seatd().start()
    key = server.tenant("acme", tariff="team", seats=1, lease_ttl_ms=60_000)
    held = acquire(server, key, "ana").body
    modes = [
        oct((server.data / name).stat().st_mode & 0o777) for name in ("admin.key", "secret.key", "store")
    ]
    assert modes == ["0o600", "0o600", "0o700"]
    admin_key = server.admin_key
    assert server.stop() == 0
    server.start()
    assert server.admin_key == admin_key
    assert renew(server, key, held).status == 200
