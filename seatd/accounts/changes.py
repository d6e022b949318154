"""How any account is changed: one transaction holds the change, its audit row and its outbox row.

Decides the order of locks (the tenant's row first, the audit log's end last), the instant of a change (never
before the tenant's latest one, whatever the clocks of several seatds say) and that `policy_version` rises with
each.  Whoever changes something opens `changing`, writes, and says `record`; without a record nothing rises.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from seatd.accounts import audit
from seatd.database.engine import locked, writing
from seatd.database.schema import outbox, tenants
from seatd.model import Refusal

Clock = Callable[[], int]
"""Gives the instant now, in milliseconds since the UTC epoch."""


@dataclass(slots=True)
class Change:
    """A tenant whose row is locked, at the instant `now_ms` at which everything of this change happens."""

    connection: AsyncConnection
    tenant: str
    row: Row[Any]
    now_ms: int
    actor: str
    _records: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    _projects: bool = False

    @property
    def changed(self) -> bool:
        """Tell whether anything was recorded."""
        return bool(self._records)

    def record(self, action: str, detail: Mapping[str, Any], *, projects: bool = True) -> None:
        """Note what was done, for the audit log; `projects`: it bears on the tenant's policy."""
        self._records.append((action, detail))
        self._projects = self._projects or projects

    async def schedule(self, due_ms: int) -> None:
        """Have the policy projected again at `due_ms`, when something decided now takes effect."""
        await self.connection.execute(
            insert(outbox).values(tenant=self.tenant, due_ms=due_ms, scheduled=True)
        )

    async def finish(self) -> None:
        """Write what the records ask for."""
        if not self.changed:
            return
        if self._projects:
            await raise_version(self.connection, self.tenant, self.now_ms)
            await self.connection.execute(
                insert(outbox).values(tenant=self.tenant, due_ms=self.now_ms, scheduled=False)
            )
        for action, detail in self._records:
            await audit.append(
                self.connection,
                at_ms=self.now_ms,
                actor=self.actor,
                action=action,
                tenant=self.tenant,
                detail=detail,
            )


async def raise_version(connection: AsyncConnection, tenant: str, at_ms: int) -> None:
    """Raise the version of a tenant's policy, for what holds from `at_ms` on; its row must be locked."""
    await connection.execute(
        update(tenants)
        .where(tenants.c.id == tenant)
        .values(policy_version=tenants.c.policy_version + 1, changed_ms=at_ms)
    )


async def lock_tenant(connection: AsyncConnection, tenant: str) -> Row[Any]:
    """Lock a tenant's row to the end of the transaction; raises `Refusal("not_found")`."""
    query = locked(select(tenants).where(tenants.c.id == tenant))
    row: Row[Any] | None = (await connection.execute(query)).one_or_none()
    if row is None:
        raise unknown_tenant(tenant)
    return row


def unknown_tenant(tenant: str) -> Refusal:
    """Make the refusal for a tenant that does not exist."""
    return Refusal("not_found", f"There is no tenant {tenant}.")


async def begin(connection: AsyncConnection, clock: Clock, tenant: str, actor: str) -> Change:
    """Lock the tenant and fix the instant of a change; the caller calls `finish`."""
    row = await lock_tenant(connection, tenant)
    return Change(connection, tenant, row, max(clock(), row.changed_ms), actor)


@asynccontextmanager
async def changing(engine: AsyncEngine, clock: Clock, tenant: str, actor: str) -> AsyncIterator[Change]:
    """Change a tenant in one transaction; raises `Refusal("not_found")` and what `writing` raises."""
    async with writing(engine) as connection:
        change = await begin(connection, clock, tenant, actor)
        yield change
        await change.finish()
