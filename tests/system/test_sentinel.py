"""A primary dies or freezes under people who work: nobody is thrown out, no seat is sold twice, and service goes on."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.sentinels import Node, Sentinels
from tests.servers import SeatdProcess
from tests.system.test_losses import learning
from tests.system.test_seats_http import acquire, release, renew

SEATS, PEOPLE, TTL_MS = 3, 5, 6_000
WAITS = ("--delta-ms", "100", "--w-ms", "2000", "--q-ms", "2000")
"""min-replicas-max-lag is a second there."""


class Person:
    """Takes a seat when there is one, renews it, gives it back after a while; writes down when it believed in one."""

    def __init__(self, user: str, stay_s: float) -> None:
        self.user = user
        self.stay_s = stay_s
        self.stretches: list[list[float]] = []
        self.thrown_out: list[Any] = []
        self._held: dict[str, Any] | None = None
        self._since = 0.0
        self._answered = time.monotonic()
        self.silence_s = 0.0

    def live(self, server: SeatdProcess, key: str, over: threading.Event) -> None:
        while not over.wait(0.15):
            sent = time.monotonic()
            if self._held is None or sent >= self.stretches[-1][1]:
                self._held = None
                self._sit(sent, acquire(server, key, self.user))
            elif sent - self._since > self.stay_s:
                self.stretches[-1][1] = sent
                held, self._held = self._held, None
                release(server, key, held)
            else:
                answer = renew(server, key, self._held)
                if answer.status == 410 and time.monotonic() < self.stretches[-1][1]:
                    self.thrown_out.append((self.user, answer.body))
                self._sit(sent, answer)

    def _sit(self, sent: float, answer: Any) -> None:
        if answer.status not in (200, 201):
            return
        now = time.monotonic()
        self.silence_s, self._answered = max(self.silence_s, now - self._answered), now
        until = sent + TTL_MS / 1000 / 1.01
        if self._held is None:
            self.stretches.append([sent, until])
            self._since = sent
        self.stretches[-1][1] = until
        self._held = answer.body


def most_at_once(people: list[Person]) -> int:
    """Count who believed at most at one instant."""
    edges = [(at, step) for one in people for s in one.stretches for at, step in ((s[0], 1), (s[1], -1))]
    now = most = 0
    for _, step in sorted(edges):
        now += step
        most = max(most, now)
    return most


@contextmanager
def at_work(people: list[Person], server: SeatdProcess, key: str) -> Iterator[None]:
    over = threading.Event()
    with ThreadPoolExecutor(len(people)) as pool:
        living = [pool.submit(one.live, server, key, over) for one in people]
        try:
            yield
        finally:
            over.set()
        for one in living:
            one.result()


def granted_since(people: list[Person], at: float) -> bool:
    """Tell whether somebody has sat down since then."""
    return any(stretch[0] > at for one in people for stretch in one.stretches)


def test_failovers_throw_nobody_out_and_sell_no_seat_twice(new_seatd):
    with Sentinels() as sentinels:
        server = new_seatd("--store", sentinels.url, *WAITS).start()
        key = server.tenant("acme", tariff="team", seats=SEATS, lease_ttl_ms=TTL_MS)
        people = [Person(f"u{n}", stay_s=3.0 + n if n else 600.0) for n in range(PEOPLE)]
        held = acquire(server, key, "u0").body  # among the first, whoever is quicker then
        assert held["user"] == "u0"
        with at_work(people, server, key):
            time.sleep(1)
            killed, _ = sentinels.fail_over(Node.kill)
            sentinels.bring_back(killed)
            paused, new = sentinels.fail_over(Node.pause)
            paused.go_on()  # and takes itself for the primary, until sentinels make a replica of it
            began = time.monotonic()
            while learning(server) != ["acme"]:
                assert time.monotonic() < began + 15
                time.sleep(0.1)
            while not granted_since(people, began):
                assert time.monotonic() < began + 40
                time.sleep(0.1)
            time.sleep(0.5)
        assert learning(server) == []
        # It renewed all the time, unless this machine is so slow that a failover outlasted its lease.
        assert len(people[0].stretches) == 1 or people[0].silence_s > TTL_MS / 1000 - 0.5
        assert [person.thrown_out for person in people if person.thrown_out] == []
        assert most_at_once(people) == SEATS
        assert '"event": "epoch opened"' in server.log
        assert sentinels.primary() is new
