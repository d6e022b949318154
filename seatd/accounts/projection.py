"""Use cases of the flow that brings policies to the seat plane."""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from seatd.accounts import outbox, policy, tombstones
from seatd.accounts.base import UseCases
from seatd.accounts.records import Due
from seatd.accounts.tombstones import Burial
from seatd.database.engine import reading, writing
from seatd.model import Policy


class Projection(UseCases):
    """What the seat plane has to know, and what it has yet to hear."""

    async def policy(
        self, tenant: str, *, tenant_scoped: AbstractSet[str] = frozenset(), partition: int = 0
    ) -> Policy | None:
        """Give a tenant's policy as of now; None where there is no such tenant.

        `tenant_scoped`: the products that the price list sells to a tenant as a whole.  `partition`: where the
        tenant's seats are, and so whether it may have to learn.
        """
        found = await self.policies([tenant], tenant_scoped=tenant_scoped, partition_of=lambda _: partition)
        return found.get(tenant)

    async def policies(
        self, tenants: Iterable[str], *, tenant_scoped: AbstractSet[str], partition_of: Callable[[str], int]
    ) -> dict[str, Policy]:
        """Give the same of several tenants, by tenant, in as many questions as of one; those that there are not are left out."""
        async with reading(self.engine) as connection:
            return await policy.load(
                connection, tenants, self.clock(), tenant_scoped=tenant_scoped, partition_of=partition_of
            )

    async def due_projections(self, *, limit: int = 100) -> tuple[Due, ...]:
        """List what is to be projected now, oldest first; what was scheduled for now takes effect.

        The caller projects `policy(due.tenant)` and then says `projected` with the rows; a tenant may be due
        more than once.
        """
        now_ms = self.clock()
        async with reading(self.engine) as connection:
            found = await outbox.due(connection, limit=limit)
            scheduled = await outbox.awaits(connection, now_ms)
        if not scheduled:
            return found
        async with writing(self.engine) as connection:
            await outbox.fall_due(connection, now_ms, limit=limit)
            return await outbox.due(connection, limit=limit)

    async def projected(self, rows: Iterable[Due]) -> None:
        """Forget what was projected, by the rows of `due_projections`."""
        done = tuple(rows)
        async with writing(self.engine) as connection:
            await outbox.done(connection, [row.id for row in done])
            await tombstones.acknowledge_ttls(connection, {row.tenant for row in done}, self.clock())

    async def bury(self, burials: Iterable[Burial]) -> dict[int, int]:
        """Write tombstones in one transaction; gives the epoch of each partition at that time."""
        return await tombstones.bury(self.engine, burials, self.clock())

    async def tidy(self, margin_ms: int) -> None:
        """Drop tombstones that no longer matter; let the longest ttl fall where no such lease runs any more."""
        async with writing(self.engine) as connection:
            await tombstones.forget(connection, self.clock())
            await tombstones.shorten_ttls(connection, self.clock(), margin_ms)

    async def next_due_ms(self) -> int | None:
        """Give the instant at which the next projection is due, passed or to come; None: none is."""
        async with reading(self.engine) as connection:
            return await outbox.next_due_ms(connection)
