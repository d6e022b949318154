"""What can be measured, part by part; each leaves what it found under its name."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.processes import Generator, Peer, cpu_s
from tests.postgres import PostgresServer

CONNECTIONS = 64
DESKS = 512
IN_USE = 5_000
TENANT = "bench"


class Served(Protocol):
    """A server that is measured."""

    @property
    def url(self) -> str:
        """Where it is."""

    @property
    def pid(self) -> int:
        """Its process."""


NOBODY = Peer("", 0)


@dataclass
class Bench:
    """One run: how long each measurement takes, the generator, and what was found so far, by part."""

    seconds: float
    quick: bool
    generator: Generator
    postgres: PostgresServer | None = None
    bare: Peer = NOBODY
    found: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def database(self, *, driver: bool = False) -> str:
        """Make an empty PostgreSQL database; gives asyncpg's URL, or with `driver` SQLAlchemy's; empty without a server."""
        if self.postgres is None:
            return ""
        url = self.postgres.empty_database()
        return url if driver else url.replace("postgresql+asyncpg", "postgresql")

    async def load(self, server: Served, key: str = "none", **plan: Any) -> dict[str, Any]:
        """Run the generator against one tenant, for as long as this run measures; tells the server's CPU as well."""
        whole = {"keys": [key], "connections": CONNECTIONS, "seconds": self.seconds, **plan}
        before = cpu_s(server.pid)
        counted = await self.generator.run(server.url, **whole)
        after = cpu_s(server.pid)
        requests = max(counted["requests"], 1)
        used = {name: round((after[name] - before.get(name, 0)) * 1e6 / requests, 1) for name in after}
        return {**counted, "cpu_us": used}

    async def renewals(self, server: Served, key: str = "none", **plan: Any) -> dict[str, Any]:
        """Renew, closed loop unless a rate is given."""
        return await self.load(server, key, **{"work": "renew", "desks": DESKS, **plan})

    async def cycles(self, server: Served, key: str = "none", **plan: Any) -> dict[str, Any]:
        """Acquire and release over and over, beside those who sit."""
        return await self.load(server, key, **{"work": "cycle", "standing": DESKS, **plan})

    async def pulse(self, server: Served, key: str = "none", **plan: Any) -> dict[str, Any]:
        """Renew one lease, one at a time, with pauses."""
        return await self.load(server, key, **{"work": "pulse", "desks": 1, "connections": 1, **plan})
