"""What is asked, request by request: each workload hands a free connection its next request.

A `Desk` is one user at one client; it has at most one request under way, and renews with its newest receipt.
"""

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.http1 import Answered


class Connection(Protocol):
    """What a workload sends on."""

    def acquire(self, body: dict[str, Any], answered: Answered) -> None:
        """Ask for a seat."""

    def renew(self, lease: str, receipt: str, answered: Answered) -> None:
        """Ask for more time."""

    def release(self, lease: str, receipt: str, answered: Answered) -> None:
        """Give a seat back."""


Told = Callable[[str, str], None]
"""Told the kind of a request that was answered, and the code."""


@dataclass(slots=True)
class Desk:
    """A user at a client, and the seat that it holds, if it does."""

    user: str
    client: str
    tenant: int = 0
    lease: str = ""
    receipt: str = field(default="", repr=False)

    def acquire(self, connection: Connection, told: Told) -> None:
        """Take a seat, and keep what was granted."""

        def answered(code: str, body: dict[str, Any] | None) -> None:
            if code == "ok" and body:
                self.lease, self.receipt = body["lease"], body["receipt"]
            told("acquire", code)

        connection.acquire({"user": self.user, "client": self.client}, answered)

    def renew(self, connection: Connection, told: Told) -> None:
        """Renew, and keep the newer receipt."""

        def answered(code: str, body: dict[str, Any] | None) -> None:
            if code == "ok" and body:
                self.receipt = body["receipt"]
            told("renew", code)

        connection.renew(self.lease, self.receipt, answered)

    def release(self, connection: Connection, told: Told) -> None:
        """Give the seat back."""
        lease, self.lease = self.lease, ""
        connection.release(lease, self.receipt, lambda code, _: told("release", code))


def desks(count: int, tenants: int, prefix: str) -> list[Desk]:
    """Make desks with ids of 16 characters, spread evenly over tenants."""
    return [
        Desk(f"{prefix}{number:0{16 - len(prefix)}}", f"pc{number:014}", number % tenants)
        for number in range(count)
    ]


class Workload(Protocol):
    """Gives the next request of one tenant's connection; False where there is none (any more)."""

    def send(self, connection: Connection, tenant: int, told: Told) -> bool:
        """Send the next request."""


class Renewing:
    """Every desk renews in turn."""

    def __init__(self, seated: list[Desk], tenants: int) -> None:
        self._free = [deque(desk for desk in seated if desk.tenant == number) for number in range(tenants)]

    def send(self, connection: Connection, tenant: int, told: Told) -> bool:
        """Renew the desk that waits longest."""
        free = self._free[tenant]
        if not free:
            return False
        desk = free.popleft()

        def done(kind: str, code: str) -> None:
            free.append(desk)
            told(kind, code)

        desk.renew(connection, done)
        return True


class Cycling:
    """Desks take a seat, and give it back at their next turn."""

    def __init__(self, standing: list[Desk], tenants: int) -> None:
        self._free = [deque(desk for desk in standing if desk.tenant == number) for number in range(tenants)]

    def send(self, connection: Connection, tenant: int, told: Told) -> bool:
        """Release if the next desk sits, else acquire."""
        free = self._free[tenant]
        if not free:
            return False
        desk = free.popleft()

        def done(kind: str, code: str) -> None:
            free.append(desk)
            told(kind, code)

        (desk.release if desk.lease else desk.acquire)(connection, done)
        return True


class Mixed:
    """So large a share of renewals, the rest other work."""

    def __init__(self, renewing: Renewing, other: Workload, share: float, seed: int) -> None:
        self._renewing, self._other, self._share = renewing, other, share
        self._rng = random.Random(seed)

    def send(self, connection: Connection, tenant: int, told: Told) -> bool:
        """Draw which it is."""
        chosen: Workload = self._renewing if self._rng.random() < self._share else self._other
        return chosen.send(connection, tenant, told)


class Arriving:
    """Everybody acquires once: a login storm."""

    def __init__(self, standing: list[Desk], tenants: int) -> None:
        self._left: list[Iterator[Desk]] = [
            iter([desk for desk in standing if desk.tenant == number]) for number in range(tenants)
        ]

    def send(self, connection: Connection, tenant: int, told: Told) -> bool:
        """Let the next one in."""
        desk = next(self._left[tenant], None)
        if desk is None:
            return False

        def done(_: str, code: str) -> None:
            told("granted" if code == "ok" else "denied", code)

        desk.acquire(connection, done)
        return True


def in_turn(tenants: int) -> Iterator[int]:
    """Give the tenants one after the other, for ever."""
    return itertools.cycle(range(tenants))
