"""Acquire, renew, release, revoke, look: what the seat plane does for its callers.

Handlers call these methods; they hand operations to the batchers and turn the scripts' answers into
leases or refusals.  No SQL here: what a store does not know is asked of the account plane through the
two hooks, `project` (a tenant's policy) and `open_epoch` (a partition's epoch).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

from seatd.model import Policy, Refusal
from seatd.seats.agreement import Agreement
from seatd.seats.answers import REFUSALS
from seatd.seats.asking import Asking, InLine, lease_of
from seatd.seats.batch import RETRY_AFTER_MS, Batcher, store_unavailable
from seatd.seats.layout import Operation, policy_operation
from seatd.seats.line import Gone, Line
from seatd.seats.model import Acquire, Caller, Fullness, Lease, Sitting
from seatd.seats.receipts import Keyring, Receipt, unseal
from seatd.seats.store import Answer, Store, UnopenedError
from seatd.telemetry import log

REVOKE_TRIES: Final = 3
OPEN_TRIES: Final = 4
UNKNOWN_FOR_S: Final = 2.0
UNKNOWN_MAX: Final = 4_096

_TAKES_MORE: Final = frozenset({"unknown_tenant", "earlier"})
"""Answers that are nobody's last word: a policy is to be brought, or store and SQL have to agree on the epoch."""

T = TypeVar("T")
Told = Callable[[T | Refusal | None], None]
"""Told, once, what became of what was begun; None where it takes another step (a policy, an epoch): the store has done nothing
yet, and the method that is awaited is to be asked."""

Project = Callable[[str], Awaitable[bool]]
"""Put a tenant's policy into force; False where the account plane knows no such tenant."""
OpenEpoch = Callable[[int, int], Awaitable[None]]
"""Open an epoch of a partition, also where one is open on this store, if it is the one in which the clock stepped
(0: it did not); raises `Refusal` where the account plane cannot be asked."""
Bury = Callable[[str, str, int, str], Awaitable[int]]
"""Write a tombstone (tenant, user, start, reason) to SQL; gives the epoch that SQL knows then, 0 where it could not be
written in time."""


def _renewal(caller: Caller, held: Receipt) -> Operation:
    return (
        caller.tenant,
        caller.key_hash,
        held.lease,
        held.user,
        held.start_ms,
        held.expires_ms,
        held.client,
        held.kind,
        held.cap,
        held.version,
    )


def _release(caller: Caller, held: Receipt, epoch: int) -> Operation:
    return (caller.tenant, caller.key_hash, held.lease, held.user, held.start_ms, epoch, False)


def _check(answer: Answer) -> None:
    """Raise the `Refusal` that a script's answer is, where it is one."""
    refuse = REFUSALS.get(answer[0])
    if refuse is not None:
        raise refuse(answer)


