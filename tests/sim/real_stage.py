"""Scripted histories on real stores: the stage of `tests.sim.stage`, in the product's steps."""

from typing import Any

from tests.sim.checker import Violation
from tests.sim.clients import Client
from tests.sim.operations import Answer, Look, OpenSeen, Project, Revoke
from tests.sim.rules import FOR_EVER, Rules, Tombstone
from tests.sim.stage import Begin, Stage
from tests.sim.store import Node
from tests.sim.world import TENANT


class RealStage(Stage):
    """A stage whose world was made of real stores."""

    def open(self, node: Node) -> None:
        """Open an epoch where none is open, and put every policy into force that can be."""
        sql: Any = self.world.sql
        _, seen, known = self.do(node, "look", Look())
        if not known:
            self.do(node, "open", OpenSeen(seen, sql.take_epoch(seen, self.world.loop.now)))
        for tenant in sql.accounts:
            self.project(node, tenant)

    def project(self, node: Node, tenant: str) -> None:
        sql: Any = self.world.sql
        self.do(node, "project", Project(tenant, *sql.policy_at(tenant, self.world.loop.now)))

    def revoke(self, client: Client, node: Node) -> Answer:
        """Bury, then end a lease; by the vendor's word, at once."""
        held, sql, now = client.receipt, self.world.sql, self.world.loop.now
        assert held
        stone = Tombstone(TENANT, held.user, held.lease, FOR_EVER, "revoked", before=held.start_ms)
        sql.ended.append([FOR_EVER, stone])
        epoch = sql.bury(Tombstone(TENANT, held.user, "", held.start_ms, "revoked"), now)
        revocation = Revoke(TENANT, held.user, held.lease, held.start_ms, force=True, epoch=epoch)
        answer = self.do(node, "revoke", revocation)
        if answer[0] == "revoked":
            self.world.watch.ended(stone)
        return answer


def revoked_at_the_old_primary(rules: Rules, begin: Begin) -> list[Violation]:
    """A word of the account plane reaches the old primary alone; the new one has read its policy before."""
    stage = begin(rules, nodes=2, w_ms=6_000, ttls=(10_000,))
    assert isinstance(stage, RealStage)
    first = stage.client("u0")
    stage.acquire(first, stage.world.primary)
    stage.at(500)
    old, new = stage.fail_over()
    stage.open(new)
    stage.at(700)
    stage.revoke(first, old)
    stage.at(900)
    stage.renew(first, new)
    return stage.finish()
