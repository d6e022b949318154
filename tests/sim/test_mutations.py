"""Every wrong rule is caught, and the right rules find nothing where it was."""

import os
from dataclasses import replace

import pytest

from tests.sim import stage, store, wrong
from tests.sim.rules import Rules
from tests.sim.run import history, small_history
from tests.sim.wrong import WRONG, Wrong

SEEDS = int(os.environ.get("SIM_MUTATION_SEEDS", "60"))

SCENARIOS = (
    (stage.lapsed_at_the_old_primary, wrong.ShortLockDelay),
    (stage.lapsed_then_restored, wrong.PresentIsEnough),
    (stage.new_tenant_at_both_primaries, wrong.AnyEpochsWord),
    (stage.an_opening_held_up, wrong.HeldUpOpening),
    (stage.taken_over_then_revoked, wrong.RevocationOfOneLease),
    (stage.caps_that_rose_and_fell, wrong.FirstCapAlone),
)


def first_seed(mutation: Wrong) -> int | None:
    """Tell the first seed that shows the wrong rule."""
    for seed in range(SEEDS):
        if history(seed, mutation.fault, mutation.rules(), **mutation.fixed).watch.violations:
            return seed
    return None


@pytest.mark.parametrize("mutation", [m for m in WRONG if not m.scripted], ids=lambda m: m.name)
def test_is_caught_by_chance(mutation: Wrong) -> None:
    seed = first_seed(mutation)
    assert seed is not None, f"not within {SEEDS} seeds"
    right = history(seed, mutation.fault, Rules(), **mutation.fixed).watch.violations
    assert not right, f"SEED={seed} {right[0]}"


@pytest.mark.parametrize(("scenario", "rules"), SCENARIOS, ids=lambda it: it.__name__)
def test_is_caught_by_a_script(scenario, rules) -> None:
    assert scenario(rules())
    assert not scenario(Rules())


def test_every_wrong_rule_is_tried() -> None:
    scripted = {rules for _, rules in SCENARIOS}
    assert all(mutation.rules in scripted for mutation in WRONG if mutation.scripted)


def test_a_cap_that_is_one_too_high_is_not_linearizable(monkeypatch) -> None:
    right = store.Node._acquire

    def one_too_many(node, op):
        tenant = node.state.tenants.get(op.tenant)
        if tenant is None or tenant.policy is None:
            return right(node, op)
        policy, tenant.policy = tenant.policy, replace(tenant.policy, cap=tenant.policy.cap + 1)
        try:
            return right(node, op)
        finally:
            tenant.policy = policy

    monkeypatch.setattr(store.Node, "_acquire", one_too_many)
    assert any(not small_history(seed)[1] for seed in range(20))