class Seats:
    """The seat plane's use cases over one batcher a partition."""

    def __init__(
        self,
        store: Store,
        batchers: list[Batcher],
        keyring: Keyring,
        *,
        project: Project,
        open_epoch: OpenEpoch,
        bury: Bury,
    ) -> None:
        """Serve from `store` (for reads outside the batch) and `batchers`, one a partition."""
        self._store = store
        self._batchers = batchers
        self.keyring = keyring
        self._project = project
        self._open_epoch = open_epoch
        self._bury = bury
        self._opening: dict[int, asyncio.Lock] = {b.partition: asyncio.Lock() for b in batchers}
        self._generations: dict[int, int] = dict.fromkeys(self._opening, 0)
        self._projecting: dict[str, asyncio.Task[bool]] = {}
        self._unknown: dict[str, float] = {}
        self._agreement = Agreement(
            batchers,
            self._answer,
            lambda partition, epoch: self._open(partition, self._generations[partition], epoch),
        )
        self.line = Line(self._look_at_line)

    # -- for clients ------------------------------------------------------------------------------

    async def acquire(self, caller: Caller, wanted: Acquire, gone: Gone = lambda: False) -> Lease:
        """Take or extend the user's seat, if need be after a wait in line; raises `Refusal` with the code that says why not.

        `gone` tells whether the caller went meanwhile: then it is given no seat.
        """
        asking = Asking(self.keyring, caller, wanted)
        if not wanted.wait_ms:
            return await self._ask(asking, InLine.LAST if wanted.place else InLine.NO)
        return await self.line.wait(
            caller.tenant,
            wanted.user,
            wanted.wait_ms,
            ask=lambda last: self._ask(asking, InLine.LAST if last else InLine.WAITS),
            withdraw=lambda lease: self._withdraw(caller, wanted, lease),
            gone=gone,
        )

    async def _ask(self, asking: Asking, in_line: InLine) -> Lease:
        try:
            answer = await self._told("acquire", asking.operation(in_line))
        except Refusal as refusal:
            raise asking.unanswered(refusal) from None
        return asking.settled(answer)

    async def _withdraw(self, caller: Caller, wanted: Acquire, lease: Lease) -> None:
        """Take back a lease that nobody heard of: there is no receipt that could return, so no tombstone either."""
        held = (caller.tenant, caller.key_hash, lease.lease, lease.user, lease.start_ms)
        await self._answer("release", (*held, 0, wanted.request_id))

    async def _look_at_line(self, tenant: str, what: str, users: list[str]) -> Answer:
        return await self._batcher_of(tenant).submit("line", (tenant, what, users))

    async def renew(self, caller: Caller, lease: str, receipt_text: str) -> Lease:
        """Extend a lease by its receipt; raises `Refusal` `lease_gone` with the reason where it is lost."""
        held = unseal(self.keyring, receipt_text, tenant=caller.tenant, lease=lease)
        return self._renewed(held, await self._answer("renew", _renewal(caller, held)))

    def _renewed(self, held: Receipt, answer: Answer) -> Lease:
        """Make the lease that the script's answer to a renewal by this receipt says; raises `Refusal`."""
        _check(answer)
        return self._lease_of(held, answer)

    def _lease_of(self, held: Receipt, answer: Answer) -> Lease:
        start_ms, expires_ms, ttl_ms, kind, cap, version = answer[1:]
        renewed = Receipt(
            held.tenant, held.user, held.client, held.lease, start_ms, expires_ms, kind, cap, version
        )
        return lease_of(self.keyring, renewed, ttl_ms)

    async def release(self, caller: Caller, lease: str, receipt_text: str) -> bool:
        """Give a seat back; True where that ended or freed something.  A lost lease is no error."""
        held = unseal(self.keyring, receipt_text, tenant=caller.tenant, lease=lease)

        async def buried() -> Operation:
            epoch = await self._bury(caller.tenant, held.user, held.start_ms, "released")
            return _release(caller, held, epoch)

        return bool((await self._agreement.on(self.partition_of(caller.tenant), "release", buried))[1])

    # -- the same, begun: no coroutine, told when the batch comes back -------------------------------

    def begin_acquire(self, caller: Caller, wanted: Acquire, told: Told[Lease]) -> None:
        """Begin what `acquire` does for one who does not wait in line; raises `Refusal`."""
        asking = Asking(self.keyring, caller, wanted)

        def settle(answer: Answer | Exception) -> None:
            if isinstance(answer, Refusal):
                told(asking.unanswered(answer))
            else:
                self._settle(caller.tenant, asking.settled, told, answer)

        try:
            operation = asking.operation(InLine.LAST if wanted.place else InLine.NO)
            self._batcher_of(caller.tenant).offer("acquire", operation, settle)
        except Refusal as refusal:
            raise asking.unanswered(refusal) from None

    def begin_renew(self, caller: Caller, lease: str, receipt_text: str, told: Told[Lease]) -> None:
        """Begin what `renew` does; raises `Refusal`."""
        held = unseal(self.keyring, receipt_text, tenant=caller.tenant, lease=lease)
        settle = partial(self._settle_renewal, held, told)
        self._batcher_of(caller.tenant).offer("renew", _renewal(caller, held), settle)

    def _settle_renewal(self, held: Receipt, told: Told[Lease], answer: Answer | Exception) -> None:
        if not isinstance(answer, Exception) and answer[0] == "renewed":
            told(self._lease_of(held, answer))
        else:
            self._settle(held.tenant, partial(self._renewed, held), told, answer)

    def begin_release(self, caller: Caller, lease: str, receipt_text: str, told: Told[bool]) -> None:
        """Begin what `release` does; raises `Refusal`."""
        held = unseal(self.keyring, receipt_text, tenant=caller.tenant, lease=lease)
        partition = self.partition_of(caller.tenant)

        def read(answer: Answer) -> bool:
            _check(answer)
            self._agreement.reached(partition)
            return bool(answer[1])

        def buried(epoch: asyncio.Future[int]) -> None:
            if epoch.cancelled() or epoch.exception() is not None:
                told(None)
                return
            settle = partial(self._settle, caller.tenant, read, told)
            try:
                self._batchers[partition].offer("release", _release(caller, held, epoch.result()), settle)
            except Refusal as refusal:
                told(refusal)

        bury = self._bury(caller.tenant, held.user, held.start_ms, "released")
        asyncio.ensure_future(bury).add_done_callback(buried)

    def _settle(
        self, tenant: str, read: Callable[[Answer], T], told: Told[T], answer: Answer | Exception
    ) -> None:
        """Tell what a batch's answer comes to, or None where it takes another step."""
        outcome: T | Refusal | None = None
        if isinstance(answer, Refusal):
            outcome = answer
        elif not isinstance(answer, Exception) and answer[0] == "unknown_tenant" and self._is_unknown(tenant):
            outcome = REFUSALS["unknown_tenant"](answer)
        elif not isinstance(answer, Exception) and answer[0] not in _TAKES_MORE:
            try:
                outcome = read(answer)
            except Refusal as refusal:
                outcome = refusal
            except Exception:  # noqa: BLE001 - whatever it was, the caller gets an answer and we the trace
                log.exception("answer not understood")
                outcome = Refusal("internal")
        told(outcome)

    # -- what else clients ask ----------------------------------------------------------------------

    async def addon_user(self, caller: Caller, lease: str, product: str) -> str:
        """Tell whose lease it is, where that user is named for the add-on; else raises `Refusal`."""
        answer = await self._answer("inspect", (caller.tenant, "addon", caller.key_hash, lease, product))
        if answer[0] == "addon_not_named":
            raise Refusal("addon_not_named", product=product)
        return str(answer[1])

    async def admit(self, caller: Caller) -> None:
        """Check that a key opens the client routes of its tenant; raises `Refusal` where it does not."""
        await self._answer("inspect", (caller.tenant, "key", caller.key_hash))

    def crowded(self, tenant: str) -> Refusal | None:
        """Give the refusal `busy` where an acquire of this tenant would be refused for the load."""
        return self._batcher_of(tenant).crowded()

    def waited_s(self) -> float:
        """Tell how long the oldest operation that waits for the store has waited."""
        return max(batcher.waited_s for batcher in self._batchers)

    def epochs(self) -> tuple[int, ...]:
        """Tell in which epoch each partition answered last."""
        return tuple(batcher.unrecorded.epoch for batcher in self._batchers)

    # -- for the account plane --------------------------------------------------------------------

    def partition_of(self, tenant: str) -> int:
        """Tell which partition a tenant lives in."""
        return self._store.partition_of(tenant)

    def _batcher_of(self, tenant: str) -> Batcher:
        return self._batchers[self._store.partition_of(tenant)]

    async def put_policy(self, policy: Policy) -> bool:
        """Put a policy into force; False where a newer one stands.

        Raises `Refusal` `store_unavailable` where the store is away, or began anew since the policy was read.
        """
        answer = await self._answer("project", policy_operation(policy))
        if answer[0] == "earlier":  # it is to be read again
            await self._agreement.look_for(self.partition_of(policy.tenant), answer[1])
            raise store_unavailable()
        self._agreement.reached(self.partition_of(policy.tenant))
        self._unknown.pop(policy.tenant, None)
        return bool(answer[1])

    async def revoke(
        self, tenant: str, lease: str, *, force: bool = False, hold_ms: int = 0
    ) -> tuple[str, int]:
        """End a lease; returns its user, who may not sit again for `hold_ms`, and the instant its seat is free.

        Raises `Refusal`: `not_found`, `learning` where it may yet come back, `database_unavailable` where no
        tombstone can be written, without which a loss of the store could bring it back.
        """
        answer = await self._revoke(tenant, lease, "", "", force=force, hold_ms=hold_ms)
        return str(answer[2]), int(answer[3])

    async def revoke_user(self, tenant: str, user: str, kind: str) -> bool:
        """End the user's lease of that kind, if there is one."""
        try:
            await self._revoke(tenant, "", user, kind, force=False, hold_ms=0)
        except Refusal as refusal:
            if refusal.code != "not_found":
                raise
            return False
        return True

    async def _revoke(
        self, tenant: str, lease: str, user: str, kind: str, *, force: bool, hold_ms: int
    ) -> Answer:
        """Bury the lease's receipts, then end it; again where its holder acquired anew in between."""
        standing = await self._answer("inspect", (tenant, "standing", lease, user))
        user, start_ms = standing[2], standing[3]

        async def buried() -> Operation:
            epoch = await self._bury(tenant, user, start_ms, "revoked")
            if not epoch:
                raise Refusal("database_unavailable", retry_after_ms=RETRY_AFTER_MS)
            return (tenant, lease, user, kind, int(force), start_ms, hold_ms, epoch)

        for _ in range(REVOKE_TRIES):
            answer = await self._agreement.on(self.partition_of(tenant), "revoke", buried)
            if answer[0] != "later":
                return answer
            start_ms = answer[1]
        raise Refusal("busy", "The holder keeps acquiring; try again.", retry_after_ms=RETRY_AFTER_MS)

    async def fullness(self, tenant: str) -> Fullness:
        """Tell how full a tenant is now."""
        known, in_use, capacity, version, _, learns_until_ms, waiting = (
            await self._answer("inspect", (tenant, "status"))
        )[1:]
        return Fullness(bool(known), in_use, capacity, version, learns_until_ms, waiting)

    async def everywhere(self) -> list[tuple[str, int, int, int, int, int]]:
        """Tell how full every tenant is that the store knows.

        Returns rows of tenant, in use, capacity, refused this minute, milliseconds that it still learns, how many wait.
        Raises `Refusal` or `StoreAwayError` where the store is away.
        """
        rows: list[tuple[str, int, int, int, int, int]] = []
        for batcher in self._batchers:
            names = await self._store.tenants(batcher.partition)
            answers = await asyncio.gather(*(batcher.submit("inspect", (name, "full")) for name in names))
            rows += [
                (name, *answer[1:])
                for name, answer in zip(names, answers, strict=True)
                if answer[0] == "full"  # a policy of another epoch is not known yet
            ]
        return rows

    async def reachable(self) -> bool:
        """Tell whether the store answers and every partition has an epoch, opening one where there is none."""
        for batcher in self._batchers:
            await self._opened(batcher, "inspect", ("", "status"))
        return True

    async def sitting(self, tenant: str, start: int, most: int) -> tuple[list[Sitting], int | None]:
        """List who sits, from rank `start`; returns the rows and the rank to go on from, None at the end."""
        answer = await self._answer("inspect", (tenant, "who", start, most))
        rows = [Sitting(*row) for row in answer[3]]
        return rows, start + most if start + most < answer[2] else None

    # -- the way to the store ---------------------------------------------------------------------

    async def _answer(self, verb: str, operation: tuple[Any, ...]) -> Answer:
        """Have an operation answered; raises `Refusal` where the script refused."""
        answer = await self._told(verb, operation)
        if verb != "inspect" or answer[0] != "addon_not_named":
            _check(answer)
        return answer

    async def _told(self, verb: str, operation: tuple[Any, ...]) -> Answer:
        """Submit, and where the store lacks an epoch or a policy, bring it and submit once more."""
        tenant = operation[0]
        batcher = self._batcher_of(tenant)
        answer = await self._opened(batcher, verb, operation)
        if answer[0] == "unknown_tenant" and await self._bring(tenant):
            answer = await self._opened(batcher, verb, operation)
            if answer[0] == "unknown_tenant":  # known, and another epoch was opened in between
                raise store_unavailable()
        return answer

    async def _opened(self, batcher: Batcher, verb: str, operation: tuple[Any, ...]) -> Answer:
        """Submit; where the store is not the one that is known, have an epoch opened and submit once more."""
        late = False
        for _ in range(OPEN_TRIES):
            generation = self._generations[batcher.partition]
            try:
                return await batcher.submit(verb, operation)
            except UnopenedError as error:
                # A call that came late looks like a clock that jumped; only one that stays ahead is one.
                if error.stepped and not late:
                    late = True
                    continue
                await self._open(batcher.partition, generation, error.stepped)
        raise store_unavailable()

    async def _open(self, partition: int, generation: int, stepped: int) -> None:
        """Have an epoch opened, once for all who found the partition closed at the same time."""
        async with self._opening[partition]:
            if self._generations[partition] == generation:
                await self._open_epoch(partition, stepped)
                self._generations[partition] += 1

    def _is_unknown(self, tenant: str) -> bool:
        """Tell whether the account plane has just said that there is no such tenant."""
        return self._unknown.get(tenant, 0.0) > time.monotonic()

    async def _bring(self, tenant: str) -> bool:
        """Have a tenant projected, once for all who ask at the same time; remember who is unknown, briefly."""
        if self._is_unknown(tenant):
            return False
        task = self._projecting.get(tenant)
        if task is None:
            task = asyncio.ensure_future(self._project(tenant))
            self._projecting[tenant] = task
            task.add_done_callback(lambda _: self._projecting.pop(tenant, None))
        known = await asyncio.shield(task)
        if not known:
            if len(self._unknown) >= UNKNOWN_MAX:
                self._unknown.clear()
            self._unknown[tenant] = time.monotonic() + UNKNOWN_FOR_S
        return known
