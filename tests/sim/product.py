"""A seatd process, modelled on what the product does rather than on what the rules would like; for real stores.

The order in which an epoch is opened, a policy brought, a tombstone written and lost events added again is that of
`seatd.seats.service` and `seatd.flows`; what a server expects of a store's clock and keeps of acknowledged events is the
product's own code.
"""

from functools import partial
from typing import Any

from seatd.seats.store import Answers, UnopenedError
from seatd.seats.unrecorded import Unrecorded
from tests.sim.network import TIMEOUT, Process, Reply
from tests.sim.operations import (
    Again,
    Answer,
    Close,
    Look,
    OpenSeen,
    Project,
    Reachable,
    Revoke,
    Sweep,
    TakeAway,
)
from tests.sim.real import RealNode, event_of
from tests.sim.rules import FOR_EVER, Tombstone
from tests.sim.servers import AWAY, Server, Steps
from tests.sim.virtual import Clock

OPEN_TRIES = 4
AGREE_TRIES, AGREE_WITHIN_MS, AGREE_PAUSE_MS, FORGOTTEN_MS = 10, 500, 100, 10_000
CLOSES_MS = 2_000
NO_TIME = frozenset({"stepped", "looked", "open", "closed"})


class ProductServer(Server):
    """One seatd, in the product's steps."""

    world: Any
    view: RealNode

    def __init__(self, world: Any, name: str) -> None:
        super().__init__(world, name)
        self._sees_all = world.rng.random() < 0.5  # of two primaries, both
        self._forget()

    def _forget(self) -> None:
        self.unrecorded = Unrecorded()
        self._clocks: dict[str, Clock] = {}
        self._differs_since = 0
        self._epoch = self._closes_until = 0

    def crash(self) -> None:
        super().crash()
        self._forget()

    # -- the way to the store -------------------------------------------------------------------------

    def do(self, verb: str, op: Any) -> Steps:
        """Have an operation done, bringing what the store lacks."""
        answer = yield from self._opened(verb, op)
        if answer[0] == "unknown_tenant":
            answer = yield from self.project(op.tenant)
            if answer[0] != "projected":
                return AWAY
            answer = yield from self._opened(verb, op)
        return AWAY if answer[0] == "unknown_tenant" else answer

    def project(self, tenant: str) -> Steps:
        """Read a policy and put it into force; one that was read in another epoch is refused."""
        read = yield self.sql(lambda: self.world.sql.policy_at(tenant, self.world.loop.now))
        if read is TIMEOUT or read is None:
            return AWAY
        answer = yield from self._opened("project", Project(tenant, *read))
        if answer[0] == "earlier":
            yield from self._find_out(answer[1])
            return AWAY
        self._differs_since = 0
        return answer

    def _opened(self, verb: str, op: Any) -> Steps:
        late = False
        for _ in range(OPEN_TRIES):
            answer = yield self._ask(verb, op)
            if answer[0] not in {"unopened", "stepped"}:
                return answer
            if answer[0] == "stepped" and not late:
                late = True
            elif not (yield from self._open_here(answer[1] if answer[0] == "stepped" else 0)):
                return AWAY
        return AWAY

    def _open_here(self, stepped: int) -> Steps:
        self.view = self.world.primary  # sentinels are asked anew
        looked = yield self._ask("look", Look())
        if looked[0] != "looked":
            return False
        _, seen, known = looked
        if known and seen != stepped:
            return True
        epoch = yield self.sql(lambda: self.world.sql.take_epoch(seen, self.world.loop.now))
        if epoch is TIMEOUT:
            return False
        opened = yield self._ask("open", OpenSeen(seen, epoch))
        return opened[0] == "open"

    def _find_out(self, epoch: int) -> Steps:
        """Look for another primary; where there is none for a while, open an epoch on the one that is known."""
        now, since = self.world.loop.now, self._differs_since
        self.view = self.world.primary
        if since and AGREE_WITHIN_MS < now - since < FORGOTTEN_MS:
            self._differs_since = 0
            yield from self._open_here(epoch)
            return
        if not since or now - since >= FORGOTTEN_MS:
            self._differs_since = now
        yield self.world.loop.sleep(AGREE_PAUSE_MS)

    def _heard(self, node: Any, sent: int, answer: Answer, epoch: int, said: int, emitted: Any) -> None:
        clock = self._clock_of(node)
        if answer[0] == "unopened":
            clock.note(UnopenedError(""), sent)
        elif answer[0] not in NO_TIME:
            clock.note(Answers([], said, epoch, 0, []), sent)
        for told in emitted:
            self.unrecorded.note(told)
            events = [event_of(packed) for packed in told.events]
            self.world.watch.acknowledged(self, [(told.epoch, event) for event in events if event])

    def _clock_of(self, node: Any) -> Clock:
        node.stores.now_ms = self.world.loop.now
        if node.name not in self._clocks:
            self._clocks[node.name] = Clock(self.world.times)
        return self._clocks[node.name]

    def expected(self, node: Any) -> tuple[int, int] | None:
        """Tell which epoch and time this seatd expects of a node, None before it heard of it."""
        return self._clock_of(node).expected()

    # -- a client's release -----------------------------------------------------------------------------

    def _handle(self, verb: str, op: Any, reply: Reply) -> Process:
        """Serve a client; a release is buried first, and anew where SQL is in another epoch than the store."""
        if verb != "release":
            yield from super()._handle(verb, op, reply)
            return
        held = op.receipt
        stone = Tombstone(op.tenant, held.user, held.lease, held.start_ms, "released")
        for _ in range(AGREE_TRIES):
            epoch = yield self.sql(lambda: self.world.sql.bury(stone, self.world.loop.now))
            answer = yield from self.do(verb, op._replace(buried_in=0 if epoch is TIMEOUT else epoch))
            if answer[0] != "earlier":
                reply(answer)
                return
            yield from self._find_out(answer[1])
        reply(AWAY)

    # -- the account plane ----------------------------------------------------------------------------

    def revoke(self, tenant: str, user: str, lease: str, start: int, *, force: bool) -> Steps:
        """End a lease: looked up, buried, then done."""
        stone = Tombstone(tenant, user, lease, FOR_EVER, "revoked", before=start)
        return (yield from self._ended("revoke", stone, Revoke(tenant, user, lease, 0, force, 0)))

    def take_away(self, tenant: str, user: str) -> Steps:
        """End the named seat of a user; True where there is none any more."""
        stone = Tombstone(tenant, user, "", FOR_EVER, "revoked", "agent")
        answer = yield from self._ended("take_away", stone, TakeAway(tenant, user, 0, 0))
        return answer[0] in {"revoked", "not_found"}

    def _ended(self, verb: str, stone: Tombstone, op: Any) -> Steps:
        for _ in range(AGREE_TRIES):
            answer = yield from self.do(verb, op)
            if answer[0] == "earlier":
                yield from self._find_out(answer[1])
                op = op._replace(start=0)
            elif answer[0] != "bury":
                return answer
            else:
                epoch = yield self.sql(partial(self._bury, stone, answer[1], answer[2]))
                if epoch is TIMEOUT:
                    return AWAY
                op = op._replace(start=answer[2], epoch=epoch)
        return AWAY

    def _bury(self, stone: Tombstone, user: str, start: int) -> int:
        sql = self.world.sql
        sql.ended.append([FOR_EVER, stone])
        return int(sql.bury(Tombstone(stone.tenant, user, "", start, "revoked"), self.world.loop.now))

    # -- the loops ------------------------------------------------------------------------------------

    def _housekeeping(self) -> Process:
        world = self.world
        while True:
            yield world.loop.sleep(world.rng.randint(500, 1_500) * (8 if world.closing else 1))
            yield from self.do("reachable", Reachable())
            yield self._ask("sweep", Sweep(""))
            if self._sees_all and len(world.nodes) > 1:
                yield from self._close_earlier()
            yield from self.record()
            yield from self._add_again()

    def _close_earlier(self) -> Steps:
        """After a new epoch, close earlier ones on every node that can be reached."""
        world = self.world
        looked = yield self._ask("look", Look())
        if looked[0] == "looked" and looked[2] and looked[1] != self._epoch:
            self._epoch, self._closes_until = looked[1], world.loop.now + world.times.w_ms + CLOSES_MS
        if world.loop.now < self._closes_until:
            for node in world.nodes:
                yield self._ask_of(node, "close", Close(self._epoch))

    def record(self) -> Steps:
        """Read the stream, commit, then trim; a crash may fall between any two steps."""
        node = self.view
        events = node.events()
        before = yield self.sql(lambda: self.world.sql.cursor)
        if before is TIMEOUT or not events:
            return
        written = yield self.sql(lambda: self.world.sql.commit(events, before))
        if written is TIMEOUT or not written:
            return
        yield self.world.loop.sleep(1)
        node.trim(events[-1])

    def _add_again(self) -> Steps:
        cursor = yield self.sql(lambda: self.world.sql.cursor)
        if cursor is TIMEOUT:
            return
        self.unrecorded.committed(cursor.epoch, cursor.seq)
        lost = self.unrecorded.lost()
        if lost:
            answer = yield self._ask("again", Again(tuple(lost)))
            if answer[0] != "added":
                self.unrecorded.keep_lost(lost)
