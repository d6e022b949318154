"""One history: a deployment made from a seed, what goes wrong with it, and how it ends.

`Setting` says how bad it is; `FAULTS` are the rows of the table.  After the last fault everybody goes home, and
as many new users as there are seats must get one: nothing may have leaked.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from seatd.model import Policy, Tariff
from tests.sim.checker import History, Watch
from tests.sim.clients import Client
from tests.sim.network import TIMEOUT, Link, Loop, Network, Process
from tests.sim.operations import Acquire, State
from tests.sim.rules import FOR_EVER, Rules, Times, Tombstone
from tests.sim.servers import Server
from tests.sim.sql import Sql
from tests.sim.store import Node

TENANT = "acme"
LATE = "late"
CAP_MAX = 4
STORE_LINK = Link(usual_ms=4, slow=4, slow_ms=700, lost=2, reply_lost=6, doubled=0, dark=0)
CALM = Link(usual_ms=4, slow=0, lost=0, reply_lost=0, doubled=0, dark=0)
SINGLE = ("calm", "network", "empty", "flushed", "rollback", "clock", "seatd", "sql")
PAIR = ("failover", "split", "there and back", "late tenant")
FAULTS = (*SINGLE, *PAIR, "everything")


@dataclass(frozen=True)
class Setting:
    """How a deployment is used and abused; times in milliseconds, chances in [0, 1]."""

    fault: str = "calm"
    nodes: int = 1
    cap: int = 1
    users: int = 3
    ttls: tuple[int, ...] = (4_000, 6_000, 10_000)
    delta_ms: int = 300
    w_ms: int = 0
    horizon_ms: int = 60_000
    pause_ms: tuple[int, int] = (50, 2_000)
    stay_ms: tuple[int, int] = (1_000, 25_000)
    again: float = 0.06
    crash: float = 0.03
    hang: float = 0.04  # a desktop asks nobody for a while, and believes as long as it may
    replay: float = 0.05
    takeover: float = 0.5
    changes_ms: tuple[int, int] = (3_000, 20_000)
    changes: tuple[str, ...] = ("cap", "cap", "ttl", "revoke", "force", "suspend", "switch", "unbind")
    faults: int = 2
    client_drift: bool = True
    fickle: float = 0.2  # a client asks another server
    sql_lost: int = 5  # thousandths of transactions whose answer is lost
    link: Link = field(default_factory=Link)
    store_link: Link = STORE_LINK


def setting_for(rng: random.Random, fault: str, **fixed: Any) -> Setting:
    """Draw a setting in which a fault may hurt."""
    nodes = 2 if fault in PAIR or (fault == "everything" and rng.random() < 0.6) else 1
    setting = Setting(
        fault=fault,
        nodes=nodes,
        cap=rng.choice((1, 1, 2, 3)),
        users=rng.choice((2, 3, 4)),
        delta_ms=rng.choice((100, 300, 600)),
        w_ms=rng.choice((1_500, 3_000, 4_000)) if nodes > 1 else 0,
        client_drift=rng.random() < 0.5,
        faults=rng.choice((1, 2, 2, 3)),
        link=Link() if fault != "calm" else CALM,
    )
    return replace(setting, **fixed)


class Parts(NamedTuple):
    """What a history is made of."""

    node: Callable[[str, Rules, Times], Node]
    server: Callable[[Any, str], Server]
    sql: Callable[[Rules, Times], Sql]


MODEL = Parts(Node, Server, Sql)
Make = Callable[[int, Setting, Rules], "World"]


class World:
    """All the parts of one history."""

    def __init__(self, seed: int, setting: Setting, rules: Rules, parts: Parts = MODEL) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.setting = setting
        self.rules = rules
        self.loop = Loop()
        self.network = Network(self.loop, self.rng)
        q_ms = rules.lock_delay_ms(setting.delta_ms, setting.w_ms, setting.nodes)
        self.times = Times(setting.delta_ms, setting.w_ms, q_ms)
        self.nodes = [parts.node(f"n{i}", rules, self.times) for i in range(setting.nodes)]
        self.primary = self.nodes[0]
        self.sql = parts.sql(rules, self.times)
        self.history = History(self.loop)
        self.watch = Watch(self)
        self.closing = False
        self._ids = 0
        self._changing: set[str] = set()
        for node in self.nodes:
            node.offset_ms = 1_000_000 + self.rng.randint(0, setting.delta_ms)
            if not setting.client_drift:
                node.rate_ppm = self.rng.choice((995_000, 1_000_000, 1_005_000))
        first = Policy(
            TENANT, 1, Tariff.TEAM, setting.cap, self.rng.choice(setting.ttls), bindings=self._bound()
        )
        self.sql.create(first, 0)
        self.watch.decided(first)
        self.servers = [parts.server(self, f"s{i}") for i in range(self.rng.choice((1, 2, 3)))]
        self.clients = [
            Client(self, TENANT, f"u{i}", f"c{j}")
            for i in range(setting.users)
            for j in range(self.rng.choice((1, 2)))
        ]

    def _bound(self) -> dict[str, tuple[str, ...]]:
        users: dict[str, tuple[str, ...]] = {f"u{i}": ("agent",) for i in range(self.setting.users)}
        return users | {f"p{i}": ("agent",) for i in range(CAP_MAX)}

    def fresh(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}{self._ids}"

    def chance(self, thousandths: int) -> bool:
        return self.rng.random() * 1000 < thousandths

    def deliver(self, verb: str, op: Any) -> None:
        """Have a stray message arrive somewhere."""
        self.rng.choice(self.servers).serve(verb, op, lambda _: None)

    def execute(
        self, server: Server, node: Node, verb: str, op: Any, expected: tuple[int, int] | None
    ) -> Any:
        """Run one operation on a node, watched."""
        answer = node.call(verb, op, self.loop.now, expected)
        self.watch.executed(node, verb, op, answer)
        return answer

    # -- a history --------------------------------------------------------------------------------

    def run(self) -> "World":
        """Play, and see how it ends."""
        self.play()
        self._close()
        self.watch.finished()
        return self

    def play(self) -> "World":
        """Play to the horizon."""
        setting, loop = self.setting, self.loop
        for server in self.servers:
            server.start()
        for client in self.clients:
            loop.spawn(client.live())
        loop.spawn(self._administer())
        for _ in range(setting.faults):
            at = self.rng.randint(5_000, setting.horizon_ms - 15_000)
            loop.at(at, self._go_wrong)
        if setting.fault == "late tenant":
            loop.at(self.rng.randint(2_000, setting.horizon_ms - 20_000), self._late_tenant)
        loop.run(setting.horizon_ms)
        return self

    def _close(self) -> None:
        """Send everybody home, wait until all has run out, and ask for every seat."""
        self.closing = True
        self.setting = replace(self.setting, link=CALM, store_link=CALM)
        self.sql.up = True
        self.network.dark_until.clear()
        for server in self.servers:
            if not server.up:
                server.start()
        longest = max(setting_ttl for setting_ttl in self.setting.ttls)
        wait = self.rules.window_ms(self.times, longest, longest) + longest + self.times.q_ms + 12_000
        self.loop.run(self.loop.now + wait)
        self.loop.spawn(self._probe())
        self.loop.run(self.loop.now + 2 * wait)

    def _probe(self) -> Process:
        server = self.rng.choice(self.servers)
        policy = self.sql.accounts[TENANT].policy
        if policy.suspended_since_ms is not None:
            return
        for i in range(policy.cap):
            for _ in range(12):
                request = Acquire(
                    TENANT, f"p{i}", "probe", self.fresh("r"), takeover=False, lease=self.fresh("l")
                )
                answer = yield from server.do("acquire", request)
                if answer[0] not in {"learning", "store_unavailable"}:
                    break
                yield self.loop.sleep(2_500)
            self.watch.probed(answer)

    # -- the vendor -------------------------------------------------------------------------------

    def _administer(self) -> Process:
        while not self.closing:
            yield self.loop.sleep(self.rng.randint(*self.setting.changes_ms))
            if self.setting.changes and self.sql.up and not self.closing:
                yield from self._change(self.rng.choice(self.setting.changes))

    def _change(self, what: str) -> Any:
        policy = self.sql.accounts[TENANT].policy
        if what in {"revoke", "force"}:
            yield from self._revoke(force=what == "force")
        elif what == "cap":
            yield from self._decide(cap=min(max(1, policy.cap + self.rng.choice((-1, 1))), CAP_MAX))
        elif what == "ttl":
            yield from self._decide(ttl_ms=self.rng.choice(self.setting.ttls))
        elif what == "suspend":
            yield from self._decide(suspended_since_ms=self.loop.now)
            yield self.loop.sleep(self.rng.randint(10, 3_000))
            yield from self._decide(suspended_since_ms=None)
        elif what == "switch":
            other = Tariff.AGENT if policy.tariff is Tariff.TEAM else Tariff.TEAM
            yield from self._decide(tariff=other)
        else:
            yield from self._unbind()

    def _decide(self, **fields: Any) -> Any:
        """Change the policy: commit, project until acknowledged, note what that ended."""
        sql = self.sql
        before = sql.accounts[TENANT].policy
        policy = sql.change(TENANT, **fields)
        self.watch.decided(policy)
        ends, kind, whose = "", "", ""
        if policy.suspended_since_ms is not None:
            ends = "suspended"
        elif policy.tariff != before.tariff:
            ends, kind = "tariff_switched", str(before.tariff)
        elif len(policy.bindings) < len(before.bindings) and policy.tariff is Tariff.AGENT:
            ends, kind = "revoked", "agent"
            whose = next(iter(before.bindings.keys() - policy.bindings.keys()))
        if ends:
            sql.ended.append([FOR_EVER, Tombstone(TENANT, whose, "", FOR_EVER, ends, kind)])
        top = yield from self._project()
        sql.acknowledged(TENANT, self.loop.now)
        self.watch.in_force(policy)
        if whose:
            yield from self._take_away(whose)
        if not ends:
            return
        sql.ended[-1][0] = self.loop.now
        while not sql.up:  # until this is written, nobody may decide anything that lifts the end again
            yield self.loop.sleep(100)
        stone = Tombstone(TENANT, whose, "", top, ends, kind)
        sql.bury(stone, self.loop.now)
        self.watch.ended(stone)

    def _project(self) -> Any:
        while True:
            server = self.rng.choice(self.servers)
            if server.up:
                answer = yield from server.project(TENANT)
                if answer[0] == "projected":
                    return answer[2]
            yield self.loop.sleep(self.rng.randint(50, 400))

    def _take_away(self, user: str) -> Any:
        while not self.closing:
            server = self.rng.choice(self.servers)
            if server.up and self.sql.up and (yield from server.take_away(TENANT, user)):
                return
            yield self.loop.sleep(self.rng.randint(50, 400))

    def _revoke(self, *, force: bool) -> Any:
        live = self.primary.live(TENANT)
        if not live:
            return
        user, seat = self.rng.choice(live)
        while not self.closing:
            server = self.rng.choice(self.servers)
            if server.up and self.sql.up:
                answer = yield from server.revoke(TENANT, user, seat.lease, seat.start, force=force)
                if answer[0] in {"revoked", "not_found"}:
                    stone = Tombstone(TENANT, user, seat.lease, FOR_EVER, "revoked", before=seat.start)
                    self.watch.ended(stone)
                    return
            yield self.loop.sleep(self.rng.randint(50, 400))

    def _unbind(self) -> Any:
        policy = self.sql.accounts[TENANT].policy
        user = self.rng.choice(self.clients).user
        without = {name: products for name, products in policy.bindings.items() if name != user}
        yield from self._decide(bindings=without)
        yield self.loop.sleep(self.rng.randint(2_000, 9_000))
        yield from self._decide(bindings=self._bound())

    def _late_tenant(self) -> None:
        policy = Policy(LATE, 1, Tariff.TEAM, 1, self.rng.choice(self.setting.ttls))
        self.sql.create(policy, self.loop.now)
        self.watch.decided(policy)
        self.watch.in_force(policy)
        for i in range(3):
            self.clients.append(Client(self, LATE, f"v{i}", "c0"))
            self.loop.spawn(self.clients[-1].live())

    # -- what goes wrong --------------------------------------------------------------------------

    def _go_wrong(self) -> None:
        fault = self.setting.fault
        if fault == "everything":
            kinds = SINGLE[1:] if self.setting.nodes == 1 else (*PAIR, "rollback", "seatd", "sql")
            fault = self.rng.choice(kinds)
        ways: dict[str, Callable[[], None]] = {
            "empty": lambda: self._restart(State()),
            "flushed": lambda: self.primary.put(State()),
            "rollback": lambda: self._restart(
                self.primary.older(self.loop.now - self.rng.randint(0, 10_000))
            ),
            "failover": lambda: self._fail_over(split=False),
            "late tenant": lambda: self._fail_over(split=True),
            "split": lambda: self._fail_over(split=True),
            "there and back": self._there_and_back,
            "clock": self._step,
            "seatd": self._crash,
            "sql": self._sql_away,
        }
        if fault in ways:
            ways[fault]()

    def _restart(self, state: State) -> None:
        node = self.primary
        node.restart()
        node.promote()
        node.put(state)
        node.up = False
        self.loop.at(self.loop.now + self.rng.randint(10, 1_500), _bring_up, node)

    def _fail_over(self, *, split: bool) -> None:
        old, now = self.primary, self.loop.now
        if now <= old.writes_until < FOR_EVER or not old.up:
            return
        new = next(node for node in self.nodes if node is not old)
        if not new.up or now <= new.writes_until < FOR_EVER:
            return  # it has not come back from the last time
        new.put(old.older(now - self.rng.choice((0, 20, 300, 1_000, self.rng.randint(0, 10_000)))))
        new.promote()
        new.life += 1
        new.copies = []
        self.primary = new
        old.writes_until = now + self.times.w_ms if split else now
        for server in self.servers:
            late = self.rng.randint(0, self.times.w_ms) if split else self.rng.randint(0, 50)
            self.loop.at(now + late, setattr, server, "view", new)

    def _there_and_back(self) -> None:
        """Fail over and back before anybody looks: the first node has lost what the second never had."""
        node, now = self.primary, self.loop.now
        node.put(node.older(now - self.rng.choice((300, 1_000, 3_000, 10_000))))
        node.promote()
        node.life += 1

    def _step(self) -> None:
        if self.rng.random() < 0.4:
            self.primary.offset_ms -= self.rng.randint(1, 5_000)
        elif all(
            (server.expected(self.primary) or [0])[0] == self.primary.state.epoch for server in self.servers
        ):
            self.primary.offset_ms += self.rng.choice((800, 2_000, 20_000))

    def _crash(self) -> None:
        server = self.rng.choice(self.servers)
        if server.up:
            server.crash()
            self.loop.at(self.loop.now + self.rng.randint(100, 4_000), server.start)

    def _sql_away(self) -> None:
        self.sql.up = False
        self.loop.at(self.loop.now + self.rng.randint(500, 12_000), _bring_up, self.sql)


def _bring_up(what: Any) -> None:
    what.up = True


__all__ = ["FAULTS", "TENANT", "TIMEOUT", "Setting", "World", "setting_for"]
