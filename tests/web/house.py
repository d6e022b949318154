"""A running seatd as the admin tests see it: its keys of every scope, its database read from outside."""

import asyncio
import itertools
from typing import Any

from sqlalchemy import select

from seatd.accounts.tokens import make
from seatd.database.engine import make_engine, reading
from seatd.database.schema import metadata
from seatd.model import Scope
from tests.servers import Reply, SeatdProcess, call

TABLES = ("tenants", "tariffs", "bookings", "people", "bindings", "keys", "audit", "meters")
_names = itertools.count()


class House:
    """A server, and shorthand for what every test asks of it."""

    def __init__(self, server: SeatdProcess, database_url: str) -> None:
        self.server = server
        self.database_url = database_url
        self.handed_out: list[str] = [server.admin_key]
        self._others: dict[str, str] = {}
        self._named: set[str] = set()
        self._sat: set[tuple[str, str]] = set()

    def new_name(self, prefix: str = "t") -> str:
        """A name that no test before has used."""
        name = f"{prefix}{next(_names)}"
        self._named.add(name)
        return name

    def admin(self, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        return self.server.admin(method, path, body, **options)

    def ok(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The body of an answer that must be one of success."""
        answer = self.admin(method, path, body, **options)
        assert answer.status < 300, (method, path, answer.status, answer.raw)
        return answer.body

    def tenant(self, **fields: Any) -> str:
        name = self.new_name()
        self.ok("PUT", f"/v1/tenants/{name}", {"name": name, **fields})
        return name

    def key(self, tenant: str | None, scope: str, **fields: Any) -> str:
        path = "/v1/keys" if tenant is None else f"/v1/tenants/{tenant}/keys"
        key = self.ok("POST", path, {"scope": scope, **fields})["key"]
        self.handed_out.append(key)
        return str(key)

    def key_of(self, who: str, tenant: str) -> str | None:
        """A key of each kind of caller; those that are not the tenant's own are made once."""
        match who:
            case "admin":
                return self.server.admin_key
            case "own":
                return self.key(tenant, "tenant_admin")
            case "client":
                return self.key(tenant, "client")
            case "unknown":
                return make(Scope.ADMIN, None)
            case "none":
                return None
        if who not in self._others:
            made = self.key(None, "billing") if who == "billing" else self.key(self.tenant(), "tenant_admin")
            self._others[who] = made
        return self._others[who]

    def seat(self, key: str, user: str, client: str = "c1", **fields: Any) -> Reply:
        """Acquire over the public listener."""
        self._sat.add((key.partition(".")[2].rpartition(".")[0], user))  # a key names its tenant
        return call(
            "POST", f"{self.server.url}/v1/leases", key=key, body={"user": user, "client": client, **fields}
        )

    def audit(self, tenant: str) -> list[dict[str, Any]]:
        return list(self.ok("GET", f"/v1/audit?tenant={tenant}&limit=1000")["items"])

    def dump(self) -> dict[str, list[Any]]:
        """Every row that an account change can touch.

        Of people only those of this house's tenants that never asked for a seat: the server's recorder may still be meeting
        users who did so in another test.
        """
        return asyncio.run(self._dump())

    async def _dump(self) -> dict[str, list[Any]]:
        engine = make_engine(self.database_url, pool_size=1)
        found: dict[str, list[Any]] = {}
        try:
            async with reading(engine) as connection:
                for name in TABLES:
                    columns = [c for c in metadata.tables[name].c if c.name != "last_used_ms"]
                    rows = (await connection.execute(select(*columns))).all()
                    if name == "people":
                        rows = [row for row in rows if self._only_named(row.tenant, row.name)]
                    found[name] = sorted(map(repr, rows))
        finally:
            await engine.dispose()
        return found

    def _only_named(self, tenant: str, user: str | None) -> bool:
        return tenant in self._named and (tenant, user) not in self._sat


def refused(answer: Reply, status: int, code: str) -> dict[str, Any]:
    """The problem that an answer is, checked to be one of the contract's."""
    assert answer.status == status, (answer.status, answer.raw)
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    problem: dict[str, Any] = answer.body
    assert (problem["status"], problem["code"]) == (status, code), problem
    assert {"type", "title", "detail"} <= problem.keys()
    assert "Traceback" not in problem["detail"]
    return problem
