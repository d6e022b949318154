"""Every wrong rule that the design names is caught by replaying the simulator's schedules on real stores.

Which way each is made, and where else it is shown:

| wrong rule | here, on real stores | also |
| --- | --- | --- |
| learning off | scripts | test_learning_mutations |
| window of the ttl only | scripts | test_learning_mutations |
| tombstones off | scripts | test_learning_mutations |
| leftovers counted against an adoption | scripts | test_learning_mutations |
| client deadline taken from the reply | the client's rule | sim.test_mutations |
| Q < W with split brain | the constant; by a script on two stores | sim.test_mutations |
| a present lease extended without its receipt's expiry | scripts; by chance and by a script | test_learning_mutations |
| a 200 that does not extend | scripts | test_mutations |
| a late release that ends a later start | scripts | test_mutations |
| a takeover without the floor | scripts | test_mutations |
| expires that falls when the ttl is lowered | scripts | test_mutations |
| policy kept across an epoch | scripts | test_learning_mutations |
| lowered cap that refuses an honest holder | scripts | test_learning_mutations |
| a revoked lease adopted again | nothing of it written to SQL | test_learning_mutations |
| run_id alone | scripts | sim.test_mutations |
| a word of another epoch taken | scripts, on two stores | sim.test_mutations |
| the cap of a seat's first grant alone | scripts | test_learning_mutations |

A row names the seed at which chance finds it soonest; sim.test_mutations tries the same rule on the modelled store.
That the modelled store, which stands beside, answers otherwise than broken scripts counts for nothing here.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import pytest

from tests.seats.mutations import Mutation, put_in_place
from tests.sim import stage, wrong
from tests.sim.checker import DIFFERS
from tests.sim.real_stage import RealStage, revoked_at_the_old_primary
from tests.sim.replay import real_worlds
from tests.sim.rules import Rules
from tests.sim.run import history
from tests.sim.world import Make

TRIES = 3  # seeds from the named one on, should the scripts have changed what chance does


class Row(NamedTuple):
    """A wrong rule of `tests.sim.wrong`, its mutation (None: the rule itself does it), the seed that shows it."""

    name: str
    seed: int
    old: str = ""
    new: str = ""


ROWS = (
    Row("learning off", 0, "return until_ms\n", "return nil\n"),
    Row("window of the ttl only", 2, "math.ceil(op[15] * RHO) + 2 * DELTA + W + Q", "op[6]"),
    Row("tombstones off", 1, "if start <= buried then return reason end", ""),
    Row(
        "leftovers counted against an adoption", 2,
        "return redis.call('SCARD', st.c) < math.max", "return redis.call('ZCARD', st.s) < math.max",
    ),
    Row("client deadline taken from the reply", 12),
    Row(
        "a present lease extended while learning without looking at its receipt's expiry", 6,
        "if NOW + DELTA > expires then return doubt end",
        "if NOW + DELTA > expires and not rec then return doubt end",
    ),
    Row(
        "a 200 that does not extend", 0,
        "rec, 0, math.max(expires, NOW + st.ttl), addons)", "rec, 0, expires, addons)",
    ),
    Row(
        "a late release that ends a later start", 0,
        "if not rec or rec[START] > start then return {'released', 0} end",
        "if not rec then return {'released', 0} end",
    ),
    Row("a takeover without the floor", 0, "math.max(rec[FLOOR], expires), after", "0, after"),
    Row(
        "expires that falls when the ttl is lowered", 1,
        "expires = math.max(expires, op[6], NOW + st.ttl)", "expires = NOW + st.ttl",
    ),
    Row("policy kept across an epoch", 0, "st.stale = p[12] ~= EPOCH", "st.stale = false"),
    Row("lowered cap that refuses an honest holder", 11, "math.max(st.cap, cap, highest)", "st.cap"),
    Row("a revoked lease adopted again", 1),
    Row(
        "run_id alone", 0,
        "return run .. ':' .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')", "return run",
    ),
)  # fmt: skip

SCENARIOS = (
    (stage.lapsed_at_the_old_primary, wrong.ShortLockDelay),
    (
        stage.lapsed_then_restored,
        Mutation(
            "a present lease is enough",
            "if NOW + DELTA > expires then return doubt end",
            "if NOW + DELTA > expires and not rec then return doubt end",
        ),
    ),
    (
        stage.caps_that_rose_and_fell,
        Mutation("the first cap alone", "math.max(st.cap, cap, highest)", "math.max(st.cap, cap)"),
    ),
    (
        revoked_at_the_old_primary,
        Mutation("any epoch's word", "return epoch > 0 and epoch ~= tonumber(EPOCH) end", "return false end"),
    ),
)


@pytest.fixture(scope="module")
def make() -> Iterator[Make]:
    """Real stores for all these histories."""
    with real_worlds() as made:
        yield made


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_is_caught_by_chance(row: Row, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    known = next(one for one in wrong.WRONG if one.name == row.name)
    if row.old:
        put_in_place(monkeypatch, Mutation(row.name, row.old, row.new))
    rules = Rules() if row.old else known.rules()

    def broken(seed: int, rules: Rules) -> bool:
        found = history(seed, known.fault, rules, make, **known.fixed).watch.violations
        return any(violation.invariant != DIFFERS for violation in found)

    seed = next((seed for seed in range(row.seed, row.seed + TRIES) if broken(seed, rules)), None)
    assert seed is not None, f"not in {TRIES} histories from seed {row.seed} on"
    monkeypatch.undo()
    assert not broken(seed, Rules())


@pytest.mark.parametrize(("scenario", "mutation"), SCENARIOS, ids=lambda it: getattr(it, "__name__", ""))
def test_is_caught_by_a_script(scenario, mutation, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = partial(RealStage, make=make)
    assert not scenario(Rules(), begin)
    rules = Rules()
    if isinstance(mutation, Mutation):
        put_in_place(monkeypatch, mutation)
    else:
        rules = mutation()
    assert any(violation.invariant != DIFFERS for violation in scenario(rules, begin))


def test_every_wrong_rule_of_the_design_is_tried() -> None:
    """What the design does not name is the simulator's own, and shown where its model can show it."""
    here = {row.name for row in ROWS} | {"Q < W with split brain"}
    named = [one.name for one in wrong.WRONG[:15]]
    assert here >= set(named)
