"""Rotating the keys of receipts while two seatds serve one store and one database: nobody who works is refused."""

import asyncio
import itertools
import os
import random
import signal
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from sqlalchemy import update

from seatd.accounts.receipt_keys import OVERLAP_MS
from seatd.database.engine import make_engine, writing
from seatd.database.schema import receipt_keys
from tests.servers import Reply, SeatdProcess, call
from tests.system.test_seats_http import acquire, release, renew
from tests.valkey import ValkeyServer

Pair = tuple[SeatdProcess, SeatdProcess]


@pytest.fixture
def pair(new_seatd: Callable[..., SeatdProcess], database_url: str) -> Iterator[Pair]:
    """Two seatds of one house; the first has the admin key that the tests use."""
    store = ValkeyServer()
    store.start()
    try:
        first = new_seatd("--store", store.url, "--database", database_url).start()
        secret = str(first.data / "secret.key")
        second = new_seatd("--store", store.url, "--database", database_url, "--secret-file", secret).start()
        yield first, second
        for server in (first, second):
            server.remove()
    finally:
        store.remove()


def signer(lease: dict[str, Any]) -> bytes:
    """Which key made the receipt of a lease."""
    text = lease["receipt"]
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))[1:5]


def kids(server: SeatdProcess) -> set[str]:
    return {key["kid"] for key in call("GET", server.url + "/v1/jwks").body["keys"]}


def kid_of(proof: str) -> str:
    return str(jwt.get_unverified_header(proof)["kid"])


def wait_until(true: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def retired_long_ago(database_url: str) -> None:
    """Let every retired key be so old that its overlap has just ended."""

    async def change() -> None:
        engine = make_engine(database_url)
        async with writing(engine) as connection:
            retired = receipt_keys.c.retired_ms.is_not(None)
            past_ms = int(time.time() * 1000) - OVERLAP_MS
            await connection.execute(update(receipt_keys).where(retired).values(retired_ms=past_ms))
        await engine.dispose()

    asyncio.run(change())


class Desk(threading.Thread):
    """A client that renews without a pause, now with one seatd, now with the other."""

    def __init__(self, pair: Pair, key: str, user: str) -> None:
        super().__init__()
        self.pair, self.key, self.user = pair, key, user
        self.dice = random.Random(user)
        self.stop = threading.Event()
        self.refused: list[bytes] = []
        self.signers: list[bytes] = []

    def run(self) -> None:
        lease = acquire(self.pair[0], self.key, self.user).body
        for at in itertools.count():
            server = self.dice.choice(self.pair)
            renewed = renew(server, self.key, lease)
            if renewed.status != 200:
                self.refused.append(renewed.raw)
                return
            lease = {**lease, **renewed.body}
            self.signers.append(signer(lease))
            if at % 20 == 19:  # a release and a new seat now and then
                freed = release(self.dice.choice(self.pair), self.key, lease)
                lease = acquire(self.dice.choice(self.pair), self.key, self.user).body
                self.refused += [freed.raw] if freed.status != 204 else []
            if self.stop.wait(0.02):
                return


def test_no_renewal_is_refused_across_a_rotation(pair: Pair, database_url: str) -> None:
    first, second = pair
    key = first.tenant("acme", tariff="team", seats=10)
    old = acquire(second, key, "eve", proof=True).body
    desks = [Desk(pair, key, f"u{n}") for n in range(3)]
    for desk in desks:
        desk.start()
    time.sleep(0.3)
    made = first.admin("POST", "/v1/receipt-keys", {"signs_in_ms": 5_000})
    assert made.status == 201
    wait_until(lambda: len(kids(second)) == 2, 3)  # within seconds, and before it signs
    assert int(time.time() * 1000) < made.body["signs_from_ms"]
    time.sleep(max(made.body["signs_from_ms"] / 1000 - time.time(), 0) + 2.5)
    for desk in desks:
        desk.stop.set()
        desk.join()
        assert desk.refused == []
        assert len(set(desk.signers[-5:])) == 1
        assert len(set(desk.signers)) == 2
    assert kids(first) == kids(second)

    new = acquire(second, key, "ana", proof=True).body
    assert signer(new) == desks[0].signers[-1] != signer(old)
    assert {kid_of(old["proof"]), kid_of(new["proof"])} == kids(first)
    renewed = renew(first, key, old)
    assert (renewed.status, signer(renewed.body)) == (200, signer(new))

    retired_long_ago(database_url)
    for server in pair:
        wait_until(lambda at=server: kids(at) == {kid_of(new["proof"])})  # type: ignore[misc]
        worthless = renew(server, key, old)
        assert (worthless.status, worthless.body["code"]) == (400, "receipt_invalid")
        assert release(server, key, old).status == 400
        assert renew(server, key, new).status == 200
        assert renew(server, key, {**old, **renewed.body}).status == 200


def test_a_seatd_that_slept_through_a_rotation_refuses_nobody(pair: Pair) -> None:
    first, second = pair
    key = first.tenant("acme", tariff="team", seats=10)
    before = signer(acquire(first, key, "bob").body)
    assert second.process is not None
    os.kill(second.process.pid, signal.SIGSTOP)
    answers: list[Reply] = []
    try:
        made = first.admin("POST", "/v1/receipt-keys", {"signs_in_ms": 5_000}).body
        time.sleep(max(made["signs_from_ms"] / 1000 - time.time(), 0) + 2.5)
        leases = [acquire(first, key, f"u{n}").body for n in range(4)]
        assert before not in map(signer, leases)
        asked = [
            threading.Thread(target=lambda lease=lease: answers.append(renew(second, key, lease)))
            for lease in leases
        ]
        for thread in asked:
            thread.start()
        time.sleep(0.2)
    finally:
        os.kill(second.process.pid, signal.SIGCONT)
    for thread in asked:
        thread.join()
    assert [answer.status for answer in answers] == [200] * 4, [answer.raw for answer in answers]
