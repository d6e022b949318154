"""`seatd verify` as an operator runs it: on honest servers, on lying ones, and where nothing can be tested."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.selftest.liars import LIES, lying_copy
from tests.servers import SeatdProcess
from tests.valkey import ValkeyServer

pytestmark = pytest.mark.xdist_group("verify")  # one worker: what they share is slow to make

SHORT = ("--seconds", "5", "--clients", "9", "--seats", "3")
CHECKS = ["cap", "live", "leaks", "requests", "receipts", "revoking", "answers", "ledger"]


class Ran:
    """A run of the command, from its start."""

    def __init__(self, server: SeatdProcess, *options: str, key: str | None = None) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SEATD_")}
        where = ["--url", server.url, "--internal-url", server.internal_url]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "seatd", "verify", *where, *options],
            env={**kept, "SEATD_ADMIN_KEY": key or server.admin_key},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> "Ran":
        self.out, self.err = self.process.communicate(timeout=100)
        self.status = self.process.returncode
        return self

    @property
    def results(self) -> dict[str, Any]:
        return {check["check"]: check for check in json.loads(self.out)["checks"]}


def tenants(server: SeatdProcess) -> list[dict[str, Any]]:
    return [
        each
        for each in server.admin("GET", "/v1/tenants").body["items"]
        if each["tenant"].startswith("verify-")
    ]


def assert_ended(server: SeatdProcess, tenant: dict[str, Any]) -> None:
    assert tenant["tariff"] is None
    assert tenant["suspended"]
    assert server.admin("GET", f"/v1/tenants/{tenant['tenant']}/keys").body["items"] == []


@pytest.fixture(scope="module")
def honest() -> Iterator[SeatdProcess]:
    server = SeatdProcess().start()
    yield server
    server.remove()


def test_an_honest_server_keeps_every_promise(honest):
    key = honest.tenant("acme", tariff="team", seats=3)
    mine = honest.client("POST", "/v1/leases", {"user": "ana", "client": "desk"}, key=key).body
    before = honest.admin("GET", "/v1/tenants/acme").body
    for_people = Ran(honest, "--seconds", "8")
    ran = Ran(honest, "--seconds", "8", "--json").wait()
    assert ran.status == 0, ran.out + ran.err
    report = json.loads(ran.out)
    assert report["result"] == "kept"
    assert list(ran.results) == CHECKS
    assert all(check["examined"] > 0 for check in ran.results.values())
    assert honest.admin("GET", "/v1/tenants/acme").body == before  # harmless to others
    renewed = honest.client(
        "POST", f"/v1/leases/{mine['lease']}/renew", {"receipt": mine["receipt"]}, key=key
    )
    assert renewed.status == 200
    for_people.wait()
    assert for_people.status == 0, for_people.out + for_people.err
    assert for_people.out.startswith("promise ")
    assert for_people.out.rstrip().endswith("All promises were kept.")
    assert len(tenants(honest)) == 2
    assert report["tenant"] in [tenant["tenant"] for tenant in tenants(honest)]
    for tenant in tenants(honest):
        assert_ended(honest, tenant)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_cleans_up(honest, number):
    before = {tenant["tenant"] for tenant in tenants(honest)}
    ran = Ran(honest, "--seconds", "60")
    while not (made := {tenant["tenant"] for tenant in tenants(honest)} - before):
        time.sleep(0.05)
    time.sleep(0.5)
    ran.process.send_signal(number)
    ran.wait()
    assert (ran.status, "Traceback" in ran.err) == (2, False), ran.err
    assert "Interrupted" in ran.err
    [tenant] = [tenant for tenant in tenants(honest) if tenant["tenant"] in made]
    assert_ended(honest, tenant)


def test_what_cannot_be_tested_is_said(honest):
    before = len(tenants(honest))
    tenant_admin = honest.admin("POST", "/v1/keys", {"scope": "billing"}).body["key"]
    wrong = Ran(honest, key="sa.nonsense").wait()
    forbidden = Ran(honest, key=tenant_admin).wait()
    swapped = Ran(honest, "--url", honest.internal_url, "--internal-url", honest.url).wait()
    away = Ran(honest, "--url", "http://127.0.0.1:9").wait()
    few = Ran(honest, "--clients", "3", "--seats", "3").wait()
    assert {each.status for each in (wrong, forbidden, swapped, away, few)} == {2}
    assert "set SEATD_ADMIN_KEY" in wrong.err
    assert "no admin key" in forbidden.err
    assert "is no public listener" in swapped.err
    assert "No seatd answers at http://127.0.0.1:9" in away.err
    assert "--clients must be more than --seats" in few.err
    assert len(tenants(honest)) == before


def test_no_false_alarm_where_seatd_is_killed_meanwhile(new_seatd):
    server = new_seatd().start()
    ran = Ran(server, "--seconds", "6", *SHORT[2:], "--json")
    while not tenants(server):
        time.sleep(0.05)
    time.sleep(1.5)
    server.kill()
    server.start()
    ran.wait()
    assert ran.status in (0, 2), (
        ran.out + ran.err
    )  # a request of ours may have had no answer, no promise was broken
    assert ran.results["cap"]["result"] == "kept"
    assert ran.results["live"]["result"] == "kept"
    assert_ended(server, tenants(server)[0])


def test_a_store_that_is_lost_meanwhile_is_no_finding(new_seatd):
    store = ValkeyServer()
    store.start()
    try:
        server = new_seatd("--store", store.url).start()
        ran = Ran(server, "--seconds", "30")
        while not tenants(server):
            time.sleep(0.05)
        time.sleep(1.5)
        with store.client() as client:
            client.flushall()
        ran.wait()
        assert (ran.status, "Traceback" in ran.err) == (2, False), ran.err
        assert "the store was lost meanwhile" in ran.err
        assert_ended(server, tenants(server)[0])
    finally:
        server.remove()
        store.remove()


@pytest.fixture(scope="module")
def caught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ran]]:
    """Every lie, five servers at a time: most of a run is waiting."""
    turn = threading.Lock()
    folders = {name: tmp_path_factory.mktemp("liar") for name in LIES}  # not by many threads at once

    def run(name: str) -> tuple[str, Ran]:
        copy = lying_copy(LIES[name], folders[name])
        server = SeatdProcess(environ={"PYTHONSAFEPATH": "1", "PYTHONPATH": str(copy)})
        try:
            with turn:
                server.start()
            return name, Ran(server, *SHORT, "--json").wait()
        finally:
            server.kill()  # not everything that lies ends politely
            server.remove()

    with ThreadPoolExecutor(5) as pool:
        yield dict(pool.map(run, LIES))


@pytest.mark.parametrize("name", LIES)
def test_a_lying_server_is_caught(caught, name):
    ran = caught[name]
    assert ran.status == 1, ran.out + ran.err
    assert ran.results[name.partition(",")[0]]["result"] == "broken"


def test_without_the_sdk_it_says_what_to_install(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nf = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'seatd_client' else f(name, package)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "seatd", "verify"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "pip install 'seatd[verify]'" in ran.stderr
