"""Scripted histories: a few operations at named instants, on the same models and under the same watch.

For what chance finds too seldom.  Each scenario takes rules and tells what did not hold.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from seatd.model import Policy, Tariff
from seatd.seats.receipts import Receipt
from tests.sim.checker import Violation
from tests.sim.clients import Client
from tests.sim.operations import Acquire, Answer, Project, Release, Renew, Revoke, State, Sweep
from tests.sim.rules import FOR_EVER, Rules, Tombstone
from tests.sim.store import Node
from tests.sim.world import CALM, LATE, TENANT, Make, Setting, World


class Stage:
    """Two users, one seat, up to two nodes; `now` is set by the script."""

    def __init__(self, rules: Rules, make: Make = World, **fixed: Any) -> None:
        setting = Setting(
            fault="scripted", link=CALM, store_link=CALM, ttls=(3_000,), delta_ms=100, client_drift=False
        )
        self.world = make(0, replace(setting, **fixed), rules)
        for node in self.world.nodes:
            node.offset_ms, node.rate_ppm = 1_000_000, 1_000_000
        self.world.clients = []
        self.at(100)
        self.open(self.world.primary)

    def at(self, ms: int) -> None:
        self.world.loop.now = ms

    def client(self, user: str, tenant: str = TENANT, name: str = "c0") -> Client:
        made = Client(self.world, tenant, user, name)
        made.stubborn = True
        self.world.clients.append(made)
        return made

    def do(self, node: Node, verb: str, op: Any) -> Answer:
        answer: Answer = self.world.execute(self.world.servers[0], node, verb, op, None)
        return answer

    def open(self, node: Node) -> None:
        """Open an epoch where none is open, and put every policy into force that can be."""
        answer = self.do(node, "renew", Renew(TENANT, _nobodys()))
        if answer[0] == "unopened":
            self.do(node, "open", self.world.sql.next_epoch(answer[1], self.world.loop.now))
        for tenant in self.world.sql.accounts:
            self.project(node, tenant)

    def project(self, node: Node, tenant: str) -> None:
        read = self.world.sql.policy(tenant)
        assert read
        self.do(node, "project", Project(tenant, *read))

    def acquire(self, client: Client, node: Node, *, takeover: bool = False) -> Answer:
        op = Acquire(
            client.tenant,
            client.user,
            client.name,
            self.world.fresh("r"),
            takeover=takeover,
            lease=self.world.fresh("l"),
        )
        answer = self.do(node, "acquire", op)
        if answer[0] == "granted":
            _, _, lease, start, expires, ttl, kind, cap, version = answer
            held = Receipt(client.tenant, client.user, client.name, lease, start, expires, kind, cap, version)
            client._believe(self.world.loop.now, held, ttl)
        return answer

    def renew(self, client: Client, node: Node) -> Answer:
        held = client.receipt
        assert held
        answer = self.do(node, "renew", Renew(client.tenant, held))
        if answer[0] == "renewed":
            client._believe(
                self.world.loop.now, held._replace(start_ms=answer[1], expires_ms=answer[2]), answer[3]
            )
        return answer

    def release(self, client: Client, node: Node, receipt: Any = None) -> Answer:
        held = receipt or client.receipt
        assert held
        if receipt is None:
            client.stop()
        stone = Tombstone(client.tenant, held.user, held.lease, held.start_ms, "released")
        epoch = self.world.sql.bury(stone, self.world.loop.now)
        return self.do(node, "release", Release(client.tenant, held, epoch))

    def fail_over(self) -> tuple[Node, Node]:
        """Promote the second node with all that the first has; the first goes on for W."""
        old, new = self.world.nodes
        new.put(old.older(self.world.loop.now))
        new.promote()
        self.world.primary = new
        old.writes_until = self.world.loop.now + self.world.times.w_ms
        return old, new

    def finish(self) -> list[Violation]:
        self.world.watch.finished()
        return self.world.watch.violations


Begin = Callable[..., Stage]


def _nobodys() -> Receipt:
    return Receipt(TENANT, "nobody", "c0", "none", 0, 0, "team", 0)


def lapsed_at_the_old_primary(rules: Rules, begin: Begin = Stage) -> list[Violation]:
    """A holder goes over to the new primary; the old one takes it for lapsed and gives its seat away."""
    stage = begin(rules, nodes=2, w_ms=6_000)
    first, second = stage.client("u0"), stage.client("u1")
    stage.acquire(first, stage.world.primary)
    stage.at(500)
    old, new = stage.fail_over()
    stage.open(new)
    stage.at(2_500)
    stage.renew(first, new)
    stage.at(3_400)
    stage.acquire(second, old)
    return stage.finish()


def lapsed_then_restored(rules: Rules, begin: Begin = Stage) -> list[Violation]:
    """A lapsed lease comes back with an old copy of the store, and its holder with an old receipt."""
    stage = begin(rules)
    node, first, second = stage.world.primary, stage.client("u0"), stage.client("u1")
    stage.acquire(first, node)
    copy = node.older(stage.world.loop.now)
    stage.at(3_700)
    stage.acquire(second, node)
    stage.at(4_000)
    node.restart()
    node.put(copy)
    stage.open(node)
    stage.at(4_100)
    stage.renew(first, node)
    stage.at(4_200)
    stage.renew(second, node)
    return stage.finish()


def new_tenant_at_both_primaries(rules: Rules) -> list[Violation]:
    """A tenant made after a promotion does not learn; the old primary must not hear of it."""
    stage = Stage(rules, nodes=2, w_ms=6_000)
    stage.at(500)
    old, new = stage.fail_over()
    stage.open(new)
    stage.at(700)
    stage.world.sql.create(Policy(LATE, 1, Tariff.TEAM, 1, 3_000), 700)
    stage.world.watch.decided(stage.world.sql.accounts[LATE].policy)
    for client, node in ((stage.client("v0", LATE), old), (stage.client("v1", LATE), new)):
        stage.project(node, LATE)
        stage.acquire(client, node)
    return stage.finish()


def caps_that_rose_and_fell(rules: Rules, begin: Begin = Stage) -> list[Violation]:
    """The first holder was granted under one seat, the second under two; the cap is one again, the store lost."""
    stage = begin(rules)
    node, first, second = stage.world.primary, stage.client("u0"), stage.client("u1")
    stage.acquire(first, node)
    for at, cap in ((300, 2), (500, 1)):
        stage.at(at)
        stage.world.watch.decided(stage.world.sql.change(TENANT, cap=cap))
        stage.project(node, TENANT)
        stage.acquire(second, node)
    stage.at(700)
    node.restart()
    node.put(State())
    stage.open(node)
    stage.renew(second, node)
    stage.renew(first, node)
    return stage.finish()


def an_opening_held_up(rules: Rules) -> list[Violation]:
    """An opening waits in a stopped store's socket; the store is flushed, opened, used and flushed again meanwhile."""
    stage = Stage(rules)
    node, sql, first, second = stage.world.primary, stage.world.sql, stage.client("u0"), stage.client("u1")
    stage.acquire(first, node)
    stage.at(300)
    node.put(State())
    held_up = sql.next_epoch(stage.do(node, "renew", Renew(TENANT, _nobodys()))[1], 300)
    node.put(State())
    stage.open(node)
    stage.at(400)
    stage.renew(first, node)
    copy = first.receipt
    stage.release(first, node)
    stage.at(7_000)
    stage.acquire(second, node)
    node.put(State())
    stage.do(node, "renew", Renew(TENANT, _nobodys()))
    stage.do(node, "open", held_up)
    stage.open(node)
    assert copy
    return stage.finish()


