"""A seatd process, modelled: no state but what it may lose; what it does between client, SQL and store."""

from collections.abc import Callable, Generator
from typing import Any

from tests.sim.network import TIMEOUT, Effect, Process, Reply
from tests.sim.operations import Again, Answer, Close, Event, Project, Release, Revoke, Sweep
from tests.sim.rules import FOR_EVER, Tombstone
from tests.sim.store import Node

STORE_TIMEOUT_MS = 800
AWAY: Answer = ["store_unavailable"]
Steps = Generator[Effect, Any, Any]


class Server:
    """One seatd: which node it takes for the primary, the time it expects there, events it must keep."""

    def __init__(self, world: Any, name: str) -> None:
        self.world = world
        self.name = name
        self.life = 0
        self.up = True
        self.view: Node = world.primary
        self._clock: dict[str, tuple[int, int, int]] = {}  # node -> epoch, how far ahead of the host, when
        self.kept: dict[tuple[int, Event], None] = {}

    def crash(self) -> None:
        self.life += 1
        self.up = False
        self.kept = {}
        self._clock = {}

    def start(self) -> None:
        self.up = True
        self.view = self.world.primary
        self._run(self._housekeeping())

    def _run(self, process: Process) -> None:
        life = self.life
        self.world.loop.spawn(process, lambda: self.life == life)

    # -- serving ------------------------------------------------------------------------------------

    def serve(self, verb: str, op: Any, reply: Reply) -> None:
        """Take a client's request."""
        if self.up:
            self._run(self._handle(verb, op, reply))

    def _handle(self, verb: str, op: Any, reply: Reply) -> Process:
        if verb == "release":
            held = op.receipt
            stone = Tombstone(op.tenant, held.user, held.lease, held.start_ms, "released")
            epoch = yield self.sql(lambda: self.world.sql.bury(stone, self.world.loop.now))
            op = Release(op.tenant, held, epoch if isinstance(epoch, int) else 0)
        answer = yield from self.do(verb, op)
        reply(answer)

    def do(self, verb: str, op: Any) -> Steps:
        """Have an operation done by the store, bringing what it lacks: an epoch, a policy."""
        for _ in range(4):
            answer = yield self._ask(verb, op)
            if answer[0] == "unopened":
                yield from self._open(answer[1])
            elif answer[0] == "unknown_tenant":
                yield from self.project(op.tenant)
            elif answer[0] == "ahead":
                yield from self._judge_clock(answer)
            elif answer[0] == "stale":
                yield from self._behind(answer[1], op.epoch)
                if verb == "revoke":
                    op = op._replace(epoch=self.world.sql.epoch)
            else:
                return answer
        return AWAY

    def _judge_clock(self, answer: Answer) -> Steps:
        """Close the epoch where the store's clock stepped; where the call was only late, do nothing."""
        _, time_ms, epoch = answer
        told = self.expected(self.view)
        if told and told[0] == epoch and self.world.rules.ahead(time_ms, told[1], self.world.times.q_ms):
            yield self._ask("close", Close(epoch))

    def _behind(self, own: int, told: int) -> Steps:
        """Find the newer primary; where there is none, a number was taken for a vacancy that is no more: begin anew."""
        if self.view is self.world.primary and own < told:
            yield self._ask("close", Close(own))
        self.view = self.world.primary
        yield self.world.loop.sleep(20)

    def _open(self, vacancy: str) -> Steps:
        opening = yield self.sql(lambda: self.world.sql.next_epoch(vacancy, self.world.loop.now))
        if opening is not TIMEOUT:
            yield self._ask("open", opening)

    def project(self, tenant: str) -> Steps:
        """Put the newest policy into force; returns the answer."""
        for _ in range(3):
            read = yield self.sql(lambda: self.world.sql.policy(tenant))
            if read is TIMEOUT or read is None:
                return AWAY
            answer = yield self._ask("project", Project(tenant, *read))
            if answer[0] == "unopened":
                yield from self._open(answer[1])
            elif answer[0] == "ahead":
                yield from self._judge_clock(answer)
            elif answer[0] == "stale":
                yield from self._behind(answer[1], read[1])
            else:
                return answer
        return AWAY

    # -- the account plane ----------------------------------------------------------------------------

    def revoke(self, tenant: str, user: str, lease: str, start: int, *, force: bool) -> Steps:
        """End a lease: written first, then done; returns the answer."""
        sql, loop = self.world.sql, self.world.loop
        stone = self.world.rules.revocation(tenant, user, lease, start)

        def write() -> int:
            sql.ended.append([FOR_EVER, stone])
            return int(sql.bury(stone, loop.now))

        epoch = yield self.sql(write)
        if epoch is TIMEOUT:
            return AWAY
        answer = yield from self.do("revoke", Revoke(tenant, user, lease, start, force, epoch))
        return answer

    def take_away(self, tenant: str, user: str) -> Steps:
        """End the named seat of a user whose binding is gone; True where that is done.  The projection did it here."""
        yield self.world.loop.sleep(0)
        return True

    # -- the loops ------------------------------------------------------------------------------------

    def _housekeeping(self) -> Process:
        world = self.world
        while True:
            yield world.loop.sleep(world.rng.randint(500, 1_500) * (4 if world.closing else 1))
            for tenant in list(world.sql.accounts):
                yield self._ask("sweep", Sweep(tenant))
            yield from self.record()
            yield from self._add_again()

    def record(self) -> Steps:
        """Write what the stream has to the ledger, then trim it; a crash may fall between any two steps."""
        state = self.view.state
        lineage = self.view.lineage
        entries = list(state.stream)
        written = yield self.sql(lambda: self.world.sql.record([(e[2], e[3]) for e in entries]))
        if written is TIMEOUT:
            return
        yield self.world.loop.sleep(1)
        if self.view.lineage == lineage and entries:
            last = entries[-1][:2]
            state.stream = [entry for entry in state.stream if entry[:2] > last]

    def _add_again(self) -> Steps:
        committed = self.world.sql.committed
        self.kept = {entry: None for entry in self.kept if entry not in committed}
        lost = tuple(entry for entry in self.kept if entry[0] < self.view.state.epoch)
        if lost:
            yield self._ask("again", Again(lost))

    # -- ways out -------------------------------------------------------------------------------------

    def sql(self, work: Callable[[], Any]) -> Effect:
        """Do a transaction; TIMEOUT where SQL is away (or the answer of a commit is lost)."""
        world = self.world

        def effect(resume: Callable[[Any], None]) -> None:
            def run() -> None:
                value = work() if world.sql.up else TIMEOUT
                if world.chance(world.setting.sql_lost):
                    value = TIMEOUT
                world.loop.at(world.loop.now + int(world.rng.random() * 4), resume, value)

            world.loop.at(world.loop.now + int(world.rng.random() * 12), run)

        return effect

    def _ask(self, verb: str, op: Any) -> Effect:
        return self._ask_of(self.view, verb, op)

    def _ask_of(self, node: Node, verb: str, op: Any) -> Effect:
        world, life = self.world, self.life
        connection, expected = node.life, self.expected(node)

        def handler(reply: Reply) -> None:
            if node.life == connection and node.up and world.loop.now <= node.writes_until:
                answer = world.execute(self, node, verb, op, expected)
                reply((answer, node.state.epoch, node.now, node.told()))

        ask = world.network.ask(self.name, world.setting.store_link, handler, STORE_TIMEOUT_MS)

        def effect(resume: Callable[[Any], None]) -> None:
            sent = world.loop.now

            def heard(value: Any) -> None:
                if value is TIMEOUT:
                    if world.loop.now > node.writes_until:
                        self.view = world.primary
                    resume(AWAY)
                    return
                if life == self.life:
                    self._heard(node, sent, *value)
                resume(value[0])

            ask(heard)

        return effect

    def _heard(self, node: Node, sent: int, answer: Answer, epoch: int, said: int, emitted: Any) -> None:
        if answer[0] != "ahead":
            self._learn_clock(node, epoch, said, sent)
        self.kept.update(dict.fromkeys(emitted))
        self.world.watch.acknowledged(self, emitted)

    def _learn_clock(self, node: Node, epoch: int, said: int, sent: int) -> None:
        """Keep a quick answer, and a slow one only where the store turns out to be behind what was expected.

        Every clock that is kept is at most what the store had, so a step forward is never taken for none.
        """
        now, q_ms = self.world.loop.now, self.world.times.q_ms
        before = self._clock.get(node.name)
        if before and before[0] == epoch and now - sent > q_ms // 4:
            aged = before[1] - (now - before[2]) // 100 - 1  # clocks drift by a hundredth
            if said - now >= aged - (now - sent):
                self._clock[node.name] = (epoch, aged, now)
                return
        self._clock[node.name] = (epoch, said - now, now)

    def expected(self, node: Node) -> tuple[int, int] | None:
        """Tell which epoch and time this seatd expects of a node, None before it heard of it."""
        told = self._clock.get(node.name)
        return told and (told[0], told[1] + self.world.loop.now)
