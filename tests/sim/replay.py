"""The simulator's schedules on real stores: the same settings, clients, faults and checker, over real scripts.

Beside each store stands the modelled one (`tests.sim.twin`): where it answers otherwise, the history has found something.
`real_worlds` gives what `tests.sim.run` makes a history of; how a store is made to live in virtual time, and what its
servers do, is not decided here.
"""

import contextlib
from collections.abc import Iterator

from tests.sim.product import ProductServer
from tests.sim.real import RealNode, valkeys
from tests.sim.rules import Rules
from tests.sim.tables import ProductSql
from tests.sim.world import PAIR, Make, Parts, Setting, World

ROLLS_BACK = frozenset({*PAIR, "rollback", "everything", "scripted"})


@contextlib.contextmanager
def real_worlds() -> Iterator[Make]:
    """Have real stores, for one history after another."""
    with valkeys() as stores:
        parts = Parts(stores.node, ProductServer, ProductSql)

        def make(seed: int, setting: Setting, rules: Rules) -> World:
            stores.history_over()
            world = World(seed, setting, rules, parts)
            stores.tell_difference = world.watch.differs
            for node in world.nodes:
                if setting.fault in ROLLS_BACK and isinstance(node, RealNode):
                    node.keeps_copies()
            return world

        yield make