def taken_over_then_revoked(rules: Rules) -> list[Violation]:
    """A user moves to another desktop and is revoked there by force; the store is lost; the first desktop asks."""
    stage = Stage(rules, ttls=(10_000,))
    world, node = stage.world, stage.world.primary
    first, moved, second = stage.client("u0"), stage.client("u0", name="c1"), stage.client("u1")
    stage.acquire(first, node)
    stage.at(500)
    stage.acquire(moved, node, takeover=True)
    held = moved.receipt
    assert held
    stone = rules.revocation(TENANT, "u0", held.lease, held.start_ms)
    world.sql.ended.append([FOR_EVER, stone])
    epoch = world.sql.bury(stone, 600)
    stage.do(node, "revoke", Revoke(TENANT, "u0", held.lease, held.start_ms, force=True, epoch=epoch))
    stage.at(800)
    stage.acquire(second, node)
    node.put(State())
    stage.open(node)
    stage.renew(first, node)
    stage.renew(second, node)
    return stage.finish()


def many_small_steps(rules: Rules) -> list[Violation]:
    """The store's clock steps forward three times, each time by less than Q, within one ttl."""
    stage = Stage(rules)
    node, first, second = stage.world.primary, stage.client("u0"), stage.client("u1")
    stage.acquire(first, node)
    told = node.now - stage.world.loop.now
    for at in (500, 1_000, 1_500):
        stage.at(at)
        node.offset_ms += 400
        node.call("sweep", Sweep(TENANT), at, (1, at + told))
        told = node.now - at
    stage.at(2_500)
    stage.acquire(second, node)
    return stage.finish()


def late_release_after_a_rollback(rules: Rules) -> tuple[int | None, int]:
    """A release of an earlier start ends what a rollback restored; its holder is adopted and works on.

    Returns when the ledger says that the lease ended, and when its holder last was renewed (store's time).
    """
    stage = Stage(rules)
    node, client = stage.world.primary, stage.client("u0")
    stage.acquire(client, node)
    first, copy = client.receipt, node.state.copy()
    stage.at(1_000)
    stage.acquire(client, node)
    stage.at(1_200)
    node.restart()
    node.put(copy)
    stage.open(node)
    stage.at(1_300)
    stage.release(client, node, receipt=first)
    last = 0
    for at in (1_400, 2_400, 3_400):
        stage.at(at)
        assert stage.renew(client, node)[0] == "renewed"
        last = node.now
    stage.world.sql.record([entry[2:] for entry in node.state.stream])
    assert first
    return stage.world.sql.ledger[first.lease].ended_ms, last
