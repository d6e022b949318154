"""Bring policies from the account plane to the seat plane, after each change and when they fall due.

A projection is made certain by the outbox: a row goes only when the seat plane has acknowledged a policy at
least as new.  So a reply to an administrator may say that a change stands and is not in force yet.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from seatd.accounts.service import Accounts
from seatd.model import Policy, Refusal
from seatd.seats.service import Seats
from seatd.telemetry import PROJECTIONS, log

ROWS_A_ROUND: Final = 100
ROUND_EVERY_S: Final = 1.0
READ_AT_ONCE: Final = 20
"""Tenants whose policies are read together: each may have thousands of names, and clients are served meanwhile."""
WEIGHT_MAX: Final = 2_000
WEIGHT_OF_ONE: Final = 20
"""A policy, and many of them, in lines that the store has to write."""

TenantScoped = Callable[[], Awaitable[AbstractSet[str]]]
"""Gives the products that the price lists sell to a tenant as a whole."""


def _lots(policies: Iterable[Policy]) -> Iterator[list[Policy]]:
    """Part policies so that no script call is long: others wait for it."""
    lot: list[Policy] = []
    weight = 0
    for policy in policies:
        lot.append(policy)
        weight += WEIGHT_OF_ONE + len(policy.bindings) + len(policy.keys) + len(policy.tombstones)
        if weight >= WEIGHT_MAX:
            yield lot
            lot, weight = [], 0
    if lot:
        yield lot


class Projector:
    """Projects policies: one tenant on demand, all that are due in a loop.

    `database_up` tells whether SQL answered the loop when it last asked.  Who sets `everything` has every tenant
    projected once: after an epoch was opened, so that what learns is known before somebody comes; and at a start, for
    whoever opened one may have died before all was projected.
    """

    def __init__(self, accounts: Accounts, seats: Seats, tenant_scoped: TenantScoped) -> None:
        self._accounts = accounts
        self._seats = seats
        self._tenant_scoped = tenant_scoped
        self.database_up = False
        self.everything = True

    async def project(self, tenant: str) -> bool:
        """Put a tenant's policy of now into force; False where there is no such tenant.

        Raises `Refusal`: `database_unavailable`, `store_unavailable`, `busy`.
        """
        return tenant in await self._project_together([tenant])

    async def _project(self, tenants: Sequence[str]) -> None:
        """Project many tenants, some at a time.  Raises what `project` raises."""
        for first in range(0, len(tenants), READ_AT_ONCE):
            await self._project_together(tenants[first : first + READ_AT_ONCE])

    async def _project_together(self, tenants: Sequence[str]) -> AbstractSet[str]:
        """Put the policies of tenants into force; gives those that there are."""
        found = await self._accounts.policies(
            tenants, tenant_scoped=await self._tenant_scoped(), partition_of=self._seats.partition_of
        )
        for lot in _lots(found.values()):
            puts = (self._seats.put_policy(policy) for policy in lot)
            outcomes = await asyncio.gather(*puts, return_exceptions=True)
            failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            PROJECTIONS.labels("ok").inc(len(lot) - len(failures))
            PROJECTIONS.labels("failed").inc(len(failures))
            for failure in failures:
                raise failure
        return found.keys()

    async def project_due(self) -> int:
        """Project what is due, up to a bound; returns how many rows went."""
        due = await self._accounts.due_projections(limit=ROWS_A_ROUND)
        if due:
            await self._project([*dict.fromkeys(row.tenant for row in due)])
            await self._accounts.projected(due)
        return len(due)

    async def _project_everything(self) -> None:
        self.everything = False  # an epoch that is opened meanwhile asks for it again
        try:
            await self._project_all()
        except BaseException:
            self.everything = True
            raise

    async def _project_all(self) -> None:
        after: str | None = None
        while True:
            page = await self._accounts.tenants(limit=ROWS_A_ROUND, after=after)
            self.database_up = True
            await self._project([tenant.id for tenant in page.items])
            await self.project_due()  # changes do not wait for thousands that may be in force already
            if page.next is None:
                return
            after = page.next

    async def project_for_ever(self) -> None:
        """Project what falls due, until cancelled."""
        while True:
            try:
                if self.everything:
                    await self._project_everything()
                while await self.project_due() == ROWS_A_ROUND:
                    pass
                self.database_up = True
            except Refusal as refusal:
                self.database_up = refusal.code not in {"database_unavailable", "busy"}
                log.debug("projection waits", code=refusal.code)
            await asyncio.sleep(ROUND_EVERY_S)
